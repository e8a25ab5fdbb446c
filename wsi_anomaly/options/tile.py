"""Options of ``tile``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypedDict, Unpack

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.options.checks import (
    MAGNIFICATIONS,
    Origin,
    check_cache,
    check_origin,
    check_share,
    check_slides,
    check_workers,
    make_floats,
)

STAINS = ("vahadane", "macenko", "none")
ENGINES = ("native", "staintools")
COMPRESSIONS = ("lossless", "jpeg")
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    # Shvetsova et al. (2021): fields of 768 px at 40x, all tissue, at most 50 a slide.
    {"camelyon16": {"tile_size": 192, "max_tiles": 50, "min_tissue": 1.0}}
)
"""Published geometries, by name: values of :class:`TileOptions`."""


@dataclass(frozen=True)
class TileChoices:
    """What decides which fields a tile file holds, and how they look.

    Attributes
    ----------
    magnifications
        At which each field, and the plane round it, is stored: those that a slide can serve.
    tile_size
        Side of a field in pixels at 10x, which is its side in micrometres.
    stride
        From one field to the next, pixels at 10x; None: `tile_size`.
    max_tiles
        At most so many fields a slide, drawn at random by `seed`; None: all.
    min_tissue
        Least share of tissue of a field.
    stain, engine, per_tile, match_maxima
        As in :class:`~wsi_anomaly.tiles.Preprocessing`.
    labels
        Classes of the annotations to cut; none named: all of them.
    compression
        "lossless": pixels as they are; "jpeg": quality 95, colours at full resolution.
    """

    magnifications: Sequence[int] = (10,)
    tile_size: int = 64
    stride: int | None = None
    max_tiles: int | None = 2000
    min_tissue: float = 0.5
    stain: str = "vahadane"
    engine: str = "native"
    per_tile: bool = False
    match_maxima: bool = True
    labels: Sequence[str] = ()
    seed: int = 0
    compression: str = "lossless"

    def __post_init__(self) -> None:
        if not self.magnifications or any(m not in MAGNIFICATIONS for m in self.magnifications):
            raise UsageError("Magnifications are any of 10, 20 and 40.")
        object.__setattr__(self, "magnifications", tuple(sorted(set(self.magnifications))))
        if not 8 <= self.tile_size <= 1024:
            raise UsageError(f"A tile has between 8 and 1024 pixels a side, not {self.tile_size}.")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"A stride is at least one pixel, not {self.stride}.")
        if self.max_tiles is not None and self.max_tiles < 1:
            raise UsageError(f"At least one tile a slide, not {self.max_tiles}.")
        make_floats(self, "min_tissue")
        check_share(self.min_tissue)
        if self.stain not in STAINS:
            raise UsageError(f"Stain methods are {', '.join(STAINS)}, not {self.stain!r}.")
        if self.engine not in ENGINES:
            raise UsageError(f"Stain engines are {', '.join(ENGINES)}, not {self.engine!r}.")
        if self.compression not in COMPRESSIONS:
            raise UsageError(
                f"Compression is {' or '.join(COMPRESSIONS)}, not {self.compression!r}."
            )
        if not all(label.strip() for label in self.labels):
            raise UsageError("A label is not empty; give the class of the annotations as --label.")
        object.__setattr__(self, "labels", tuple(sorted({label.strip() for label in self.labels})))


@dataclass(frozen=True)
class TileOptions(TileChoices):
    """Everything that ``tile`` may be asked for.

    Attributes
    ----------
    target
        Image of H&E to whose stains all slides are brought; None: the target that ships.
    tissue_mask, annotations
        Where the tissue is, and where to cut: a file, or a folder of files named as the slides.
    origin
        Where QuPath's (0, 0) lies on slides with bounds, for files that it exported: "bounds" or
        "level0".
    mpp, mpp_csv
        Micrometres per pixel of all slides, and a table of ``slide,mpp`` for single ones.
    cases
        Patient or animal by slide: a table of ``slide,case``, or a mapping; by default every slide
        is a case of its own.
    backend
        Reader of the slides: "auto", "openslide" or "tiff"; the pixels are the same.
    scene
        Which of several images in a file is the slide, from 1; None: the largest.
    workers
        Processes; None: one for each core.
    dask
        Address of a Dask scheduler, in place of processes.
    cache
        Folder of a fast disk to which slides are copied ahead of the work, and removed after it.
    shard
        "i/n": only the i-th of n shares of the slides; "slurm": as the job array says.
    resume
        Keep tile files that are whole and were made the same way.
    """

    target: str | Path | None = None
    tissue_mask: str | Path | None = None
    annotations: str | Path | None = None
    origin: Origin = "bounds"
    mpp: float | None = None
    mpp_csv: str | Path | None = None
    cases: str | Path | Mapping[str, str] | None = None
    backend: str = "auto"
    scene: int | None = None
    workers: int | None = None
    dask: str | None = None
    cache: str | Path | None = None
    shard: str | None = None
    resume: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels and self.annotations is None:
            raise UsageError(
                "--label names a class of annotations; give their file as --annotations."
            )
        if self.stain == "none" and (
            self.target or self.per_tile or self.engine != "native" or not self.match_maxima
        ):
            raise UsageError(
                "--stain none leaves colours alone; leave the other stain options away."
            )
        make_floats(self, "mpp")
        check_origin(self.origin)
        check_slides(self.mpp, self.backend, self.scene)
        check_workers(self.workers)
        check_cache(self.cache, self.dask)

    @classmethod
    def of(cls, preset: str | None = None, **given: Unpack[TileKeywords]) -> Self:
        """Take the options that are given, over those of a preset, over the defaults.

        Raises
        ------
        UsageError
            The preset is unknown, an option makes no sense, or two contradict each other.
        """
        if preset is not None and preset not in PRESETS:
            raise UsageError(f"Presets are {', '.join(PRESETS)}, not {preset!r}.")
        return cls(**{**(PRESETS[preset] if preset else {}), **given})


class TileKeywords(TypedDict, total=False):
    """The fields of :class:`TileOptions`, for callers that name them one by one."""

    magnifications: Sequence[int]
    tile_size: int
    stride: int | None
    max_tiles: int | None
    min_tissue: float
    stain: str
    engine: str
    per_tile: bool
    match_maxima: bool
    labels: Sequence[str]
    seed: int
    compression: str
    target: str | Path | None
    tissue_mask: str | Path | None
    annotations: str | Path | None
    origin: Origin
    mpp: float | None
    mpp_csv: str | Path | None
    cases: str | Path | Mapping[str, str] | None
    backend: str
    scene: int | None
    workers: int | None
    dask: str | None
    cache: str | Path | None
    shard: str | None
    resume: bool

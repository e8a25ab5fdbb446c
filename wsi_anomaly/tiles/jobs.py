"""Which slide becomes which tile file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.core.output_names import MadeOf, name_outputs
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.options import Origin
from wsi_anomaly.slides import slide_fingerprint
from wsi_anomaly.tiles.inputs import check_files
from wsi_anomaly.tiles.store import SUFFIX, TileStore


@dataclass(frozen=True)
class Job:
    """One slide to tile.

    Attributes
    ----------
    slide
        Its file.
    name
        Name of its tile file, without suffix; "": that of the slide.
    mpp
        Micrometres per pixel that override what the file says.
    case
        Patient or animal; None: the name stands for it.
    tissue_mask, annotations
        Files that say where the tissue is, and where to cut; or folders of files named as the
        slides.
    origin
        Where QuPath's (0, 0) lies in these files: "bounds" or "level0".
    scene
        Which of several images in the file, from 1; None: the largest.
    backend
        Reader: "auto", "openslide" or "tiff".
    """

    slide: Path
    name: str = ""
    mpp: float | None = None
    case: str | None = None
    tissue_mask: Path | None = None
    annotations: Path | None = None
    backend: str = "auto"
    scene: int | None = None
    origin: Origin = "bounds"

    def from_anywhere(self) -> Self:
        """Return the same with whole paths."""
        return replace(
            self,
            slide=from_anywhere(self.slide),
            tissue_mask=self.tissue_mask and self.tissue_mask.absolute(),
            annotations=self.annotations and self.annotations.absolute(),
        )


def plan_jobs(
    slides: Sequence[Path],
    out_dir: Path,
    *,
    mpp: float | None = None,
    mpp_of: Mapping[Path, float] | None = None,
    cases: Mapping[Path, str] | None = None,
    tissue_mask: Path | None = None,
    annotations: Path | None = None,
    backend: str = "auto",
    scene: int | None = None,
    origin: Origin = "bounds",
) -> list[Job]:
    """Give every slide a tile file of its own and its options.

    A tile file bears its slide's name, as :func:`name_outputs` says.

    Parameters
    ----------
    mpp, mpp_of
        Micrometres per pixel of every slide, and of single slides (these win).
    cases
        Case of each slide.
    tissue_mask, annotations, backend, scene, origin
        As in :class:`Job`.

    Raises
    ------
    UsageError
        A file would be taken for several slides, or does not exist.
    """
    for option, place in (("--tissue-mask", tissue_mask), ("--annotations", annotations)):
        if place is not None:
            check_files(option, place, slides)
    names = name_outputs(
        slides,
        (file.stem for file in out_dir.glob(f"*{SUFFIX}")),
        lambda name: _made_of(out_dir / f"{name}{SUFFIX}"),
        _fingerprint,
        digits=8,
    )
    return [
        Job(
            slide,
            names[slide],
            (mpp_of or {}).get(slide, mpp),
            (cases or {}).get(slide),
            tissue_mask,
            annotations,
            backend,
            scene,
            origin,
        )
        for slide in slides
    ]


def _made_of(file: Path) -> MadeOf | None:
    try:
        store = TileStore.open(file)
    except TileStoreError:
        return None
    return MadeOf(store.fingerprint, str(store.slide_path))


def _fingerprint(slide: Path) -> str:
    try:
        return slide_fingerprint(slide)
    except OSError:
        return "unreadable"  # opening it will say what is wrong

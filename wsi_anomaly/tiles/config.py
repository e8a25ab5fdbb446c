"""Everything that decides what a tile file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.stain import StainProfile, reference_target
from wsi_anomaly.tiles.preprocessing import ENGINES, STAINS, VERSION, Preprocessing

FORMAT = "wsi-anomaly-tiles"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Files of version 1 hold single tiles only, no planes."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Shvetsova et al. (2021): fields of 768 px at 40x, all tissue, at most 50 a slide.
    "camelyon16": {"tile_size": 192, "max_tiles": 50, "min_tissue": 1.0},
}
"""Published geometries, by name: values of :class:`TileConfig`."""


@dataclass(frozen=True)
class TileConfig:
    """What ``wsi-anomaly tile`` was asked for.

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
    stain, engine, per_tile, match_maxima, target
        As in :class:`~wsi_anomaly.tiles.Preprocessing`; `target` None is the shipped one.
    labels
        Classes of the annotations to cut; none named: all of them.
    """

    magnifications: tuple[int, ...] = (10,)
    tile_size: int = 64
    stride: int | None = None
    max_tiles: int | None = 2000
    min_tissue: float = 0.5
    stain: str = "vahadane"
    engine: str = "native"
    per_tile: bool = False
    match_maxima: bool = True
    target: StainProfile | None = None
    labels: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        known = (10, 20, 40)
        if not self.magnifications or any(m not in known for m in self.magnifications):
            raise UsageError("Magnifications are any of 10, 20 and 40.")
        object.__setattr__(self, "magnifications", tuple(sorted(set(self.magnifications))))
        if not 8 <= self.tile_size <= 1024:
            raise UsageError(f"A tile has between 8 and 1024 pixels a side, not {self.tile_size}.")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"A stride is at least one pixel, not {self.stride}.")
        if self.max_tiles is not None and self.max_tiles < 1:
            raise UsageError(f"At least one tile a slide, not {self.max_tiles}.")
        if not 0 <= self.min_tissue <= 1:
            raise UsageError(f"A share of tissue lies between 0 and 1, not {self.min_tissue:g}.")
        if self.stain not in STAINS:
            raise UsageError(f"Stain methods are {', '.join(STAINS)}, not {self.stain!r}.")
        if self.engine not in ENGINES:
            raise UsageError(f"Stain engines are {', '.join(ENGINES)}, not {self.engine!r}.")
        if self.stain == "none" and self.target is not None:
            raise UsageError("A stain target needs a stain method; leave one of them out.")
        if not all(label.strip() for label in self.labels):
            raise UsageError("A label is not empty; give the class of the annotations as --label.")
        object.__setattr__(self, "labels", tuple(sorted({label.strip() for label in self.labels})))

    @property
    def preprocessing(self) -> Preprocessing:
        """What a model must repeat exactly."""
        return Preprocessing(
            stain=self.stain,
            target=self.target or reference_target(),
            min_tissue=self.min_tissue,
            engine=self.engine,
            per_tile=self.per_tile,
            match_maxima=self.match_maxima,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            **values,
            "magnifications": list(self.magnifications),
            "labels": list(self.labels),
            "target": None if self.target is None else self.target.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave."""
        target = value["target"]
        return cls(
            **{
                **value,
                "magnifications": tuple(value["magnifications"]),
                "labels": tuple(value["labels"]),
                "target": None if target is None else StainProfile.from_dict(target),
            }
        )

    @property
    def hash(self) -> str:
        """Changes whenever the tiles would."""
        return config_hash(
            {
                "config": self.to_dict(),
                "preprocessing": self.preprocessing.to_dict(),
                "format": FORMAT_VERSION,
                "code": VERSION,
            }
        )

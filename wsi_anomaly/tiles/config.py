"""Everything that decides what a tile file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.tiles.preprocessing import STAINS, VERSION, Preprocessing

FORMAT = "wsi-anomaly-tiles"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class TileConfig:
    """What ``wsi-anomaly tile`` was asked for.

    Attributes
    ----------
    magnifications
        Which copies of each field are stored, those that a slide can serve.
    tile_size
        Side of a field in pixels at 10x, which is its side in micrometres.
    stride
        From one field to the next, pixels at 10x; None: `tile_size`.
    max_tiles
        At most so many fields a slide, drawn at random by `seed`; None: all.
    min_tissue
        Least share of tissue of a field.
    stain
        "vahadane" or "none".
    """

    magnifications: tuple[int, ...] = (10, 20, 40)
    tile_size: int = 64
    stride: int | None = None
    max_tiles: int | None = 2000
    min_tissue: float = 0.5
    stain: str = "vahadane"
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

    @property
    def preprocessing(self) -> Preprocessing:
        """What a model must repeat exactly."""
        return Preprocessing(stain=self.stain, min_tissue=self.min_tissue)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "magnifications": list(self.magnifications)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave."""
        return cls(**{**value, "magnifications": tuple(value["magnifications"])})

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

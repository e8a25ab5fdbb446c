"""Everything that decides what a tile file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.options import TileChoices, TileOptions
from wsi_anomaly.stain import StainProfile, reference_target
from wsi_anomaly.tiles.preprocessing import VERSION, Preprocessing
from wsi_anomaly.tiles.target import read_target

FORMAT = "wsi-anomaly-tiles"
FORMAT_VERSION, WITH_JPEG = 2, 3
READABLE_VERSIONS = (1, FORMAT_VERSION, WITH_JPEG)
"""Files of version 1 hold single tiles only, no planes; those of version 3 hold JPEG streams."""


@dataclass(frozen=True)
class TileConfig(TileChoices):
    """What decides the bytes of a tile file: the choices, and the stains that they lead to.

    Attributes
    ----------
    target
        Stain profile that every slide is brought to; None: the one that ships.
    """

    target: StainProfile | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stain == "none" and self.target is not None:
            raise UsageError("A stain target needs a stain method; leave one of them out.")

    @classmethod
    def of(cls, options: TileOptions) -> Self:
        """Take what decides from the options of ``tile``; reads the image of the target.

        Raises
        ------
        UsageError
            The target cannot be used, or an engine is not installed.
        """
        if options.engine == "staintools":
            from wsi_anomaly.stain.staintools_engine import require_staintools

            require_staintools()
        choices = {entry.name: getattr(options, entry.name) for entry in fields(TileChoices)}
        target = options.target and read_target(Path(options.target), options.stain)
        return cls(**choices, target=target or None)

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
        if self.compression == "lossless":
            del values["compression"]  # as files of before have it: they are kept
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

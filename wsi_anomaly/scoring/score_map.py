"""The score map of one slide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.scoring.interpretation import Interpretation
from wsi_anomaly.scoring.top_fields import BesideNormal, PixelMaps
from wsi_anomaly.slides import Bounds, Mpp, Slide, slide_fingerprint
from wsi_anomaly.tiles import Fields, Status


@dataclass(frozen=True)
class SlideFacts:
    """What is known of the slide; lengths in level-0 pixels."""

    name: str
    path: str
    fingerprint: str
    width: int
    height: int
    mpp: Mpp
    bounds: Bounds
    backend: str
    objective_power: float | None = None
    vendor: str | None = None

    @classmethod
    def of(cls, slide: Slide, fingerprint: str | None = None) -> SlideFacts:
        """Collect the facts of an open slide; `fingerprint` in place of that of its content."""
        return cls(
            name=slide.name,
            path=str(from_anywhere(slide.path)),
            fingerprint=fingerprint or slide_fingerprint(slide.path),
            width=slide.width,
            height=slide.height,
            mpp=slide.mpp,
            bounds=slide.bounds,
            backend=slide.backend,
            objective_power=slide.objective_power,
            vendor=slide.properties.get("openslide.vendor"),
        )


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """Everything that scoring found out about one slide.

    Attributes
    ----------
    slide
        Its facts.
    fields
        The N fields that hold tissue.
    status
        (N,) uint8, :class:`~wsi_anomaly.tiles.Status` after reading.
    scores
        Raw scores per method, (N,) float32, NaN where not assessed.
    primary
        The method that ranks.
    interpretation
        What the primary scores mean.
    calibration
        Normal reference of the primary method: the concurrent controls, or the model's own.
    seen
        "train", "validation" or "calibration" when the model has seen this slide, else None.
    model
        Name, version, hash, magnification, tile size and provenance of the model.
    settings
        Options that decide the result; with the model and the slide they identify it.
    tissue, tissue_mm2
        Outline of the tissue (level-0 pixels) and its area.
    sparse_mm2
        Area of tissue in no field, since too little of it lies together there.
    timings
        Seconds per stage.
    measured
        What the slide is like as a whole, see :func:`~wsi_anomaly.scoring.domain.measures`.
    pixel_maps
        Error maps of the most anomalous fields, if the model makes such.
    beside
        Its highest fields beside normal ones, if the model judges fields.
    """

    slide: SlideFacts
    fields: Fields
    status: NDArray[np.uint8]
    scores: dict[str, NDArray[np.float32]]
    primary: str
    interpretation: Interpretation
    calibration: Calibration | None
    seen: str | None
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    tissue: MultiPolygon
    tissue_mm2: float
    sparse_mm2: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    pixel_maps: PixelMaps | None = None
    beside: BesideNormal | None = None

    @property
    def score(self) -> NDArray[np.float32]:
        """(N,) raw scores of the primary method, NaN where not assessed."""
        return self.scores[self.primary]

    @property
    def assessed(self) -> NDArray[np.bool_]:
        """(N,) whether a field was judged."""
        return np.isfinite(self.score)

    @property
    def field_mm2(self) -> float:
        """Area that one field stands for (its stride squared), square millimetres."""
        return self.fields.area_mm2((self.slide.mpp.x, self.slide.mpp.y))

    def not_assessed_mm2(self) -> dict[str, float]:
        """Area of tissue that could not, or should not, be judged, per reason.

        "Sparse" is tissue in no field, since fewer than ``--min-tissue`` of it lie
        together there.
        """
        areas = {
            status.name.lower(): float(self.fields.tissue_fraction[self.status == status].sum())
            * self.field_mm2
            for status in Status
            if status != Status.OK and (self.status == status).any()
        }
        return areas | ({"sparse": self.sparse_mm2} if self.sparse_mm2 else {})

    def grid(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Lay (N,) values on the slide's whole grid (rows, columns), NaN elsewhere."""
        out = np.full(self.fields.grid_shape, np.nan, np.float32)
        out[self.fields.row, self.fields.col] = values
        return out

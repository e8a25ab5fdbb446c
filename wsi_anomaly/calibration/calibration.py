"""Percentile, robust z-score, approximate p-value and operating point from normal slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.calibration.operating_point import (
    OperatingPoint,
    SlideRegions,
    choose_threshold,
)
from wsi_anomaly.calibration.regions import region_thresholds, smooth_scores
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.robust import MAD_TO_SD

MIN_CASES = 4
"""Fewer calibration cases than this give no p-values and no flags (see docs/method.md)."""

_STATE_VERSION = 1
_CALM = 2.0  # the colour range ends this many times as far above the median as the 99th percentile
# Quantile of a slide's smoothed map that tells where its scores lie as a whole. It is also the
# least threshold: one region over half of a normal slide would still be only one region.
_LOCATION = 0.95


MOST_CELLS = 1 << 24
"""Cells of the grid of a slide, with tissue or not: 26 x 26 cm of fields of 64 um."""


@dataclass(frozen=True)
class CaseScores:
    """Raw scores of the fields of one normal slide.

    Attributes
    ----------
    case
        Patient or animal; slides of one case are never on both sides of a comparison.
    slide
        Name of the slide.
    row, col
        (n,) indices of the fields on the slide's grid (stride: one field).
    score
        (n,) raw scores, finite.
    sampled
        Share of the slide's assessable fields that is present, above 0 and at most 1.
    """

    case: str
    slide: str
    row: NDArray[np.integer]
    col: NDArray[np.integer]
    score: NDArray[np.floating]
    sampled: float = 1.0

    def __post_init__(self) -> None:
        if not len(self.row) == len(self.col) == len(self.score) or not len(self.score):
            raise ValueError(
                "row, col and score of a calibration slide are equally long, not empty"
            )
        if not np.isfinite(self.score).all():
            raise ValueError(f"the scores of calibration slide {self.slide} are not all finite")
        if not 0 < self.sampled <= 1:
            raise ValueError(f"sampled is a share in (0, 1], not {self.sampled}")
        rows, columns = (int(np.max(places)) - int(np.min(places)) + 1
                         for places in (self.row, self.col))  # fmt: skip
        if rows * columns > MOST_CELLS:  # its map, which is made whole, would eat the memory
            raise ValueError(
                f"the fields of calibration slide {self.slide} lie {rows:,} rows and {columns:,} "
                "columns apart, further than on any slide"
            )


class Calibration:
    """Normal reference of one scoring method. Slides count equally, however large they are.

    Build it with :meth:`fit` or :meth:`from_state`.
    """

    case_noun = "normal case"
    """What its cases are, for people."""

    def __init__(self, slides: Sequence[CaseScores]) -> None:
        if not slides:
            raise ValueError("a calibration needs at least one normal slide")
        self.slides = tuple(slides)

    @classmethod
    def fit(cls, cases: Sequence[CaseScores]) -> Calibration:
        """Calibrate on normal slides that took no part in training or validation."""
        return cls(cases)

    @property
    def name(self) -> str:
        """What the reference is, for people."""
        return f"{self.n_cases} {self.case_noun}{'' if self.n_cases == 1 else 's'}"

    @property
    def n_slides(self) -> int:
        """Number of calibration slides."""
        return len(self.slides)

    @property
    def n_cases(self) -> int:
        """Number of different cases among them."""
        return len({s.case for s in self.slides})

    @property
    def n_fields(self) -> int:
        """Number of fields over all slides."""
        return sum(len(s.score) for s in self.slides)

    @cached_property
    def _sorted(self) -> list[NDArray[np.float64]]:
        return [np.sort(np.asarray(s.score, np.float64)) for s in self.slides]

    @cached_property
    def _pooled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All scores ascending, and the share of the normal reference at or below each."""
        values = np.concatenate(self._sorted)
        weights = np.concatenate([np.full(len(s), 1 / len(s)) for s in self._sorted])
        order = np.argsort(values, kind="stable")
        return np.asarray(values[order]), np.cumsum(weights[order]) / self.n_slides

    def _mean_over_slides(
        self, scores: ArrayLike, side: Literal["left", "right"]
    ) -> NDArray[np.float64]:
        values = np.asarray(scores, np.float64)
        total = np.zeros(values.shape)
        for reference in self._sorted:
            total += np.searchsorted(reference, values, side) / len(reference)
        return np.where(np.isfinite(values), total / self.n_slides, np.nan)

    def quantile(self, share: float) -> float:
        """Raw score that `share` of normal tissue does not exceed, slides weighted equally."""
        values, cumulative = self._pooled
        index = int(np.searchsorted(cumulative, share - 1e-12))
        return float(values[min(index, len(values) - 1)])

    def percentile(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Percentage of normal tissue with a score at or below each, 0 to 100; NaN for NaN."""
        return 100.0 * self._mean_over_slides(scores, "right")

    @cached_property
    def center_and_scale(self) -> tuple[float, float]:
        """Median and 1.4826 x median absolute deviation of normal scores, slides equal."""
        center = self.quantile(0.5)
        deviation = [
            CaseScores(s.case, s.slide, s.row, s.col, abs(s.score - center)) for s in self.slides
        ]
        scale = MAD_TO_SD * Calibration(deviation).quantile(0.5)
        if not scale > 0:  # more than half of the reference is one value
            scale = float(np.mean([abs(s.score - center).mean() for s in self.slides])) or 1.0
        return center, scale

    def z(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Robust z-score; unlike the percentile it does not saturate above all normals."""
        center, scale = self.center_and_scale
        return (np.asarray(scores, np.float64) - center) / scale

    @property
    def p_floor(self) -> float:
        """Smallest p-value that this calibration can give.

        1 / (n + 1), where n is Kish's effective number of fields under equal slide weights.
        """
        effective = self.n_slides**2 / sum(1 / len(s.score) for s in self.slides)
        return 1.0 / (effective + 1.0)

    def p_value(self, scores: ArrayLike) -> NDArray[np.float64] | None:
        """Approximate p-value: how often normal tissue scores at least this high.

        Conformal, (n * share at or above + 1) / (n + 1), with slides weighted equally.
        Approximate, because fields of one slide are alike while n counts them one by one.

        Returns
        -------
        numpy.ndarray or None
            In [:attr:`p_floor`, 1], NaN for NaN; None with fewer than ``MIN_CASES`` cases.
        """
        if self.n_cases < MIN_CASES:
            return None
        floor = self.p_floor
        return np.maximum(floor, (1 - floor) * (1 - self._mean_over_slides(scores, "left")) + floor)

    @cached_property
    def smoothed(self) -> list[NDArray[np.float32]]:
        """Smoothed score map of each calibration slide."""
        return [smooth_scores(s.row, s.col, s.score) for s in self.slides]

    def operating_point(self, false_regions: float = 1.0) -> OperatingPoint:
        """Threshold that gives at most `false_regions` false regions on a normal slide.

        See :func:`~wsi_anomaly.calibration.operating_point.choose_threshold`.

        Raises
        ------
        ValueError
            `false_regions` is not positive.
        """
        if not false_regions > 0:
            raise ValueError(f"false_regions is positive, not {false_regions}")
        n = self.n_cases
        if n < MIN_CASES:
            return OperatingPoint(
                None,
                false_regions,
                None,
                f"No field is flagged: the reference is {self.name}, and flags take at least "
                f"{MIN_CASES}.",
            )
        # A slide with more regions than all slides together may have settles the matter.
        most = int(np.ceil(self.n_slides * false_regions)) + 2
        locations = [float(np.quantile(m, _LOCATION)) for m in self.smoothed]
        slides = [
            SlideRegions(s.case, region_thresholds(s.row, s.col, m, most), 1 / s.sampled, location)
            for s, m, location in zip(self.slides, self.smoothed, locations, strict=True)
        ]
        threshold, expected = choose_threshold(slides, false_regions)
        threshold = max(threshold, *locations)
        regions = "region" if false_regions == 1 else "regions"
        return OperatingPoint(
            threshold,
            false_regions,
            expected,
            f"At most {false_regions:g} false {regions} on a normal slide, on average, by leaving "
            f"out each of {n} {self.case_noun}s in turn.",
        )

    @property
    def color_range(self) -> tuple[float, float]:
        """Raw scores at the two ends of every heatmap's colours, fixed by normal tissue.

        From the normal 75th percentile (three quarters of normal tissue stay without colour) to
        twice the distance of the 99th percentile from the median.
        """
        low, median = self.quantile(0.75), self.quantile(0.5)
        high = median + _CALM * (self.quantile(0.99) - median)
        return low, max(high, low + 1e-6 * max(1.0, abs(low)))

    def histogram(self, edges: ArrayLike) -> NDArray[np.float64]:
        """Share of normal tissue in each bin; the outer bins take what lies beyond them."""
        inner = np.asarray(edges, np.float64)[1:-1]
        return np.diff(np.concatenate([[0.0], self._mean_over_slides(inner, "left"), [1.0]]))

    def to_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON-ready facts from which :meth:`from_state` rebuilds the object."""
        arrays: dict[str, NDArray[Any]] = {
            "row": np.concatenate([s.row for s in self.slides]).astype(np.int32),
            "col": np.concatenate([s.col for s in self.slides]).astype(np.int32),
            "score": np.concatenate([s.score for s in self.slides]).astype(np.float32),
        }
        meta = {
            "version": _STATE_VERSION,
            "slides": [
                {"case": s.case, "slide": s.slide, "fields": len(s.score), "sampled": s.sampled}
                for s in self.slides
            ],
        }
        return arrays, meta

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Calibration:
        """Rebuild a calibration, checking everything that was read.

        Raises
        ------
        ModelError
            The state is incomplete, of another version, or contradicts itself.
        """
        try:
            if meta["version"] != _STATE_VERSION:
                raise ModelError(
                    f"The model's calibration has version {meta['version']}, this program reads "
                    f"{_STATE_VERSION}; train the model again or install the matching version."
                )
            row, col, score = (np.asarray(arrays[k]) for k in ("row", "col", "score"))
            sizes = [int(s["fields"]) for s in meta["slides"]]
            if min(sizes) < 1 or not sum(sizes) == len(row) == len(col) == len(score):
                raise ValueError("the number of fields does not fit")
            if row.dtype.kind != "i" or col.dtype.kind != "i" or score.dtype.kind != "f":
                raise ValueError("an array has the wrong type")
            ends = np.cumsum(sizes)
            return cls(
                [
                    CaseScores(
                        str(s["case"]),
                        str(s["slide"]),
                        row[e - n : e],
                        col[e - n : e],
                        score[e - n : e],
                        float(s["sampled"]),
                    )
                    for s, e, n in zip(meta["slides"], ends, sizes, strict=True)
                ]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"The model's calibration is damaged ({error}); copy the model folder again."
            ) from error

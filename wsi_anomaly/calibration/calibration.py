"""Percentile, robust z-score, approximate p-value and operating point from normal slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.calibration.operating_point import OperatingPoint, Reference
from wsi_anomaly.calibration.regions import label_regions, region_thresholds, smooth_scores
from wsi_anomaly.calibration.risk import MIN_CASES, CaseRegions, highest_cap, location
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.robust import MAD_TO_SD
from wsi_anomaly.core.wording import counted

_STATE_VERSION = 2
_READABLE = (1, 2)  # version 1 has a share for slides of which windows were scored
_MOST_CELLS = 1 << 24  # of the grid of a slide: 26 cm a side in steps of 64 um
_CALM = 2.0  # the colour range ends this many times as far above the median as the 99th percentile
# Share of normal tissue, slides equal, that lies below any threshold: one region over half of a
# normal slide would still be only one region.
_NEVER_FLAGGED = 0.95


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
    measured
        What the slide is like as a whole, by name; empty where it is not known.
    """

    case: str
    slide: str
    row: NDArray[np.integer]
    col: NDArray[np.integer]
    score: NDArray[np.floating]
    measured: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.row) == len(self.col) == len(self.score) or not len(self.score):
            raise ValueError(
                "row, col and score of a calibration slide are equally long, not empty"
            )
        if not np.isfinite(self.score).all():
            raise ValueError(f"the scores of calibration slide {self.slide} are not all finite")
        cells = [int(np.ptp(np.asarray(at, np.int64))) + 1 for at in (self.row, self.col)]
        if min(cells) < 1 or cells[0] * cells[1] > _MOST_CELLS:
            raise ValueError(f"the fields of calibration slide {self.slide} lie too far apart")

    # What is computed of a slide is kept with it: the references of a study share their slides.

    @cached_property
    def ascending(self) -> NDArray[np.float64]:
        """Scores (n,) in order."""
        return np.sort(np.asarray(self.score, np.float64))

    @cached_property
    def smoothed(self) -> CaseScores:
        """The same with smoothed scores."""
        smoothed = smooth_scores(self.row, self.col, self.score)
        return CaseScores(self.case, self.slide, self.row, self.col, smoothed)

    @cached_property
    def lies(self) -> float:
        """Where the slide lies, see :func:`~wsi_anomaly.calibration.location`."""
        return location(self.score)

    def reached(self, most: int) -> NDArray[np.float64]:
        """Thresholds (most,) at which its smoothed scores first show 1, 2, ... regions."""
        if most not in self._reached:
            smoothed = self.smoothed.score
            self._reached[most] = region_thresholds(self.row, self.col, smoothed, most)
        return self._reached[most]

    @cached_property
    def _reached(self) -> dict[int, NDArray[np.float64]]:
        return {}


class Calibration:
    """Normal reference of one scoring method. Slides count equally, however large they are.

    Build it with :meth:`fit` or :meth:`from_state`.

    Examples
    --------
    >>> line = np.arange(100)
    >>> cases = [CaseScores(f"case {k}", f"slide {k}", 0 * line, line, line + k) for k in range(3)]
    >>> calibration = Calibration.fit(cases)
    >>> calibration.name
    '3 normal cases'
    >>> calibration.percentile([0, 50, 200]).round(1).tolist()
    [0.3, 50.0, 100.0]
    """

    case_noun = "normal case"
    """What its cases are, for people."""
    concurrent = False
    """Whether they are of the same study as the slides that are compared with them."""

    def __init__(self, slides: Sequence[CaseScores]) -> None:
        if not slides:
            raise ValueError("a calibration needs at least one normal slide")
        self.slides = tuple(slides)
        self._references: dict[float, Reference] = {}

    @classmethod
    def fit(cls, cases: Sequence[CaseScores]) -> Calibration:
        """Calibrate on normal slides that took no part in training or validation."""
        return cls(cases)

    @property
    def name(self) -> str:
        """What the reference is, for people."""
        return counted(self.n_cases, self.case_noun)

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
        return [s.ascending for s in self.slides]

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
        """Percentage (N,) of normal tissue with a score at or below each, 0 to 100; NaN for NaN."""
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
        """Robust z-score (N,); unlike the percentile it does not saturate above all normals."""
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
            (N,), in [:attr:`p_floor`, 1], NaN for NaN; None with fewer than ``MIN_CASES`` cases.
        """
        if self.n_cases < MIN_CASES:
            return None
        floor = self.p_floor
        return np.maximum(floor, (1 - floor) * (1 - self._mean_over_slides(scores, "left")) + floor)

    def measured(self) -> dict[str, list[float]]:
        """Say what every slide is like, by measure; median scores alone where no more is known."""
        names = [n for n in self.slides[0].measured if all(n in s.measured for s in self.slides)]
        out = {name: [float(s.measured[name]) for s in self.slides] for name in names}
        return out or {"median score": [float(np.median(s.score)) for s in self.slides]}

    @cached_property
    def highest_location(self) -> float:
        """Where the highest of its slides lies, see :func:`~wsi_anomaly.calibration.location`."""
        return max(s.lies for s in self.slides)

    @property
    def smoothed(self) -> list[NDArray[np.floating]]:
        """Smoothed scores (N,) of each calibration slide."""
        return [s.smoothed.score for s in self.slides]

    def operating_point(
        self,
        false_regions: float = 1.0,
        fields: float | None = None,
        *,
        field_mm2: float | None = None,
        location: float | None = None,
    ) -> OperatingPoint:
        """Threshold that gives at most `false_regions` false regions on a normal slide.

        See :mod:`~wsi_anomaly.calibration.risk`.

        Parameters
        ----------
        false_regions
            The promise, a mean over slides.
        fields
            Assessed area of the slide, in fields of the calibration slides; None: their median.
        field_mm2
            Area of one field, for the sentences.
        location
            Where the slide lies, see :func:`~wsi_anomaly.calibration.risk.location`; None: where
            normal slides do.

        Raises
        ------
        ValueError
            `false_regions` is not positive.
        """
        if not false_regions > 0:
            raise ValueError(f"false_regions is positive, not {false_regions}")
        usual = float(np.median([len(s.score) for s in self.slides]))
        if false_regions not in self._references:
            self._references[false_regions] = self._reference(
                list(self._regions(false_regions).values())
            )
        return self._references[false_regions].operating_point(
            false_regions, usual if fields is None else max(fields, 1.0), field_mm2, location
        )

    def _reference(self, cases: list[CaseRegions]) -> Reference:
        return Reference(
            cases,
            self.name,
            self.case_noun,
            self.of_smoothed.quantile(_NEVER_FLAGGED),
            self.concurrent,
        )

    def left_out(self) -> dict[str, int]:
        """Regions on each case, were it new, at a promise of one; those that could be flagged."""
        cases = self._regions(1.0)
        found: dict[str, int] = {}
        for s, smoothed in zip(self.slides, self.smoothed, strict=True):
            reference = self._reference([c for case, c in cases.items() if case != s.case])
            point = reference.operating_point(1.0, len(s.score), location=s.lies)
            if point.threshold is not None:
                count = label_regions(s.row, s.col, smoothed > point.threshold)[1]
                found[s.case] = found.get(s.case, 0) + count
        return found

    @cached_property
    def of_smoothed(self) -> Calibration:
        """The same reference for smoothed scores: like is compared with like."""
        return type(self)([s.smoothed for s in self.slides])

    def slide_percentile(self, highest: float) -> float:
        """Percentage of the normal slides whose highest smoothed score is not above `highest`."""
        return 100.0 * float(np.mean([smoothed.max() <= highest for smoothed in self.smoothed]))

    def _regions(self, false_regions: float) -> dict[str, CaseRegions]:
        """Regions of each case: all that count where a part is as small as the smallest case."""
        area: dict[str, float] = {}
        for s in self.slides:
            area[s.case] = area.get(s.case, 0.0) + len(s.score)
        found: dict[str, list[NDArray[np.float64]]] = {case: [] for case in area}
        for s in self.slides:
            most = int(np.ceil(highest_cap(false_regions) * area[s.case] / min(area.values()))) + 1
            reached = s.reached(most)
            found[s.case].append(np.stack([reached, np.full(len(reached), s.lies)]))
        return {
            case: CaseRegions(thresholds, area[case], lies)
            for case, (thresholds, lies) in (
                (case, np.concatenate(parts, axis=1)) for case, parts in found.items()
            )
        }

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
        """Share (k,) of normal tissue between each two of k + 1 edges; the outer ones are open."""
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
                {
                    "case": s.case,
                    "slide": s.slide,
                    "fields": len(s.score),
                    "measured": dict(s.measured),
                }
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
            if meta["version"] not in _READABLE:
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
                        {str(k): float(v) for k, v in s.get("measured", {}).items()},
                    )
                    for s, e, n in zip(meta["slides"], ends, sizes, strict=True)
                ]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"The model's calibration is damaged ({error}); copy the model folder again."
            ) from error

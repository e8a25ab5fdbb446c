"""FROC: lesions found against false positives per slide, as the Camelyon16 challenge counts.

Every detection is a place with a score. A lesion has the score of the highest detection that hits
it; a detection that hits no lesion is a false positive, on normal slides and on others. The
summary is the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives per slide.

Source: Ehteshami Bejnordi et al., JAMA 318:2199, 2017, and the challenge's evaluation program.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.evaluation.metrics import (
    LEAST_GROUPS,
    Estimate,
    Floats,
    each_left_out,
    interval,
)

FALSE_PER_SLIDE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, eq=False)
class Froc:
    """Lesions found, by the number of false positives that is put up with.

    Attributes
    ----------
    false_per_slide, sensitivity
        (K,) the curve, from the highest threshold to the lowest, beginning at (0, 0).
    at
        Sensitivity at each number of false positives per slide of the summary.
    mean
        The mean of these: the challenge's figure.
    lesions, slides
        How many there are.
    """

    false_per_slide: Floats
    sensitivity: Floats
    at: dict[float, Estimate]
    mean: Estimate
    lesions: int
    slides: int


class _Steps:
    """Detections in the order of falling scores: sorted once, counted for any weights."""

    def __init__(self, lesions: ArrayLike, false: ArrayLike) -> None:
        lesions, false = np.asarray(lesions, np.float64), np.asarray(false, np.float64)
        self.lesions, self.false = len(lesions), len(false)
        self._hit = np.isfinite(lesions)
        scores = np.concatenate((lesions[self._hit], false))
        self._order = np.argsort(-scores, kind="stable")
        # Equal scores are one step.
        self._last = np.flatnonzero(np.diff(scores[self._order], append=-np.inf))

    def curve(
        self, lesion_weight: Floats, false_weight: Floats, slides: float
    ) -> tuple[Floats, Floats]:
        """Curve in which each lesion (L,) and each false detection (F,) counts so often."""
        hits = lesion_weight[self._hit]
        found = np.concatenate((hits, np.zeros(self.false)))[self._order]
        wrong = np.concatenate((np.zeros(len(hits)), false_weight))[self._order]
        with np.errstate(invalid="ignore", divide="ignore"):
            sensitivity = np.cumsum(found)[self._last] / lesion_weight.sum()
        start = sensitivity[:1] * 0 if len(sensitivity) else np.zeros(1)
        return (
            np.concatenate(([0.0], np.cumsum(wrong)[self._last] / slides)),
            np.concatenate((start, sensitivity)),
        )


def sensitivity_at(false_per_slide: Floats, sensitivity: Floats, at: ArrayLike) -> Floats:
    """Sensitivity (k,) at given numbers (k,) of false positives, linear between thresholds.

    Beyond the last threshold it stays what it is there.
    """
    found: Floats = np.interp(np.asarray(at, np.float64), false_per_slide, sensitivity)
    return found


def froc(
    lesions: ArrayLike,
    lesion_slide: ArrayLike,
    false: ArrayLike,
    false_slide: ArrayLike,
    group: ArrayLike,
) -> Froc:
    """FROC of several slides, with intervals over their groups.

    Parameters
    ----------
    lesions
        (L,) score of the highest detection that hits each lesion; NaN where none does.
    false
        (F,) scores of detections that hit no lesion.
    lesion_slide, false_slide
        (L,), (F,) index of the slide that each lies on.
    group
        (S,) case of each slide, any values; the slide itself where cases are not known.
    """
    lesion_slide, false_slide = (np.asarray(v, np.intp) for v in (lesion_slide, false_slide))
    names, group_of = np.unique(np.asarray(group), return_inverse=True)
    slides = len(group_of)
    steps = _Steps(lesions, false)
    curve = steps.curve(np.ones(steps.lesions), np.ones(steps.false), slides)
    values = sensitivity_at(*curve, FALSE_PER_SLIDE)
    without: list[NDArray[np.float64]] = []
    with_lesions = len(np.unique(group_of[lesion_slide]))
    if with_lesions >= LEAST_GROUPS:
        for counts in each_left_out(len(names)):
            weight = counts[group_of]
            others = steps.curve(weight[lesion_slide], weight[false_slide], float(weight.sum()))
            without.append(sensitivity_at(*others, FALSE_PER_SLIDE))
    table = np.array(without).reshape(-1, len(FALSE_PER_SLIDE))
    mean = float(values.mean())
    return Froc(
        *curve,
        at={
            false_positives: Estimate(
                float(value), *interval(float(value), column, rarer=with_lesions)
            )
            for false_positives, value, column in zip(FALSE_PER_SLIDE, values, table.T, strict=True)
        },
        mean=Estimate(mean, *interval(mean, table.mean(axis=1), rarer=with_lesions)),
        lesions=len(lesion_slide),
        slides=slides,
    )


def detections(
    row: NDArray[np.integer],
    col: NDArray[np.integer],
    score: NDArray[np.floating],
    *,
    radius: int = 2,
) -> NDArray[np.bool_]:
    """Which fields of a map are detections, (n,): the highest within `radius` fields around.

    Parameters
    ----------
    row, col, score
        The map, each (n,); NaN where not assessed. Of equal neighbours one is taken.
    radius
        Half width of the square in which a detection is the highest.
    """
    from scipy.ndimage import maximum_filter

    known = np.flatnonzero(np.isfinite(score))
    found = np.zeros(len(score), bool)
    if not len(known):
        return found
    r, c = (np.asarray(v)[known].astype(np.int64) for v in (row, col))
    r, c = r - r.min(), c - c.min()
    ranks = np.zeros((int(r.max()) + 1, int(c.max()) + 1), np.int64)
    order = np.argsort(np.asarray(score)[known], kind="stable")
    ranks[r[order], c[order]] = np.arange(1, len(known) + 1)
    highest = maximum_filter(ranks, size=2 * radius + 1, mode="constant")
    found[known] = ranks[r, c] == highest[r, c]
    return found

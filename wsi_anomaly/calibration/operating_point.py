"""The operating point: the threshold that keeps a promise about normal slides.

Tiles of a slide are alike and slides differ, so the sample is the slide, and what is promised is
counted per slide: at most so many false regions on a normal slide, on average over slides and
over the choice of the calibration slides. It is chosen by leaving each case out in turn.

A handful of slides does not show how far the next one may be shifted as a whole (its stain, its
organ), and above the highest slide seen so far a shifted slide would light up everywhere. The
rule therefore also adds what a prediction bound for the shift of a new slide asks for. On
homogeneous cohorts that costs nothing; ``docs/method.md`` has the simulation behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

SHIFT_CONFIDENCE = 0.9
"""Confidence of the prediction bound for a new slide's shift."""

_FACTORS = np.linspace(1.0, 0.05, 20)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the smoothed score map, or the reason why there is none.

    Attributes
    ----------
    threshold
        Fields whose *smoothed* raw score lies above it are flagged; None: nothing is flagged.
    false_regions
        The promise: mean number of false regions on a normal slide, at most.
    expected
        The leave-one-case-out estimate of that number.
    reason
        One sentence for the reader: how the threshold came about, or why there is none.
    """

    threshold: float | None
    false_regions: float
    expected: float | None
    reason: str


@dataclass(frozen=True)
class SlideRegions:
    """What one calibration slide says: the thresholds at which its regions appear.

    Attributes
    ----------
    case
        Slides of one case are left out together.
    thresholds
        Output of :func:`~wsi_anomaly.calibration.regions.region_thresholds`, descending.
    weight
        Regions on the whole slide per region seen: 1 / (share of its fields that was sampled).
        Conservative: of a region's fields at least one was sampled at least that often, and
        regions that lie apart on the whole slide lie apart in the sample.
    location
        Where the slide's scores lie as a whole (an upper quantile of its smoothed map).
    """

    case: str
    thresholds: NDArray[np.float64]
    weight: float
    location: float

    def count(self, threshold: float) -> float:
        """Regions above the threshold, for the whole slide (upper bound)."""
        return float((self.thresholds > threshold).sum()) * self.weight


def _lowest(values: NDArray[np.float64], weights: NDArray[np.float64], allowed: float) -> float:
    """Smallest threshold strictly above which the weights sum to at most `allowed`."""
    order = np.argsort(-values, kind="stable")
    over = np.flatnonzero(np.cumsum(weights[order]) > allowed * (1 + 1e-9))
    return float(values[order[over[0]]]) if len(over) else -np.inf


def threshold_for(slides: Sequence[SlideRegions], allowed: float) -> float:
    """Threshold at which slides like these show at most `allowed` regions each, on average.

    The larger of two: what these slides ask for as they are, and what they ask for once each is
    moved to the upper prediction bound of a new slide's location.
    """
    values = np.concatenate([s.thresholds for s in slides])
    weights = np.concatenate([np.full(len(s.thresholds), s.weight) for s in slides]) / len(slides)
    shifts = np.concatenate([np.full(len(s.thresholds), s.location) for s in slides])
    seen = _lowest(values, weights, allowed)

    cases = dict.fromkeys(s.case for s in slides)
    n = len(cases)
    if n < 2:
        return seen
    location = [np.mean([s.location for s in slides if s.case == case]) for case in cases]
    spread = np.std(location, ddof=1) * np.sqrt(1 + 1 / n)
    bound = float(np.mean(location) + special.stdtrit(n - 1, SHIFT_CONFIDENCE) * spread)
    return max(seen, bound + _lowest(values - shifts, weights, allowed))


def leave_one_out(slides: Sequence[SlideRegions], allowed: float) -> float:
    """Mean number of regions on slides whose case had no part in choosing the threshold."""
    found = []
    for case in dict.fromkeys(s.case for s in slides):
        threshold = threshold_for([s for s in slides if s.case != case], allowed)
        found += [s.count(threshold) for s in slides if s.case == case]
    return float(np.mean(found))


def choose_threshold(slides: Sequence[SlideRegions], false_regions: float) -> tuple[float, float]:
    """Lowest threshold whose rule keeps the promise on slides left out.

    Allows the calibration slides ``c`` times the promise and takes the largest c up to 1 for
    which the leave-one-out mean keeps it; the promise is first reduced by n / (n + 1), the
    small-sample term of conformal risk control (Angelopoulos et al., 2022). When no c does, the
    threshold lies above everything seen.

    Returns
    -------
    threshold, expected
        The threshold and the leave-one-out mean number of false regions of its rule.
    """
    n = len({s.case for s in slides})
    promised = false_regions * n / (n + 1)
    for c in (*_FACTORS, 0.0):
        expected = leave_one_out(slides, c * promised)
        if expected <= promised:
            break
    return threshold_for(slides, c * promised), expected

"""Conformal risk control on regions: the threshold that keeps a promise about normal slides.

Fields of a slide are alike and slides of a patient are alike, so the sample is the case. What is
promised is the mean number of false regions on a normal slide of a given area, where a slide with
more than a *cap* counts as the cap. Conformal risk control (Angelopoulos et al., 2022) keeps it
for any number of cases, whatever the scores are distributed like, as long as

- the new slide's case could as well have been one of the calibration cases (exchangeable), and
- its tissue is, in parts of the size that the calibration cases have, like theirs.

Scores are taken from where a slide's own tissue lies (:func:`location`), on calibration slides as
on new ones: so a shift of stain or scanner that all of a slide has does not become flags, however
large it is, and slides that differ as a whole take no power from the others.

``docs/method.md`` has the proof in a few lines, ``docs/results/calibration.md`` the simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

MIN_CASES = 4
"""Fewer calibration cases than this give no p-values and no flags (see docs/method.md)."""

_CAP = 5.0  # times the promise, where there are cases enough
_CAP_OF_FEW = 3.0  # where the cap would cost more than a quarter of what the cases allow
_LEAST_CAP = 2.0  # times the promise: a lower cap would make the promise an empty one
_STEPS = 20


@dataclass(frozen=True)
class CaseRegions:
    """What one calibration case says: the thresholds at which its regions appear.

    Attributes
    ----------
    thresholds
        (m,) of all its slides, each from
        :func:`~wsi_anomaly.calibration.regions.region_thresholds`.
    area
        Their assessed area, in any unit.
    locations
        (m,) :func:`location` of the slide that each threshold is of.
    """

    thresholds: NDArray[np.float64]
    area: float
    locations: NDArray[np.float64]

    @property
    def centred(self) -> CaseRegions:
        """The same, each slide's thresholds taken from where it lies."""
        return replace(self, thresholds=self.thresholds - self.locations)


def location(scores: NDArray[np.floating]) -> float:
    """Lower quartile of a slide of scores (N,): where it lies, with a lesion on half of it too."""
    return float(np.quantile(np.asarray(scores, np.float64), 0.25))


@dataclass(frozen=True)
class Plan:
    """How a promise is kept for an area, settled by areas alone: scores have no say in it.

    Attributes
    ----------
    part
        A slide is looked at in parts of at most this area; smaller cases are left out.
    cases
        Number of cases that are not.
    cap
        As in :class:`~wsi_anomaly.calibration.OperatingPoint`.
    allowed
        What the capped counts of the cases, each scaled to one part, may sum to.
    """

    part: float
    cases: int
    cap: float
    allowed: float

    @classmethod
    def of(cls, areas: Sequence[float], promise: float, area: float) -> Plan | None:
        """Choose part and cap; None where so many cases cannot resolve so low a rate.

        Parameters
        ----------
        areas
            Of the cases.
        promise
            False regions on a slide, at most.
        area
            Of the new slide, in the unit of the cases.
        """
        part, n = part_and_cases(areas, area)
        if n < MIN_CASES:
            return None
        share = promise * part / area
        a_quarter = float(n * share // 4)
        cap = min(max(1.0, _CAP_OF_FEW * promise, a_quarter), highest_cap(promise), n * share)
        if cap < least_cap(promise) * (1 - 1e-9):
            return None
        return cls(part, n, cap, (n + 1) * share - cap)


def part_and_cases(areas: Sequence[float], area: float) -> tuple[float, int]:
    """Part in which a slide of `area` is looked at, and how many of the cases are as large.

    It is the one that resolves most; no part and no cases where there are fewer than it takes.
    """
    descending = np.sort(np.asarray(areas, float))[::-1]
    counts = np.arange(1, len(descending) + 1)
    parts = np.minimum(descending, area)
    resolved = np.where(counts >= MIN_CASES, counts * parts, 0.0)
    if not len(resolved) or not resolved.max() > 0:
        return 0.0, 0
    best = len(resolved) - 1 - int(np.argmax(resolved[::-1]))  # of equals that with most cases
    return float(parts[best]), int(counts[best])


def highest_cap(promise: float) -> float:
    """Cap that is taken where there are cases enough."""
    return max(1.0, _CAP * promise)


def least_cap(promise: float) -> float:
    """Lowest cap with which a promise is worth something."""
    return max(1.0, _LEAST_CAP * promise)


def cases_needed(part: float, promise: float, area: float) -> int:
    """Return how many cases of area `part` resolve the rate that a slide of `area` takes."""
    needed = least_cap(promise) * area / (min(part, area) * promise)
    return max(MIN_CASES, int(np.ceil(needed - 1e-9)))


def promise_kept(areas: Sequence[float], area: float) -> float | None:
    """Lowest promise that these cases keep for a slide of `area`; None where there is none.

    The cap is at least twice the promise, and at least one region: more than half a region is kept
    by cases that keep half a one, or not at all.
    """
    part, n = part_and_cases(areas, area)
    return area / (n * part) if n * part >= _LEAST_CAP * area * (1 - 1e-9) else None


@dataclass(frozen=True)
class Choice:
    """A threshold, and the estimates by leaving each case out."""

    threshold: float
    expected: float
    any_flag: float


def choose_threshold(
    cases: Sequence[CaseRegions], plan: Plan, promise: float, area: float
) -> Choice:
    """Lowest threshold that keeps the promise, and whose own estimate does not contradict it.

    The bound alone would let about every third estimate by leaving cases out lie above the
    promise. So what the counts may sum to is lowered until the estimate keeps it as well; at zero
    it always does.

    Parameters
    ----------
    cases
        All calibration cases; those smaller than the plan's part are left out.
    plan, promise, area
        What :meth:`Plan.of` made, and of what.
    """
    scale = area / plan.part
    taken = [case for case in cases if case.area >= plan.part * (1 - 1e-9)]
    regions = _Regions.of(taken, plan)
    for allowed in np.linspace(plan.allowed, 0.0, _STEPS + 1):
        capped, counts = regions.left_out(allowed)
        expected = scale * float(capped.mean())
        if expected <= promise * (1 + 1e-9):
            break
    any_flag = scale * float(1 + np.minimum(counts, 1.0).sum()) / (len(taken) + 1)
    return Choice(regions.lowest(allowed), expected, min(1.0, any_flag))


@dataclass(frozen=True, eq=False)
class _Regions:
    """The regions of all cases, from the highest threshold down.

    Attributes
    ----------
    values
        (m,) thresholds, descending.
    capped, scaled
        (n, m) what each adds to the capped and to the plain count of its case in one part.
    """

    values: NDArray[np.float64]
    capped: NDArray[np.float64]
    scaled: NDArray[np.float64]

    @classmethod
    def of(cls, cases: Sequence[CaseRegions], plan: Plan) -> _Regions:
        """Scale each case to one part, and cap it."""
        values, own, capped, scaled = [], [], [], []
        for i, case in enumerate(cases):
            weight = plan.part / case.area
            count = np.minimum(weight * np.arange(len(case.thresholds) + 1), plan.cap)
            values.append(np.sort(case.thresholds)[::-1])
            own.append(np.full(len(case.thresholds), i))
            capped.append(np.diff(count))
            scaled.append(np.full(len(case.thresholds), weight))
        order = np.argsort(-np.concatenate(values), kind="stable")
        rows, columns = np.concatenate(own)[order], np.arange(len(order))
        out = np.zeros((2, len(cases), len(order)))
        for table, parts in zip(out, (capped, scaled), strict=True):
            table[rows, columns] = np.concatenate(parts)[order]
        return cls(np.concatenate(values)[order], out[0], out[1])

    def lowest(self, allowed: float) -> float:
        """Lowest threshold strictly above which the capped counts sum to at most `allowed`."""
        over = np.flatnonzero(np.cumsum(self.capped.sum(0)) > allowed + 1e-9)
        return float(self.values[over[0]]) if len(over) else -np.inf

    def left_out(self, allowed: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Capped and plain count (n,) of each case above the threshold of the others."""
        others = np.cumsum(self.capped.sum(0) - self.capped, axis=1) > allowed + 1e-9
        first = np.where(others.any(1), others.argmax(1), len(self.values) - 1)
        above = self.values > np.where(others.any(1), self.values[first], -np.inf)[:, None]
        return (self.capped * above).sum(1), (self.scaled * above).sum(1)

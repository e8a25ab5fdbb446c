"""The operating point of a slide, and the sentences that say what it promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wsi_anomaly.calibration.risk import (
    MIN_CASES,
    CaseRegions,
    Choice,
    Plan,
    cases_needed,
    choose_threshold,
    part_and_cases,
    promise_kept,
)

_ALIKE = 2.0  # times the area of the cases


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
        The leave-one-case-out estimate of that number, capped as it is.
    reason
        Sentences for the reader: how the threshold came about, or why there is none.
    cap
        A slide with more false regions counts as so many.
    cases
        Number of calibration cases that the promise rests on.
    area_mm2
        Assessed area of the slide for which it holds.
    any_flag
        Estimated share of normal slides of that area with any flag; in the mean not too low.
    """

    threshold: float | None
    false_regions: float
    expected: float | None
    reason: str
    cap: float | None = None
    cases: int = 0
    area_mm2: float | None = None
    any_flag: float | None = None


@dataclass(frozen=True)
class Reference:
    """What an operating point needs to know of normal slides.

    Attributes
    ----------
    cases
        Regions of each case; the unit of area is one field.
    name, noun
        What they are, for people.
    floor
        Least threshold, whatever the regions say.
    concurrent
        Whether they are of the same study as the slide: that it lies high as a whole is then an
        effect, no shift, and its threshold is that of the others.
    """

    cases: Sequence[CaseRegions]
    name: str
    noun: str
    floor: float
    concurrent: bool

    def operating_point(
        self,
        false_regions: float,
        fields: float,
        field_mm2: float | None = None,
        location: float | None = None,
    ) -> OperatingPoint:
        """See :meth:`~wsi_anomaly.calibration.Calibration.operating_point`."""
        area_mm2 = None if field_mm2 is None else fields * field_mm2
        promised = f"{false_regions:g} false region{'' if false_regions == 1 else 's'}"
        if len(self.cases) < MIN_CASES:
            reason = (
                f"No field is flagged: the reference is {self.name}, and flags take at least "
                f"{MIN_CASES}."
            )
            return OperatingPoint(None, false_regions, None, reason, area_mm2=area_mm2)
        areas = [case.area for case in self.cases]
        plan = Plan.of(areas, false_regions, fields)
        if plan is None:
            reason = (
                f"No field is flagged: {self.name} cannot show that a normal slide of "
                f"{_area(fields, field_mm2)} has at most {promised}; "
                f"{self._what_it_takes(false_regions, fields, field_mm2)}."
            )
            return OperatingPoint(None, false_regions, None, reason, area_mm2=area_mm2)
        rule = self.rule(plan, false_regions, fields)
        found = rule.estimates
        reason = (
            f"At most {promised} on a normal slide of {_area(fields, field_mm2)}, on average over "
            f"slides like those of {plan.cases} {self.noun}s (one with more than {plan.cap:.3g} "
            f"counts as {plan.cap:.3g}). Leaving out each of {plan.cases} {self.noun}s in turn "
            f"gave {found.expected:.2f}, and any flag at all on an estimated {found.any_flag:.0%} "
            "of normal slides or fewer."
        )
        if not self.concurrent:
            reason += (
                " Flags are places that stand out from most of the slide's own tissue: a change of "
                "nearly all of it raises the slide score, and flags little."
            )
        return OperatingPoint(
            rule.threshold(location),
            false_regions,
            found.expected,
            reason,
            cap=plan.cap,
            cases=plan.cases,
            area_mm2=area_mm2,
            any_flag=found.any_flag,
        )

    def _what_it_takes(self, promise: float, fields: float, field_mm2: float | None) -> str:
        """Advice that works when it is followed."""
        areas = [case.area for case in self.cases]
        part, large = part_and_cases(areas, fields)
        unit = field_mm2 or 1.0
        said = _rounded(part * unit, 3, np.floor) / unit
        out = (
            f"that takes {cases_needed(said, promise, fields)} {self.noun}s of at least "
            f"{_area(said, field_mm2)} each ({large} are so large)"
        )
        if part < fields:
            out += ", or fewer larger ones"
        allowed = promise_kept(areas, fields)
        if allowed is not None:
            out += f"; or allow {_rounded(allowed, 2, np.ceil):g} with --false-regions"
        return out

    def rule(self, plan: Plan, promise: float, area: float) -> Rule:
        """Choose how far flags lie above where a slide of this area lies."""
        plain = choose_threshold(self.cases, plan, promise, area)
        lie = np.array([case.locations.mean() for case in self.cases])
        lowest, usual = float(lie.min()), float(np.median(lie))
        if self.concurrent:
            return Rule(plain, -np.inf, lowest, usual, max(plain.threshold, self.floor))
        found = choose_threshold([case.centred for case in self.cases], plan, promise, area)
        if area <= _ALIKE * float(np.median([case.area for case in self.cases])):
            return Rule(found, found.threshold, lowest, usual, self.floor)
        # Parts of a much larger slide may lie unlike the whole: raw scores keep the promise too.
        return Rule(plain, found.threshold, lowest, usual, max(plain.threshold, self.floor))


@dataclass(frozen=True)
class Rule:
    """Thresholds for slides of one area.

    Attributes
    ----------
    estimates
        What leaving cases out gives.
    above
        How far above a slide's location its threshold lies.
    lowest, usual
        Where the lowest normal case lies, below which no slide is taken to lie, and the middle one.
    least
        Lowest threshold of any slide.
    """

    estimates: Choice
    above: float
    lowest: float
    usual: float
    least: float

    def threshold(self, location: float | None) -> float:
        """Threshold of a slide that lies there; None: where normal slides do."""
        here = self.usual if location is None else max(location, self.lowest)
        return max(self.above + here, self.least)


def _rounded(value: float, digits: int, way: Callable[[float], float]) -> float:
    """Round one way, so that what is said is still enough."""
    step = 10.0 ** (np.floor(np.log10(value)) - digits + 1)
    return float(way(round(value / step, 9)) * step)


def _area(fields: float, field_mm2: float | None) -> str:
    if field_mm2 is None:
        return f"{fields:,.0f} fields"
    return f"{fields * field_mm2:,.3g} mm2"

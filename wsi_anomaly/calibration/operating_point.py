"""The operating point of a slide, and the sentences that say what it promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsi_anomaly.calibration.risk import (
    MIN_CASES,
    CaseRegions,
    Plan,
    cases_needed,
    choose_threshold,
)


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
    """

    cases: Sequence[CaseRegions]
    name: str
    noun: str
    floor: float

    def operating_point(
        self, false_regions: float, fields: float, field_mm2: float | None
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
            usual = float(np.median(areas))
            reason = (
                f"No field is flagged: {self.name} of {_area(usual, field_mm2)} each cannot show "
                f"that a normal slide of {_area(fields, field_mm2)} has at most {promised}; "
                f"calibrate with {cases_needed(usual, false_regions, fields)} such cases, or "
                "larger ones, or allow more with --false-regions."
            )
            return OperatingPoint(None, false_regions, None, reason, area_mm2=area_mm2)
        found = choose_threshold(self.cases, plan, false_regions, fields)
        reason = (
            f"At most {promised} on a normal slide of {_area(fields, field_mm2)}, on average over "
            f"slides like those of {plan.cases} {self.noun}s (one with more than {plan.cap:.3g} "
            f"counts as {plan.cap:.3g}). Leaving out each of {plan.cases} {self.noun}s in turn "
            f"gave {found.expected:.2f}, and any flag at all on at most {found.any_flag:.0%} of "
            "normal slides."
        )
        return OperatingPoint(
            max(found.threshold, self.floor),
            false_regions,
            found.expected,
            reason,
            cap=plan.cap,
            cases=plan.cases,
            area_mm2=area_mm2,
            any_flag=found.any_flag,
        )


def _area(fields: float, field_mm2: float | None) -> str:
    if field_mm2 is None:
        return f"{fields:,.0f} fields"
    return f"{fields * field_mm2:,.3g} mm2"

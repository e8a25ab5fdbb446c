"""The rule that keeps the promise: what holds for any scores whatever."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.calibration import MIN_CASES, Calibration, CaseScores, location, smooth_scores
from wsi_anomaly.calibration.operating_point import Reference
from wsi_anomaly.calibration.risk import CaseRegions, Plan, cases_needed, choose_threshold
from wsi_anomaly.scoring.controls import ConcurrentControls


def regions(rng: np.random.Generator, area: float) -> CaseRegions:
    """A case with ties, outliers, and now and then nothing at all."""
    count = rng.integers(0, 12)
    values = np.round(rng.normal(size=count) * rng.choice([1, 5]) + rng.choice([0, 8]), 1)
    return CaseRegions(np.sort(values)[::-1], area, np.full(count, rng.normal()))


def reference(cases: list[CaseRegions]) -> Reference:
    name = f"{len(cases)} normal cases"
    return Reference(cases, name, "normal case", floor=-np.inf, concurrent=False)


def counted(case: CaseRegions, threshold: float) -> int:
    return int((case.thresholds > threshold).sum())


@given(
    st.integers(0, 10**6), st.integers(MIN_CASES, 30), st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([0.3, 1.0, 1.7, 4.0]),
)  # fmt: skip
def test_the_mean_over_cases_left_out_never_exceeds_the_promise(seed, n, promise, times):
    """Conformal risk control, exactly: each of n + 1 cases is as likely as any to be the new one.

    A slide `times` as large as a case consists of parts like it, and each part counts.
    """
    rng = np.random.default_rng(seed)
    cases = [regions(rng, 1.0) for _ in range(n + 1)]
    plan = Plan.of([1.0] * n, promise, times)
    if plan is None:
        return
    losses = []
    for new in range(n + 1):
        others = cases[:new] + cases[new + 1 :]
        found = choose_threshold(others, plan, promise, times)
        count = counted(cases[new], found.threshold) * plan.part
        losses.append(min(count, plan.cap) * times / plan.part)
        assert found.expected <= promise * (1 + 1e-9)
        assert 0 < found.any_flag <= 1
    assert np.mean(losses) <= promise * (1 + 1e-9)


@given(st.integers(0, 10**6), st.integers(MIN_CASES, 30))
def test_the_promise_holds_where_thresholds_follow_the_slides(seed, n):
    """The same with thresholds that rise with a slide: whatever scores and locations are."""
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(n + 1):
        lies = np.round(rng.standard_t(2) * rng.choice([0, 1, 5]), 1)
        values = np.sort(lies + rng.standard_t(2, size=rng.integers(1, 12)))[::-1]
        cases.append(CaseRegions(values, 1.0, np.full(len(values), lies)))
    losses = []
    for new in range(n + 1):
        reference = Reference(cases[:new] + cases[new + 1 :], "", "normal case", -np.inf, False)
        point = reference.operating_point(1.0, 1.0, location=float(cases[new].locations[0]))
        losses.append(min(counted(cases[new], point.threshold), point.cap))
    assert np.mean(losses) <= 1 + 1e-9


@pytest.mark.parametrize("by", [0.5, 3.0, 10.0])
def test_a_slide_that_lies_higher_shows_no_more_for_it(by):
    """Another stain or scanner; what stands out on the slide still does."""
    rng = np.random.default_rng(0)
    calibration = Calibration.fit(maps(rng, 8))
    new = maps(rng, 1)[0]
    plain, moved = (
        calibration.operating_point(location=location(new.score) + shift) for shift in (0.0, by)
    )
    assert moved.threshold == pytest.approx(plain.threshold + by, abs=0.2)
    smoothed = smooth_scores(new.row, new.col, new.score + by)
    assert (smoothed > moved.threshold).sum() == (smoothed - by > plain.threshold).sum()


def test_what_lies_high_in_a_study_is_an_effect_and_raises_nothing():
    controls = ConcurrentControls(Calibration.fit(maps(np.random.default_rng(0), 8)).slides)
    assert controls.operating_point(location=9.0) == controls.operating_point()


@given(st.integers(0, 10**6), st.integers(MIN_CASES, 30))
def test_a_larger_slide_never_gets_a_lower_threshold(seed, n):
    rng = np.random.default_rng(seed)
    cases = [regions(rng, 1.0) for _ in range(n)]
    thresholds = []
    for area in (0.5, 1.0, 2.0, 4.0):
        plan = Plan.of([1.0] * n, 1.0, area)
        thresholds.append(
            np.inf if plan is None else choose_threshold(cases, plan, 1.0, area).threshold
        )
    assert thresholds[1:] == sorted(thresholds[1:])


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40), st.floats(0.1, 100))
def test_a_plan_is_worth_its_promise_or_there_is_none(areas, area):
    plan = Plan.of(areas, 1.0, area)
    if plan is None:
        return
    assert plan.cases >= MIN_CASES
    assert plan.cases == sum(a >= plan.part for a in areas)
    assert plan.part <= area
    assert 2 * (1 - 1e-9) <= plan.cap <= 5
    # The bound itself: what is seen may sum to this, and the unseen slide adds the cap.
    assert plan.allowed >= -1e-9
    assert plan.allowed + plan.cap == pytest.approx((plan.cases + 1) * plan.part / area)


def test_so_many_cases_resolve_so_large_a_slide():
    assert cases_needed(1.0, 1.0, 1.0) == MIN_CASES
    assert cases_needed(1.0, 1.0, 20.0) == 40
    for times in (3.0, 20.0):
        enough = cases_needed(1.0, 1.0, times)
        assert Plan.of([1.0] * enough, 1.0, times) is not None
        assert Plan.of([1.0] * (enough - 1), 1.0, times) is None


def maps(rng: np.random.Generator, n: int, side: int = 20, shift: float = 0.0) -> list[CaseScores]:
    row, col = np.divmod(np.arange(side * side), side)
    return [
        CaseScores(f"c{i}{shift}", f"c{i}", row, col,
                   (rng.normal(size=side * side) + shift).astype(np.float32))
        for i in range(n)
    ]  # fmt: skip


def test_one_slide_that_scores_high_all_over_does_not_blind_a_large_reference():
    rng = np.random.default_rng(0)
    normal = maps(rng, 40)
    outlier = maps(rng, 1, shift=6.0)
    threshold = Calibration.fit([*normal, *outlier]).operating_point().threshold
    assert threshold < 3
    assert threshold == pytest.approx(Calibration.fit(normal).operating_point().threshold, abs=0.5)


def test_no_flags_where_so_few_cases_cannot_resolve_the_area():
    calibration = Calibration.fit(maps(np.random.default_rng(0), 8))
    same = calibration.operating_point(1.0, 400, field_mm2=0.01)
    assert same.threshold is not None
    assert (same.cases, same.area_mm2, same.cap) == (8, 4.0, 3.0)
    large = calibration.operating_point(1.0, 8000, field_mm2=0.01)
    assert large.threshold is None
    assert "8 normal cases cannot show" in large.reason
    assert "slide of 80 mm2" in large.reason
    assert "40 normal cases of at least 4 mm2 each (8 are so large)" in large.reason
    # Two cases for each time that the slide is larger, whatever the promise: none is advised.
    assert "--false-regions" not in large.reason
    assert calibration.operating_point(30.0, 8000).threshold is None


@given(
    st.lists(st.integers(1, 3000), min_size=MIN_CASES, max_size=30),
    st.sampled_from([0.1, 0.3, 0.5, 1.0, 3.0, 30.0]),
    st.integers(1, 20000),
)
def test_what_the_sentence_advises_works(areas, promise, fields):
    cases = [regions(np.random.default_rng(i), float(area)) for i, area in enumerate(areas)]
    point = reference(cases).operating_point(promise, float(fields), 0.0041)
    if point.threshold is not None:
        return
    needed, least, large = re.search(
        r"takes (\d+) normal cases of at least (\S+) mm2 each \((\d+) are", point.reason
    ).groups()
    said = float(least.replace(",", "")) / 0.0041
    assert int(large) == sum(area >= said * (1 - 1e-9) for area in areas)
    assert Plan.of([said] * int(needed), promise, fields) is not None
    assert Plan.of([said] * (int(needed) - 1), promise, fields) is None
    allowed = re.search(r"allow (\S+) with --false-regions", point.reason)
    # More than half a region asks as much of the cases as half a one.
    for more in [float(allowed[1])] if allowed else [0.5, 1.0, 30.0]:
        assert (Plan.of(areas, more, fields) is not None) == bool(allowed)


def test_slides_of_one_case_are_one_case():
    slides = maps(np.random.default_rng(0), 8)
    paired = [
        CaseScores(f"animal {i // 2}", s.slide, s.row, s.col, s.score) for i, s in enumerate(slides)
    ]
    assert Calibration.fit(paired).operating_point().cases == 4

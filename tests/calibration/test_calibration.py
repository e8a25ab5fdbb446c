"""What a score means against normal tissue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.calibration import MIN_CASES, Calibration, CaseScores
from wsi_anomaly.core.errors import ModelError


def slide(name: str, scores: np.ndarray, *, case: str | None = None):
    side = int(np.ceil(np.sqrt(len(scores))))
    row, col = np.divmod(np.arange(len(scores)), side)
    return CaseScores(case or name, name, row, col, np.asarray(scores, np.float32))


def normals(n: int, fields: int = 400, seed: int = 0) -> list[CaseScores]:
    rng = np.random.default_rng(seed)
    return [slide(f"s{i}", rng.normal(1.0, 0.1, fields)) for i in range(n)]


def test_slides_count_equally_however_large_they_are():
    few, many = np.full(10, 1.0), np.full(1000, 3.0)
    calibration = Calibration.fit([slide("few", few), slide("many", many)])
    assert calibration.percentile([2.0]) == pytest.approx([50.0])
    assert calibration.percentile([0.5, 3.0]) == pytest.approx([0.0, 100.0])


@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30), min_size=1, max_size=6),
    st.lists(st.floats(-10, 10), min_size=2, max_size=20),
)
def test_a_higher_score_never_looks_more_normal(slides, queries):
    calibration = Calibration.fit([slide(f"s{i}", np.array(s)) for i, s in enumerate(slides)])
    queries = np.sort(queries)
    percentile, z = calibration.percentile(queries), calibration.z(queries)
    assert (np.diff(percentile) >= 0).all()
    assert (np.diff(z) >= 0).all()
    assert percentile.min() >= 0
    assert percentile.max() <= 100 + 1e-9
    p = calibration.p_value(queries)
    if calibration.n_cases < MIN_CASES:
        assert p is None
    else:
        assert (np.diff(p) <= 1e-12).all()
        assert p.min() >= calibration.p_floor
        assert p.max() <= 1
    low, high = calibration.color_range
    assert high > low


def test_what_was_not_assessed_has_no_percentile_z_or_p():
    calibration = Calibration.fit(normals(MIN_CASES))
    for values in (calibration.percentile, calibration.z, calibration.p_value):
        assert np.isnan(values([np.nan, 1.0])).tolist() == [True, False]


def test_p_values_of_exchangeable_fields_are_conformal():
    """n fields, equal slides: p = (1 + number at or above) / (n + 1)."""
    calibration = Calibration.fit(normals(MIN_CASES, 25))
    n = 25 * MIN_CASES
    pooled = np.concatenate([s.score for s in calibration.slides])
    for value in (0.7, 1.0, 1.2, 9.0):
        expected = (1 + (pooled >= value).sum()) / (n + 1)
        assert calibration.p_value([value]) == pytest.approx([expected])


def test_z_is_robust_to_a_few_wild_scores():
    clean = normals(1, 1000)[0].score
    wild = clean.copy()
    wild[:50] = 1e6
    a = Calibration.fit([slide("a", clean)])
    b = Calibration.fit([slide("b", wild)])
    assert b.z([1.3]) == pytest.approx(a.z([1.3]), abs=0.5)
    assert a.z([1.0, 1.1]) == pytest.approx([0, 1], abs=0.15)


def test_too_few_cases_give_a_reason_instead_of_a_threshold():
    slides = [*normals(MIN_CASES - 1), slide("again", normals(1, seed=9)[0].score, case="s0")]
    point = Calibration.fit(slides).operating_point()
    assert point.threshold is None
    assert str(MIN_CASES) in point.reason
    assert point.reason.endswith(".")


def test_more_false_regions_never_raise_the_threshold():
    calibration = Calibration.fit(normals(8, 900))
    thresholds = [calibration.operating_point(r).threshold for r in (0.25, 0.5, 1, 2, 5)]
    assert thresholds == sorted(thresholds, reverse=True)


def test_state_round_trip_and_damage():
    calibration = Calibration.fit([*normals(5), slide("s9", np.array([1.0, 2.0]))])
    arrays, meta = calibration.to_state()
    again = Calibration.from_state(arrays, meta)
    queries = np.linspace(0.5, 1.5, 11)
    assert (again.percentile(queries) == calibration.percentile(queries)).all()
    assert again.operating_point() == calibration.operating_point()
    with pytest.raises(ModelError, match="damaged"):
        Calibration.from_state({**arrays, "score": arrays["score"][:-1]}, meta)
    with pytest.raises(ModelError, match="damaged"):
        Calibration.from_state({**arrays, "score": arrays["score"] * np.nan}, meta)
    with pytest.raises(ModelError, match="damaged"):
        Calibration.from_state({k: v for k, v in arrays.items() if k != "row"}, meta)
    with pytest.raises(ModelError, match="version"):
        Calibration.from_state(arrays, {**meta, "version": 99})


def test_histogram_covers_all_normal_tissue():
    calibration = Calibration.fit(normals(3))
    assert calibration.histogram(np.linspace(0.9, 1.1, 7)).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("far", [1 << 24, 1 << 62])
def test_a_field_far_from_all_others_is_refused_before_its_grid_is_made(far):
    """A model of somebody's with one such row would cost gigabytes."""
    row = np.array([0, 0, far, -far])
    with pytest.raises(ValueError, match="lie too far apart"):
        CaseScores("case", "slide", row, np.array([0, 1, 0, 1]), np.ones(4))

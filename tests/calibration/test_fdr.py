"""Benjamini-Hochberg: what it promises on exchangeable tiles, and the floor that it prints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wsi_anomaly.calibration import Calibration, CaseScores, benjamini_hochberg

SEEDS = 200


def reference(rng, slides: int = 5, side: int = 20) -> Calibration:
    row, col = np.divmod(np.arange(side * side), side)
    return Calibration.fit(
        [
            CaseScores(f"c{i}", f"c{i}", row, col, rng.normal(size=len(row)).astype(np.float32))
            for i in range(slides)
        ]
    )


@pytest.mark.parametrize(("lesion", "q"), [(0, 0.1), (60, 0.1), (200, 0.2)])
def test_the_mean_share_of_false_discoveries_stays_below_q_on_exchangeable_tiles(lesion, q):
    shares, found = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        calibration = reference(rng)
        score = rng.normal(size=500)
        score[:lesion] += 4
        p = calibration.p_value(score)
        flagged, _ = benjamini_hochberg(p, q, calibration.p_floor)
        shares.append(flagged[lesion:].sum() / max(1, flagged.sum()))
        found.append(flagged[:lesion].mean() if lesion else 1.0)
    standard_error = np.std(shares) / np.sqrt(SEEDS)
    assert np.mean(shares) <= q + standard_error
    assert np.mean(found) > 0.5  # and it is no empty promise


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.floats(0.01, 0.5),
)
def test_it_flags_what_scipy_flags(p, q):
    p = np.asarray(p)
    flagged, result = benjamini_hochberg(p, q, 0.0)
    expected = stats.false_discovery_control(p) <= q
    border = np.isclose(stats.false_discovery_control(p), q)
    assert (flagged == expected)[~border].all()
    assert result.flagged == flagged.sum()


@given(st.integers(10, 3000), st.sampled_from([0.05, 0.1, 0.2]), st.integers(1, 6))
def test_the_floor_is_where_flags_begin(m, q, slides):
    n = 100 * slides
    p_floor = 1 / (n + 1)
    floor = benjamini_hochberg(np.ones(m), q, p_floor)[1].floor
    for count in (floor - 1, floor):
        if count <= m:
            p = np.ones(m)
            p[:count] = p_floor
            assert benjamini_hochberg(p, q, p_floor)[0].sum() == (count if count == floor else 0)


def test_fields_without_a_p_value_take_no_part():
    p = np.array([np.nan, 0.001, 0.9, np.nan, 0.001])
    flagged, result = benjamini_hochberg(p, 0.1, 0.001)
    assert flagged.tolist() == [False, True, False, False, True]
    assert result.tested == 3


def test_the_sentence_names_the_floor():
    assert "fewer than 100 fields" in benjamini_hochberg(np.ones(1000), 0.1, 0.01)[1].sentence
    assert "nothing on this slide" in benjamini_hochberg(np.ones(1000), 0.01, 0.5)[1].sentence
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg(np.ones(3), 1.0, 0.1)

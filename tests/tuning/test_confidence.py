"""Resampling tells a sure choice from a lucky one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core.ranking import ordered_pairs
from wsi_anomaly.tuning.confidence import compare, resampled

CASES, TILES = 12, 20


def judged(shift: float, seed: int, groups: int = 4) -> tuple[list[np.ndarray], list]:
    """Pairs of a detector that moves anomalies up by `shift`, in three folds of four cases."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(rng.normal(0, 0.3, (CASES, 1)), 1, (CASES, TILES))
    abnormal = rng.normal(shift, 1, (groups, TILES))
    sums = np.array([[ordered_pairs(n, a) for a in abnormal] for n in normal])
    counts = [(np.full(4, TILES), np.full(groups, TILES))] * 3
    return np.split(sums, 3), counts


def test_a_clearly_better_configuration_wins_nearly_always():
    good, counts = judged(2.0, 0)
    poor, _ = judged(0.2, 1)
    values = resampled([good, poor], counts)
    found = compare(values[:, 0], values[:, 1], maximize=True)
    assert found.wins > 0.99
    assert 0.2 < found.low < found.difference < found.high
    back = compare(values[:, 0], values[:, 1], maximize=False)
    assert back.wins == pytest.approx(1 - found.wins)


def test_equal_configurations_are_a_coin_toss():
    one, counts = judged(1.0, 0)
    values = resampled([one, one], counts)
    found = compare(values[:, 0], values[:, 1], maximize=True)
    assert (found.wins, found.difference) == (0.5, 0)


def test_luck_is_seen_as_such():
    one, counts = judged(0.8, 2)
    other, _ = judged(0.8, 3)
    found = compare(*resampled([one, other], counts).T, maximize=True)
    assert found.low < 0 < found.high


@given(st.integers(1, 4), st.integers(0, 50))
def test_resampled_values_lie_around_the_value_itself(groups, seed):
    sums, counts = judged(1.0, seed, groups)
    value = float(np.mean([s.sum() / (cases.sum() * of.sum()) for s, (cases, of) in
                           zip(sums, counts, strict=True)]))  # fmt: skip
    values = resampled([sums], counts, draws=400)[:, 0]
    assert np.isfinite(values).all()
    assert abs(values.mean() - value) < 0.1


def test_from_one_slide_only_the_cases_are_drawn():
    sums, counts = judged(1.0, 0, groups=1)
    many, _ = judged(1.0, 0, groups=4)
    assert resampled([sums], counts).std() > 0
    same = [[np.full((4, 1), 300.0)] * 3]
    assert resampled(same, counts).std() == pytest.approx(0)
    assert len(many) == 3

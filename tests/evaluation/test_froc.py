"""FROC: counted as by hand, and as the Camelyon16 challenge does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.evaluation import detections, froc
from wsi_anomaly.evaluation.froc import FALSE_PER_SLIDE, sensitivity_at


def froc_curve(lesions, false, slides: int):
    """False positives per slide and sensitivity, everything on one slide of so many."""
    found = froc(lesions, [0] * len(lesions), false, [0] * len(false), range(slides))
    return found.false_per_slide, found.sensitivity


def test_a_case_worked_by_hand() -> None:
    """Two slides, four lesions (one is missed), five false positives.

    Scores from above: lesion 0.9, false 0.8, lesion and false 0.7, false 0.6, lesion 0.5, false
    0.4, false 0.3.
    """
    lesions = [0.9, 0.7, 0.5, np.nan]
    false = [0.8, 0.7, 0.6, 0.4, 0.3]
    x, y = froc_curve(lesions, false, 2)
    assert x.tolist() == [0, 0, 0.5, 1.0, 1.5, 1.5, 2.0, 2.5]
    assert y.tolist() == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 0.75]
    found = froc(lesions, [0, 0, 1, 1], false, [0, 1, 1, 1, 0], ["a", "b"])
    by_hand = [0.25, 0.25, 0.5, 0.75, 0.75, 0.75]
    assert [e.value for e in found.at.values()] == by_hand
    assert found.mean.value == pytest.approx(sum(by_hand) / 6)
    assert (found.lesions, found.slides) == (4, 2)
    assert math.isnan(found.mean.low)  # two slides are no sample


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(0, 30), st.integers(1, 6))
def test_every_point_of_the_curve_is_a_threshold(
    seed: int, count: int, wrong: int, slides: int
) -> None:
    generator = np.random.default_rng(seed)
    lesions = generator.integers(0, 6, count).astype(float)
    lesions[generator.random(count) < 0.2] = np.nan
    false = generator.integers(0, 6, wrong).astype(float)
    expected = {(0.0, 0.0)}
    for threshold in {*lesions[np.isfinite(lesions)], *false}:
        hit = (np.nan_to_num(lesions, nan=-1) >= threshold).sum()
        expected.add(((false >= threshold).sum() / slides, hit / count))
    x, y = froc_curve(lesions, false, slides)
    assert set(zip(x.tolist(), y.tolist(), strict=True)) == expected
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()


def test_between_thresholds_it_is_linear_and_beyond_the_last_it_stays() -> None:
    x, y = froc_curve([0.9, 0.5], [0.8, 0.4], 1)
    assert sensitivity_at(x, y, [0.25, 0.5, 1.0, 8.0]).tolist() == [0.5, 0.5, 1.0, 1.0]
    x, y = froc_curve([0.9, 0.5], [0.5], 1)
    assert sensitivity_at(x, y, 0.5) == 0.75


def test_without_lesions_there_is_no_figure() -> None:
    found = froc([], [], [0.3, 0.2], [0, 1], [0, 1, 2])
    assert all(math.isnan(estimate.value) for estimate in found.at.values())
    assert math.isnan(found.mean.value)


def test_the_interval_is_over_cases() -> None:
    """Slides on which everything is found, and slides on which nothing is."""
    lesions = np.where(np.arange(60) < 30, 0.9, np.nan)
    slide = np.arange(60) // 5
    found = froc(lesions, slide, [0.5] * 12, np.arange(12), np.arange(12))
    assert found.mean.value == 0.5
    assert found.mean.low < 0.3
    assert found.mean.high > 0.7
    assert set(found.at) == set(FALSE_PER_SLIDE)
    cases = froc(lesions, slide, [0.5] * 12, np.arange(12), np.arange(12) // 2)
    assert cases.mean.low <= found.mean.low


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_detections_are_local_maxima_apart_from_one_another(seed: int, radius: int) -> None:
    generator = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(120), 12)
    keep = generator.random(120) < 0.8
    keep[0] = True
    row, col = row[keep] + 7, col[keep]
    score = generator.integers(0, 5, len(row)).astype(float)
    score[generator.random(len(row)) < 0.1] = np.nan
    found = detections(row, col, score, radius=radius)
    assert not found[np.isnan(score)].any()
    near = (np.abs(row[:, None] - row) <= radius) & (np.abs(col[:, None] - col) <= radius)
    for i in np.flatnonzero(found):
        assert score[i] == np.nanmax(score[near[i]])
        assert found[near[i]].sum() == 1
    if np.isfinite(score).any():
        assert found[score == np.nanmax(score)].any()

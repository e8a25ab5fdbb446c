"""Smoothing and regions on sparse grids."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from wsi_anomaly.calibration import label_regions, smooth_scores
from wsi_anomaly.calibration.regions import region_thresholds


@st.composite
def grids(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(rng.integers(1, 12, 2))
    keep = rng.random(shape) < draw(st.floats(0.2, 1.0))
    keep.flat[0] = True
    row, col = np.nonzero(keep)
    score = np.round(rng.normal(size=len(row)), draw(st.integers(0, 3))).astype(np.float32)
    return row + draw(st.integers(0, 1000)), col, score


@given(grids())
def test_smoothing_is_the_mean_of_the_assessed_neighbours(grid):
    row, col, score = grid
    score = score.copy()
    score[::3] = np.nan
    smoothed = smooth_scores(row, col, score)
    for i in range(len(row)):
        near = (abs(row - row[i]) <= 1) & (abs(col - col[i]) <= 1) & np.isfinite(score)
        if np.isnan(score[i]):
            assert np.isnan(smoothed[i])
        else:
            np.testing.assert_allclose(smoothed[i], score[near].mean(), atol=1e-5)


@given(grids(), st.floats(-2, 2))
def test_first_reached_thresholds_bound_the_number_of_regions(grid, threshold):
    row, col, score = grid
    steps = region_thresholds(row, col, score, most=10_000)
    _, count = label_regions(row, col, score > threshold)
    assert count <= (steps > threshold).sum()
    assert (np.diff(steps) <= 0).all()
    # Every step is a real one: just below it that many regions are there or have been.
    for k, value in enumerate(steps[:3], start=1):
        assert label_regions(row, col, score >= value)[1] >= min(k, 1)
    assert len(steps) == max(label_regions(row, col, score >= v)[1] for v in score)


@given(grids())
def test_regions_are_eight_connected(grid):
    row, col, score = grid
    flagged = score > 0
    labels, count = label_regions(row, col, flagged)
    dense = np.zeros((row.max() + 1, col.max() + 1), bool)
    dense[row[flagged], col[flagged]] = True
    assert count == ndimage.label(dense, np.ones((3, 3)))[1]
    assert ((labels > 0) == flagged).all()

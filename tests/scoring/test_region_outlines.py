"""Outlines of merged regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Polygon

from wsi_anomaly.scoring import merge_regions, union_of_fields
from wsi_anomaly.tiles import Fields


def fields_of(row, col, shape, side=128.3, stride=None) -> Fields:
    stride = stride or side
    coords = np.stack([np.floor(col * stride + 0.5), np.floor(row * stride + 0.5)], 1)
    return Fields(
        coords.astype(np.int64), row.astype(np.int32), col.astype(np.int32), shape, (0.0, 0.0),
        (side, side), (stride, stride), 64.0, np.ones(len(row), np.float32),
        np.zeros(len(row), np.uint8),
    )  # fmt: skip


@given(st.integers(0, 10**6), st.floats(0.02, 0.98), st.sampled_from([128.3, 64.15, 96.0]))
def test_regions_are_valid_and_cover_their_fields(seed, share, stride):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 14, 2))
    row, col = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    fields = fields_of(row, col, shape, stride=stride)
    score = rng.normal(size=len(row)).astype(np.float32)
    flagged = rng.random(len(row)) < share
    regions = merge_regions(fields, score, score, flagged, (0.5, 0.5))
    assert sorted(np.concatenate([r.fields for r in regions] or [[]])) == list(
        np.flatnonzero(flagged)
    )
    for region in regions:
        assert region.outline.is_valid
        assert region.outline.area > 0
        assert region.max_score >= region.mean_score
        squares = union_of_fields(fields, region.fields)
        assert squares.difference(region.outline).area < 1
        tissue = fields.tissue_fraction[region.fields].sum() * stride**2
        assert region.area_mm2 * 1e6 / 0.25 == pytest.approx(tissue, rel=1e-5)
        assert region.peak in region.fields
        assert region.highest == score[region.fields].max()
    highest = [r.highest for r in regions]
    assert highest == sorted(highest, reverse=True)


def test_small_gaps_are_closed_and_large_holes_stay():
    row, col = np.divmod(np.arange(81), 9)
    fields = fields_of(row, col, (9, 9), side=100.0)
    ring = np.ones(81, bool)
    ring[4 * 9 + 4] = False
    (small,) = merge_regions(fields, row * 1.0, row * 1.0, ring, (1, 1))
    assert isinstance(small.outline, Polygon)
    assert not small.outline.interiors
    frame = (row < 2) | (row > 6) | (col < 2) | (col > 6)
    (large,) = merge_regions(fields, row * 1.0, row * 1.0, frame, (1, 1))
    assert len(large.outline.interiors) == 1


@given(st.floats(60, 400), st.floats(0, 5000))
def test_a_notch_of_one_field_closes_whatever_the_rounding(side, origin):
    """Three sides of a square of 3 x 3 fields, from which a notch leads into the middle."""
    row, col = np.divmod(np.arange(9), 3)
    fields = replace(fields_of(row, col, (3, 3), side=side), origin=(origin, origin))
    notched = ~((col == 1) & (row < 2))
    (region,) = merge_regions(fields, row * 1.0, row * 1.0, notched, (1, 1))
    assert region.outline.area == pytest.approx(9 * side**2, rel=1e-3)


def test_fields_that_meet_at_a_corner_are_one_outline():
    fields = fields_of(np.array([0, 1]), np.array([0, 1]), (2, 2), side=100.0)
    (region,) = merge_regions(fields, np.ones(2), np.ones(2), np.ones(2, bool), (1, 1))
    assert region.outline.is_valid
    assert len(region.fields) == 2

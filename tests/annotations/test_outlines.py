"""How much of a field lies inside outlines."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.annotations import Outline, fractions_inside

CORNERS = np.stack(np.meshgrid(np.arange(0, 1000, 90), np.arange(0, 1000, 90)), -1).reshape(-1, 2)


def test_a_field_is_inside_outside_or_partly_so():
    square = Outline("Lesion", shapely.box(0, 0, 100, 100))
    coords = np.array([[0, 0], [50, 0], [75, 75], [100, 0], [500, 500]])
    np.testing.assert_allclose(
        fractions_inside([square], coords, (50, 50)), [1, 1, 0.25, 0, 0], atol=1e-12
    )


def test_holes_are_outside_and_overlaps_count_once():
    ring = Polygon(
        shapely.box(0, 0, 90, 90).exterior, [shapely.box(30, 30, 60, 60).exterior.coords]
    )
    half = shapely.box(0, 0, 45, 90)
    field = np.array([[0, 0]])
    both = [Outline("a", ring), Outline("b", half), Outline("c", MultiPolygon([half]))]
    assert fractions_inside(both, field, (90, 90))[0] == pytest.approx(1 - 450 / 8100)


def test_no_outlines_and_no_fields():
    assert fractions_inside([], CORNERS, (90, 90)).tolist() == [0] * len(CORNERS)
    square = Outline("", shapely.box(0, 0, 9, 9))
    assert fractions_inside([square], np.zeros((0, 2)), (90, 90)).shape == (0,)
    with pytest.raises(ValueError, match="positive size"):
        fractions_inside([square], CORNERS, (0, 90))


@given(
    x=st.floats(100, 900), y=st.floats(100, 900), radius=st.floats(20, 400),
    points=st.integers(3, 700), seed=st.integers(0, 99),
)  # fmt: skip
def test_fractions_are_those_of_plain_geometry(x, y, radius, points, seed):
    """However many vertices the outline has: it is cut into pieces, and no area is lost."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    reach = radius * np.random.default_rng(seed).uniform(0.5, 1, points)
    star = Polygon(np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], 1))
    if not star.is_valid or star.area == 0:
        return
    fields = shapely.box(*CORNERS.T, CORNERS[:, 0] + 90, CORNERS[:, 1] + 90)
    expected = shapely.area(shapely.intersection(fields, star)) / 8100
    np.testing.assert_allclose(
        fractions_inside([Outline("", star)], CORNERS, (90, 90)), expected, atol=1e-9
    )


def test_an_outline_is_a_valid_area():
    with pytest.raises(ValueError, match="valid polygon"):
        Outline("", Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]))
    with pytest.raises(ValueError, match="valid polygon"):
        Outline("", Polygon())
    with pytest.raises(TypeError, match="not a Point"):
        Outline("", shapely.Point(0, 0))

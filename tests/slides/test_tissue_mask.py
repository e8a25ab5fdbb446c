"""Somebody's tissue mask in place of the one we find."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon, box
from slide_files import tissue_slide

from wsi_anomaly.annotations.masks import rasterized
from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.slides import BACKGROUND, TISSUE, TissueMap, open_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tissue_slide(tmp_path_factory.mktemp("mask") / "slide.tif", mpp=0.5)
    with open_slide(path) as opened:
        yield opened


def test_outlines_with_holes_become_tissue_where_they_lie(slide):
    ring = box(208, 160, 992, 800).difference(box(400, 320, 720, 480))
    tissue = TissueMap.from_polygons(slide, [ring, box(1104, 880, 1200, 976)])
    assert tissue.labels.shape == (64, 80)
    assert set(np.unique(tissue.labels)) == {BACKGROUND, TISSUE}
    assert tissue.area_mm2() * 1e6 == pytest.approx((ring.area + 96 * 96) / 4, rel=0.02)
    back = tissue.polygons(min_area_um2=100)
    both = shapely.union_all([ring, box(1104, 880, 1200, 976)])
    assert back.intersection(both).area / back.union(both).area > 0.97
    assert tissue.white == pytest.approx((243, 243, 243), abs=2)


def test_outlines_may_be_multipolygons_and_reach_beyond_the_slide(slide):
    wanted = MultiPolygon([box(-500, -500, 160, 160), box(1120, 864, 4000, 4000)])
    tissue = TissueMap.from_polygons(slide, [wanted])
    assert tissue.labels[:10, :10].all()
    assert tissue.labels[54:, 70:].all()
    assert tissue.labels.sum() == 10 * 10 + 10 * 10


def test_outlines_in_another_frame_are_refused(slide):
    with pytest.raises(AnnotationError, match=r"marks nothing.*slide\.tif"):
        TissueMap.from_polygons(slide, [box(5000, 5000, 6000, 6000)])
    with pytest.raises(AnnotationError, match="marks nothing"):
        TissueMap.from_polygons(slide, [])


@pytest.mark.parametrize("scale", [4, 16, 37.5])
def test_a_mask_image_covers_the_slide_at_any_scale(slide, scale):
    height, width = round(1024 / scale), round(1280 / scale)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 2 :] = 255
    tissue = TissueMap.from_image(slide, mask)
    left, top, right, bottom = tissue.polygons(min_area_um2=100).bounds
    assert (left, top) == pytest.approx((640, 256), abs=40)
    assert (right, bottom) == pytest.approx((1280, 512), abs=40)


def test_a_mask_of_another_slide_is_refused(slide):
    with pytest.raises(AnnotationError, match="does not cover"):
        TissueMap.from_image(slide, np.ones((1024, 1400), bool))
    with pytest.raises(AnnotationError, match="does not cover"):
        TissueMap.from_image(slide, np.ones((1280, 1024), bool))
    with pytest.raises(AnnotationError, match="marks nothing"):
        TissueMap.from_image(slide, np.zeros((1024, 1280), bool))
    with pytest.raises(AnnotationError, match="one channel"):
        TissueMap.from_image(slide, np.ones((1024, 1280, 3), bool))


@given(
    corners=st.lists(
        st.tuples(st.floats(-20, 60), st.floats(-20, 60)), min_size=3, max_size=6, unique=True
    )
)
def test_rasterizing_agrees_with_point_in_polygon(corners):
    polygon = shapely.convex_hull(shapely.multipoints(corners))
    if not isinstance(polygon, Polygon):
        return
    hole = shapely.affinity.scale(polygon, 0.4, 0.4)
    polygon = polygon.difference(hole)
    if not isinstance(polygon, Polygon):
        return
    mask = rasterized(polygon, (40, 50))
    y, x = np.mgrid[:40, :50] + 0.5
    edge = shapely.distance(polygon.boundary, shapely.points(x, y)) < 1e-6
    inside = shapely.contains_xy(polygon, x, y)
    assert ((mask == inside) | edge).all()

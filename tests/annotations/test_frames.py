"""The frame of a file of outlines: who decides it, and that nothing moves on the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from outline_files import write_asap
from score_map_fakes import fake_score_map

from wsi_anomaly.annotations import Extent, Outline, read_outlines, write_geojson
from wsi_anomaly.annotations.outlines import TISSUE
from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.results import write_geojson as write_overlay
from wsi_anomaly.results.frame import Frame

corners = st.tuples(st.integers(0, 60_000), st.integers(0, 60_000))
origins = st.sampled_from(["bounds", "level0"])


def extent(corner, origin="bounds", side=80_000):
    """A slide scanned from `corner` on."""
    whole = (corner[0] + side, corner[1] + side)
    return Extent(Path("slide.mrxs"), whole, (*corner, side, side), origin)


@given(corner=corners, origin=origins, x=st.floats(0, 9000), y=st.floats(0, 9000))
def test_what_qupath_exported_lies_where_it_was_drawn(tmp_path, corner, origin, x, y):
    drawn = Outline("Tumor", shapely.box(x, y, x + 500, y + 300))
    slide = extent(corner, origin)
    write_geojson(tmp_path / "a.geojson", [drawn], "slide")
    (found,) = read_outlines(tmp_path / "a.geojson", slide)
    by = corner if origin == "bounds" else (0, 0)
    expected = shapely.transform(drawn.polygon, lambda xy: xy + by)
    assert found.polygon.symmetric_difference(expected).area < 20  # QuPath's grid of 0.01 px


@given(corner=corners, stated=corners, origin=origins)
def test_a_file_that_says_where_it_counts_from_is_believed(tmp_path, corner, stated, origin):
    drawn = Outline("Tumor", shapely.box(0, 0, 500, 300))
    write_geojson(tmp_path / "a.geojson", [drawn], "slide", corner=stated)
    (found,) = read_outlines(tmp_path / "a.geojson", extent(corner, origin, side=90_000))
    assert found.polygon.bounds[:2] == stated


@given(corner=corners, written=origins, read=origins, seed=st.integers(0, 9), gzip=st.booleans())
def test_our_overlay_comes_back_in_the_pixels_of_the_slide(
    tmp_path_factory, corner, written, read, seed, gzip
):
    score_map = fake_score_map(seed, origin=corner)
    facts = score_map.slide
    folder = tmp_path_factory.mktemp("overlay")
    path = write_overlay(folder, score_map, frame=Frame.of(facts, written), gzip=gzip)
    b = facts.bounds
    size, bounds = (facts.width, facts.height), (b.x, b.y, b.width, b.height)
    found = read_outlines(path, Extent(Path("slide.mrxs"), size, bounds, read))
    (tissue,) = [outline.polygon for outline in found if outline.label == TISSUE]
    assert tissue.symmetric_difference(score_map.tissue).area < 1
    regions = [outline.polygon for outline in found if outline.label == "Anomalous"]
    expected = [region.outline for region in score_map.interpretation.regions]
    assert shapely.symmetric_difference(
        shapely.union_all(regions), shapely.union_all(expected)
    ).area == pytest.approx(0, abs=1)


def test_asap_counts_from_the_file_and_a_mask_covers_the_scanned_area(tmp_path):
    from PIL import Image

    slide = extent((512, 256), side=1000)
    write_asap(tmp_path / "a.xml", [Outline("Tumor", shapely.box(600, 300, 700, 400))])
    (outline,) = read_outlines(tmp_path / "a.xml", slide)
    assert outline.polygon.bounds == (600, 300, 700, 400)
    Image.new("L", (50, 50), 255).save(tmp_path / "a.png")
    (outline,) = read_outlines(tmp_path / "a.png", slide, label="Tumor")
    assert outline.polygon.bounds == (512, 256, 1512, 1256)


def test_a_damaged_statement_and_outlines_beyond_the_slide_are_named(tmp_path):
    path = tmp_path / "a.geojson"
    write_geojson(path, [Outline("", shapely.box(0, 0, 9, 9))], "slide", corner=(7, 7))
    path.write_text(path.read_text().replace("[7,7]", '["7",7]'))
    with pytest.raises(AnnotationError, match="is no place; write it again"):
        read_outlines(path, extent((0, 0)))
    write_geojson(path, [Outline("", shapely.box(0, 0, 9, 9))], "slide", corner=(-100, 0))
    with pytest.raises(AnnotationError, match=r"a\.geojson was not drawn on slide\.mrxs: 100%"):
        read_outlines(path, extent((0, 0)))

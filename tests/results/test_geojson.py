"""What QuPath makes of overlay.geojson."""

from __future__ import annotations

import gzip
import json
import re
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qupath_rules import check_geometry, read_as_qupath
from score_map_fakes import fake_calibration, fake_score_map
from shapely.geometry import MultiPolygon, box, mapping, shape

from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.geojson import NAMESPACE, tile_ids, write_geojson

CALIBRATION = fake_calibration()


@given(
    seed=st.integers(0, 10_000),
    grid=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    mpp=st.floats(0.1, 1.0),
    stride=st.sampled_from([64.0, 32.0, 48.0]),
    origin=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    calibrated=st.booleans(),
    lesions=st.integers(0, 4),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    density=st.floats(0.1, 1.0),
    qupath_origin=st.sampled_from(["bounds", "level0"]),
    compress=st.booleans(),
)
@settings(max_examples=60)
def test_qupath_takes_every_object(
    tmp_path_factory, seed, grid, mpp, stride, origin, calibrated, lesions, missing, density,
    qupath_origin, compress,
):  # fmt: skip
    score_map = fake_score_map(
        seed, shape=grid, mpp=mpp, stride_um=stride, origin=origin, lesions=lesions,
        missing=missing, density=density, calibration=CALIBRATION if calibrated else None,
    )  # fmt: skip
    frame = Frame.of(score_map.slide, qupath_origin)
    folder = tmp_path_factory.mktemp("geojson")
    path = write_geojson(folder, score_map, frame=frame, gzip=compress)
    features = read_as_qupath(path)
    tiles = [f for f in features if f["properties"]["objectType"] == "tile"]
    assert len(tiles) == len(score_map.fields)
    for tile, score, corner in zip(tiles, score_map.score, score_map.fields.coords, strict=True):
        measures = tile["properties"]["measurements"]
        name = tile["properties"]["classification"]["name"]
        if np.isnan(score):
            assert name == "Not assessed"
            assert measures == {}
        else:
            assert measures["Anomaly score"] == pytest.approx(score, rel=1e-5)
            assert ("Anomaly percentile" in measures) == calibrated
            comparable = not score_map.interpretation.incomparable
            assert ("Approximate p-value" in measures) == (calibrated and comparable)
            assert calibrated == (name != "Not calibrated")
        x0, y0, *_ = shape(tile["geometry"]).bounds
        assert [x0 + frame.x, y0 + frame.y] == corner.tolist()


def annotations(path):
    return [f for f in read_as_qupath(path) if f["properties"]["objectType"] == "annotation"]


def test_regions_lie_on_their_flagged_tiles(tmp_path):
    score_map = fake_score_map(3, calibration=CALIBRATION)
    path = write_geojson(tmp_path, score_map)
    regions = [
        shape(f["geometry"])
        for f in annotations(path)
        if f["properties"]["classification"]["name"] == "Anomalous"
    ]
    assert len(regions) == len(score_map.interpretation.regions) >= 1
    flagged = [
        shape(f["geometry"])
        for f in read_as_qupath(path)
        if f["properties"]["objectType"] == "tile"
        and f["properties"]["classification"]["name"] == "Anomalous"
    ]
    assert len(flagged) == score_map.interpretation.flagged.sum()
    for tile in flagged:
        assert max(r.intersection(tile).area for r in regions) > 0.95 * tile.area
    facts = annotations(path)[1]["properties"]["measurements"]
    assert facts["Area mm^2"] == pytest.approx(score_map.interpretation.regions[0].area_mm2)
    assert facts["Area mm^2"] <= regions[0].area * 0.25 / 1e6  # of tissue: the rest is glass


def test_tissue_of_one_piece_is_a_polygon(tmp_path):
    score_map = fake_score_map(0)
    (piece,) = score_map.tissue.geoms
    tissue, *_ = annotations(write_geojson(tmp_path, score_map))
    assert tissue["properties"]["name"] == "Tissue"
    assert tissue["geometry"]["type"] == "Polygon"
    assert shape(tissue["geometry"]).area == piece.area


def test_the_contract_refuses_a_multipolygon_of_one_part():
    area = MultiPolygon([box(0, 0, 9, 9)])
    with pytest.raises(AssertionError, match="of one part"):
        check_geometry(json.loads(json.dumps(mapping(area))))
    check_geometry(json.loads(json.dumps(mapping(area.geoms[0]))))


def test_origin_is_that_of_the_visible_image(tmp_path):
    score_map = fake_score_map(0, origin=(1000, 500))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shown = write_geojson(tmp_path / "a", score_map)
    whole = write_geojson(tmp_path / "b", score_map, frame=Frame.of(score_map.slide, "level0"))

    def corner(path):
        return min(shape(f["geometry"]).bounds[:2] for f in read_as_qupath(path))

    assert corner(shown) == (0, 0)
    assert corner(whole) == (1000, 500)
    assert json.loads(whole.read_text())["wsi_anomaly"]["qupath_origin"] == "level0"


def test_the_same_result_gives_the_same_file_and_compressed_the_same_content(tmp_path):
    score_map = fake_score_map(0, calibration=CALIBRATION)
    first = write_geojson(tmp_path, score_map).read_bytes()
    assert write_geojson(tmp_path, score_map).read_bytes() == first
    packed = write_geojson(tmp_path, score_map, gzip=True)
    assert packed.name == "overlay.geojson.gz"
    assert gzip.decompress(packed.read_bytes()) == first
    once = packed.read_bytes()
    assert write_geojson(tmp_path, score_map, gzip=True).read_bytes() == once


def test_ids_are_real_uuid5():
    rows, cols = np.array([0, 7, 123456]), np.array([0, 99, 1])
    expected = [
        str(uuid.uuid5(NAMESPACE, f"abc/tile/{r},{c}")) for r, c in zip(rows, cols, strict=True)
    ]
    assert tile_ids(b"abc/tile/", rows, cols) == expected


def test_provenance_stands_at_the_top_where_qupath_ignores_it(tmp_path):
    path = write_geojson(tmp_path, fake_score_map(0), provenance={"model": 'a "quoted" name'})
    assert json.loads(path.read_text())["wsi_anomaly"]["model"] == 'a "quoted" name'
    read_as_qupath(path)


def test_the_reference_names_every_measurement_and_class_that_qupath_shows(tmp_path):
    score_map = fake_score_map(3, lesions=3, missing=0.3, calibration=CALIBRATION)
    features = read_as_qupath(write_geojson(tmp_path, score_map))
    page = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    part = page[page.index("## Measurements and classes in QuPath") :].split("\n## ")[0]
    named = set(re.findall(r"`([^`\n]+)`", part))
    shown = {m for f in features for m in f["properties"]["measurements"]}
    classes = {f["properties"]["classification"]["name"] for f in features}
    titles = {f["properties"].get("name", "").rstrip(" 0123456789") for f in features} - {""}
    assert {"Anomaly score", "Area mm^2", "Fields"} <= shown
    assert {re.sub(r"(Anomaly score: ).*", r"\1<method>", m) for m in shown} | classes <= named
    for title in titles:
        kind = title.split(":")[0]
        assert any(name.startswith(kind) for name in named), title

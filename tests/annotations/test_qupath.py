"""QuPath's GeoJSON in and out."""

from __future__ import annotations

import gzip
import json
import uuid

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.annotations import Outline, read_geojson, read_outlines, write_geojson
from wsi_anomaly.core.errors import AnnotationError

SQUARE = [[[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]]


def feature(coordinates=SQUARE, kind="Polygon", **properties):
    return {
        "type": "Feature",
        "id": str(uuid.uuid4()),
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "annotation", **properties},
    }


@pytest.fixture
def read(tmp_path):
    def reader(document):
        path = tmp_path / "export.geojson"
        text = document if isinstance(document, str) else json.dumps(document)
        path.write_text(text, encoding="utf-8")
        return read_outlines(path)

    return reader


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: {"type": "FeatureCollection", "features": [one]},
        lambda one: [one],
        lambda one: one,
    ],
)
def test_collection_list_and_single_feature(read, wrap):
    (outline,) = read(wrap(feature(classification={"name": "Tumor", "color": [1, 2, 3]})))
    assert outline.label == "Tumor"
    assert outline.polygon.area == 10_000


def test_labels_as_qupath_has_written_them(read):
    features = [
        feature(classification={"name": "Tumor: in situ", "colorRGB": -3670016}),
        feature(classification="Stroma"),
        feature(),
        feature(classification=None),
        feature(classification={"names": ["Tumor", "in situ"], "color": [200, 0, 0]}),
        feature(classification={"names": ["Stroma"], "color": [200, 0, 0]}),
        feature(classification={"name": None}),
    ]
    labels = ["Tumor: in situ", "Stroma", "", "", "Tumor: in situ", "Stroma", ""]
    assert [o.label for o in read(features)] == labels


def test_what_encloses_nothing_is_left_out_of_the_good_ones_and_counted(tmp_path):
    path = tmp_path / "export.geojson"
    features = [
        feature([3, 4], "Point"),
        feature([[3, 4], [9, 4]], "MultiPoint"),
        feature(),
        feature([[0, 0], [5, 5]], "LineString"),
        feature([[[0, 0], [5, 5]]], "MultiLineString"),
        feature([[[0, 0], [1, 1], [2, 2], [0, 0]]]),
        {"type": "Feature", "geometry": None, "properties": {}},
    ]
    path.write_text(json.dumps(features))
    said: list[str] = []
    assert len(read_outlines(path, note=said.append)) == 1
    assert len(said) == 1
    assert "export.geojson: 6 of 7 objects are points or lines" in said[0]


def test_a_collection_is_its_areas(read):
    one = feature()
    line = {"type": "LineString", "coordinates": [[0, 0], [500, 500]]}
    far = {"type": "Polygon", "coordinates": [[[200, 0], [210, 0], [210, 10], [200, 0]]]}
    one["geometry"] = {"type": "GeometryCollection", "geometries": [one["geometry"], line, far]}
    (outline,) = read([one])
    assert outline.polygon.area == 10_050


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_byte_order_mark_and_other_encodings_do_no_harm(tmp_path, encoding, pack):
    path = tmp_path / ("a.geojson" if pack is bytes else "a.geojson.gz")
    text = json.dumps([feature(classification={"name": "Tumör"})], ensure_ascii=False)
    path.write_bytes(pack(text.encode(encoding)))
    assert [outline.label for outline in read_outlines(path)] == ["Tumör"]


def test_measurements_that_are_no_numbers_do_no_harm(read):
    text = json.dumps([feature(measurements={"Area": float("nan"), "Ratio": float("inf")})])
    assert "NaN" in text
    assert len(read(text)) == 1


def test_a_bow_tie_is_repaired_and_pieces_of_a_multipolygon_stay_together(read):
    bow_tie = [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]
    two = [SQUARE, [[[200, 0], [210, 0], [210, 10], [200, 0]]]]
    first, second = read([feature(bow_tie), feature(two, "MultiPolygon")])
    assert first.polygon.is_valid
    assert first.polygon.area == 50
    assert isinstance(second.polygon, MultiPolygon)
    assert second.polygon.area == 10_050


def test_gzipped_exports_are_read(tmp_path):
    path = tmp_path / "export.geojson.gz"
    path.write_bytes(gzip.compress(json.dumps([feature()]).encode()))
    assert len(read_outlines(path)) == 1
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AnnotationError, match=r"export\.geojson\.gz"):
        read_outlines(path)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "no JSON"),
        ({"type": "Topology"}, "no GeoJSON features"),
        ([{"type": "Polygon"}], "object 1: it is no GeoJSON feature"),
        ([feature(), feature([3, 4], "Sphere")], "object 2: its geometry is Sphere"),
        ([feature([3, 4], "Point"), feature([[0, 0], [9, 9]], "LineString")], r"objects \(2\)"),
        ([feature([[[0, 0], [1, 1], [0, 0]]])], "fewer than four points"),
        ([feature([[[0, 0], [1, 1], [2, 2], [0, 0]]])], "encloses nothing"),
        ([feature([[[0, 0], [9, 0], [9, 9], [0, 9]]])], "not closed"),
        ([feature([[["0", 0], [9, 0], [9, 9], ["0", 0]]])], "no pair of pixel coordinates"),
        ([feature([])], "outline is empty"),
        ([feature(classification={"name": 7})], "classification has no name"),
        ([feature(classification={"names": ["Tumor", 7]})], "classification has no name"),
        ([feature(classification={"class": "Tumor"})], "classification has no name"),
        ([feature(classification="\ud800")], "classification has no name"),
    ],
)
def test_a_bad_file_is_one_sentence_that_says_where(read, document, says):
    with pytest.raises(AnnotationError, match=says) as caught:
        read(document)
    assert "export.geojson" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_geojson(tmp_path / "none.geojson")


def test_what_is_written_is_what_qupath_accepts(tmp_path):
    path = tmp_path / "out.geojson"
    outlines = [Outline("Lesion", shapely.box(0, 0, 9, 9)), Outline("", shapely.box(20, 0, 29, 9))]
    write_geojson(path, outlines, "slide")
    document = json.loads(path.read_text())
    assert document["type"] == "FeatureCollection"
    first, second = document["features"]
    assert first["properties"]["objectType"] == "annotation"
    assert first["properties"]["classification"]["name"] == "Lesion"
    assert len(first["properties"]["classification"]["color"]) == 3
    assert "classification" not in second["properties"]
    ids = [str(uuid.UUID(one["id"])) for one in document["features"]]
    assert len(set(ids)) == 2
    # A second export of the same outlines gives the same ids: QuPath notices a double import.
    write_geojson(path, outlines, "slide")
    assert [one["id"] for one in json.loads(path.read_text())["features"]] == ids
    write_geojson(path, outlines, "another slide")
    assert json.loads(path.read_text())["features"][0]["id"] != ids[0]


def test_one_part_is_written_as_a_polygon(tmp_path):
    # QuPath 0.4.0 to 0.5.1 import nothing of a file with a MultiPolygon of one part.
    path = tmp_path / "out.geojson"
    near, far = shapely.box(0, 0, 9, 9), shapely.box(20, 0, 29, 9)
    outlines = [Outline("", MultiPolygon([near])), Outline("", MultiPolygon([near, far]))]
    write_geojson(path, outlines, "slide")
    geometries = [one["geometry"] for one in json.loads(path.read_text())["features"]]
    assert [one["type"] for one in geometries] == ["Polygon", "MultiPolygon"]
    assert [shapely.geometry.shape(one).area for one in geometries] == [81, 162]


@given(
    x=st.floats(0, 150_000), y=st.floats(0, 150_000), size=st.floats(30, 5000),
    label=st.text(max_size=20),
)  # fmt: skip
def test_what_was_written_is_read_back(tmp_path, x, y, size, label):
    ring = Polygon(
        shapely.box(x, y, x + size, y + size).exterior,
        [shapely.box(x + 5, y + 5, x + size / 2, y + size / 2).exterior.coords],
    )
    outline = Outline(label, ring)
    write_geojson(tmp_path / "round.geojson", [outline], "slide")
    (back,) = read_geojson(tmp_path / "round.geojson")
    assert back.label == label
    apart = back.polygon.symmetric_difference(ring).area
    assert apart <= 0.01 * ring.length + 0.01  # QuPath's grid of 0.01 px

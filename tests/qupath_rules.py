"""QuPath's GeoJSON reader, replayed as assertions (0.4.0 to 0.7; a rule per line).

Only what that reader really does: whatever would be dropped, changed or refused fails here.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

from shapely.geometry import shape

OBJECT_TYPES = {"annotation", "detection", "tile", "cell"}
GEOMETRIES = {"Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon"}
DASHED_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
MOST_ANNOTATIONS = 1000


def _no_constants(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON; QuPath 0.4 fails on it")


def read_as_qupath(path: Path) -> list[dict[str, Any]]:
    """Features of a file, each checked."""
    assert path.name.endswith((".geojson", ".geojson.gz")), "QuPath imports by these suffixes"
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.name.endswith(".gz") else raw
    document = json.loads(text, parse_constant=_no_constants)
    if isinstance(document, list):
        features = document
    elif document["type"] == "FeatureCollection":
        features = document["features"]
    else:
        assert document["type"] == "Feature"
        features = [document]
    ids = [check_feature(feature) for feature in features]
    assert len(set(ids)) == len(ids), "objects with one id replace each other"
    annotations = [f for f in features if f["properties"]["objectType"] == "annotation"]
    assert len(annotations) <= MOST_ANNOTATIONS, "QuPath crawls with so many annotations"
    return features


def check_feature(feature: dict[str, Any]) -> str:
    assert feature["type"] == "Feature"
    assert "objectType" not in feature, "beside properties it is ignored"
    assert DASHED_UUID.fullmatch(feature["id"]), "another id is dropped"
    properties = feature["properties"]
    assert properties["objectType"] in OBJECT_TYPES, "else it becomes an annotation"
    classification = properties.get("classification")
    if isinstance(classification, dict):
        assert isinstance(classification["name"], str)
        assert classification["name"]
        color = classification["color"]
        assert len(color) == 3, "without a colour the whole file fails"
        assert all(isinstance(c, int) and 0 <= c <= 255 for c in color)
    else:
        assert classification is None or isinstance(classification, str)
    measurements = properties.get("measurements", {})
    assert isinstance(measurements, dict)
    for name, value in measurements.items():
        assert isinstance(name, str)
        assert not isinstance(value, bool)
        assert isinstance(value, int | float)
        assert math.isfinite(value)
    check_geometry(feature["geometry"])
    return feature["id"]


def check_geometry(geometry: dict[str, Any]) -> None:
    assert geometry["type"] in GEOMETRIES, "a GeometryCollection throws"
    parts = geometry["coordinates"]
    one = geometry["type"].startswith("Multi") and len(parts) == 1
    assert not one, "0.4.0 to 0.5.1 import nothing of a file with a Multi geometry of one part"
    area = shape(geometry)
    assert not area.is_empty
    assert area.is_valid, "an invalid polygon is repaired or lost"
    assert area.area > 0
    for value in flatten(geometry["coordinates"]):
        assert math.isfinite(value)
        assert abs(value * 100 - round(value * 100)) < 1e-5, "coordinates snap to 0.01 px"


def flatten(coordinates: Any) -> list[float]:
    if isinstance(coordinates, int | float):
        return [float(coordinates)]
    return [value for part in coordinates for value in flatten(part)]

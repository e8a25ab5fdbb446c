"""QuPath's GeoJSON: annotations that QuPath 0.4 to 0.7 opens, and that it exported.

QuPath's reader decides what is right here: ``objectType`` inside ``properties``, ids that are
dashed UUIDs, a classification with a name and a colour, no GeometryCollection.
"""

from __future__ import annotations

import math
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import shapely
from shapely.geometry import MultiPolygon, Polygon, mapping

from wsi_anomaly.annotations.outlines import Outline
from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.core.files import atomic_file

_NAMESPACE = uuid.UUID("6a9e2a52-5d6c-5f0e-9a8e-0d5c7b1f4e11")
_GRID_PX = 0.01  # QuPath snaps coordinates to it
_FARTHEST_PX = 2.0**31
_COLORS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (140, 86, 75))


def write_geojson(
    path: str | os.PathLike[str], outlines: Iterable[Outline], slide_name: str
) -> None:
    """Write outlines as QuPath annotations.

    The same outlines of the same slide get the same ids, so that QuPath notices a double import.

    Parameters
    ----------
    path
        The ``.geojson`` file; replaced when it exists.
    outlines
        Areas in level-0 pixels.
    slide_name
        Name of the slide, part of every id and kept in the file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    features = [_feature(outline, i, slide_name) for i, outline in enumerate(outlines)]
    document = {"type": "FeatureCollection", "slide": slide_name, "features": features}
    with atomic_file(path) as partial:
        partial.write_bytes(orjson.dumps(document))


def read_geojson(path: str | os.PathLike[str]) -> list[Outline]:
    """Outlines of a GeoJSON file, in the file's order.

    Taken: a FeatureCollection, one Feature or a bare list of them, with polygons and
    multipolygons. The label is the classification's name, empty without one. Self-crossing
    outlines are repaired.

    Raises
    ------
    AnnotationError
        The file is missing, no GeoJSON, or holds something other than outlines with an area.
    """
    path = Path(path)
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read ({error.strerror}); check the path of the annotations."
        ) from error
    except orjson.JSONDecodeError as error:
        raise AnnotationError(
            f"{path} is no JSON ({error}); export the annotations from QuPath as GeoJSON."
        ) from error
    outlines = []
    for number, feature in enumerate(_features(document, path), start=1):
        try:
            outlines.append(_outline(feature))
        except _UnusableError as error:
            raise AnnotationError(
                f"{path}, object {number}: {error}; remove or redraw it and export again."
            ) from error
    return outlines


class _UnusableError(Exception):
    """Why one feature is no outline."""


def _feature(outline: Outline, index: int, slide_name: str) -> dict[str, Any]:
    snapped = shapely.set_precision(outline.polygon, _GRID_PX)
    polygon = outline.polygon if snapped.is_empty else snapped
    name = f"{slide_name}/{index}/{outline.label}/{shapely.to_wkb(polygon, hex=True)}"
    properties: dict[str, Any] = {"objectType": "annotation"}
    if outline.label:
        color = _COLORS[zlib.crc32(outline.label.encode()) % len(_COLORS)]
        properties["classification"] = {"name": outline.label, "color": list(color)}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, name)),
        "geometry": mapping(polygon),
        "properties": properties,
    }


def _features(document: Any, path: Path) -> Iterator[Any]:
    if isinstance(document, dict) and document.get("type") == "Feature":
        yield document
        return
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        document = document.get("features")
    if not isinstance(document, list):
        raise AnnotationError(
            f"{path} holds no GeoJSON features; export the annotations from QuPath as GeoJSON."
        )
    yield from document


def _outline(feature: Any) -> Outline:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise _UnusableError("it is no GeoJSON feature")
    geometry = feature.get("geometry")
    geometry = geometry if isinstance(geometry, dict) else {}
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        raise _UnusableError(f"its geometry is {kind or 'missing'}, not a Polygon or MultiPolygon")
    coordinates = geometry.get("coordinates")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list) or not parts:
        raise _UnusableError("its outline is empty")
    polygons = [_polygon(rings) for rings in parts]
    area = polygons[0] if kind == "Polygon" else MultiPolygon(polygons)
    if not area.is_valid:
        area = _areas_only(shapely.make_valid(area))
    if area.is_empty or area.area == 0:
        raise _UnusableError("its outline encloses nothing")
    return Outline(_label(feature.get("properties")), area)


def _polygon(rings: Any) -> Polygon:
    if not isinstance(rings, list) or not rings:
        raise _UnusableError("its outline is empty")
    checked = [_ring(ring) for ring in rings]
    return Polygon(checked[0], checked[1:])


def _ring(ring: Any) -> list[tuple[float, float]]:
    if not isinstance(ring, list) or len(ring) < 4:
        raise _UnusableError("one of its rings has fewer than four points")
    points = []
    for point in ring:
        if not isinstance(point, list) or len(point) < 2 or not all(map(_is_pixel, point[:2])):
            raise _UnusableError("one of its points is no pair of pixel coordinates")
        points.append((float(point[0]), float(point[1])))
    if points[0] != points[-1]:
        raise _UnusableError("one of its rings is not closed")
    return points


def _is_pixel(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) < _FARTHEST_PX


def _areas_only(geometry: Any) -> Polygon | MultiPolygon:
    """Keep the areas of a repaired outline, drop stray lines and points."""
    parts = [p for p in shapely.get_parts(geometry) if isinstance(p, Polygon | MultiPolygon)]
    polygons = [p for part in parts for p in shapely.get_parts(part) if p.area > 0]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def _label(properties: Any) -> str:
    classification = properties.get("classification") if isinstance(properties, dict) else None
    name = classification.get("name") if isinstance(classification, dict) else classification
    if name is None:
        return ""
    if not isinstance(name, str):
        raise _UnusableError("its classification has no name")
    return name

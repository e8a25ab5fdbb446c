"""QuPath's GeoJSON: annotations that QuPath 0.4 to 0.7 opens, and that it exported.

QuPath's reader decides what is right here: ``objectType`` inside ``properties``, ids that are
dashed UUIDs, a classification with a name and a colour, no GeometryCollection.
"""

from __future__ import annotations

import gzip
import json
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import shapely
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.annotations.frame import Extent, moved
from wsi_anomaly.annotations.geometry import (
    UnusableError,
    WithoutAreaError,
    area_of,
    color_of,
    geojson_geometry,
    is_pixel,
)
from wsi_anomaly.annotations.outlines import Note, Outline, say_without_area
from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.core.files import atomic_file

FACTS, CORNER = "wsi_anomaly", "qupath_origin_level0"
"""Where a file of ours says, at its top, which level-0 position it counts from."""

_NAMESPACE = uuid.UUID("6a9e2a52-5d6c-5f0e-9a8e-0d5c7b1f4e11")
_GRID_PX = 0.01  # QuPath snaps coordinates to it
_DESCRIPTION = "ANNOTATION_DESCRIPTION"  # QuPath's name for it among an object's metadata
_WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
_LARGEST_BYTES = 1 << 30  # unpacked; QuPath itself gives up well before


def write_geojson(
    path: str | os.PathLike[str],
    outlines: Iterable[Outline],
    slide_name: str,
    *,
    corner: tuple[float, float] | None = None,
) -> None:
    """Write outlines as QuPath annotations.

    The same outlines of the same slide get the same ids, so that QuPath notices a double import.

    Parameters
    ----------
    path
        The ``.geojson`` file; replaced when it exists.
    outlines
        Areas in pixels of the full resolution.
    slide_name
        Name of the slide, part of every id and kept in the file.
    corner
        Level-0 position that the outlines count from, kept in the file; None: QuPath's (0, 0).

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    features = [_feature(outline, i, slide_name) for i, outline in enumerate(outlines)]
    facts = {} if corner is None else {FACTS: {CORNER: corner}}
    document = {"type": "FeatureCollection", "slide": slide_name, **facts, "features": features}
    with atomic_file(path) as partial:
        partial.write_bytes(orjson.dumps(document))


def read_geojson(
    path: str | os.PathLike[str],
    slide: Extent | None = None,
    *,
    note: Note = lambda _text: None,
) -> list[Outline]:
    """Outlines of a GeoJSON file, in the file's order.

    They count from where the file says that they do, as our overlays do, else from QuPath's
    (0, 0) on the slide. Without `slide` they are given as the file has them. Of our own overlay
    the tiles are passed over: a grid is no outline.

    Taken: a FeatureCollection, one Feature or a bare list of them, with polygons, multipolygons
    and collections of them, as ``.geojson`` or ``.geojson.gz``. The label is the classification's
    name, that of a derived class as QuPath shows it ("Tumor: Necrosis"), empty without one.
    Self-crossing outlines are repaired. `note` is told how many objects have no area.

    Raises
    ------
    AnnotationError
        The file is missing, no GeoJSON, or holds nothing that has an area, or what is no outline.
    """
    path = Path(path)
    return [outline for outline, _ in outlines_of(read_document(path), path, slide, note=note)]


def read_document(path: Path) -> Any:
    """Read what a GeoJSON file holds, as Python's lists and mappings.

    Raises
    ------
    AnnotationError
        It cannot be read, or is no JSON.
    """
    try:
        return _parsed(_content(path))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise AnnotationError(
            f"{path} cannot be read ({reason}); check the path of the annotations."
        ) from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"{path} is no JSON ({error}); export the annotations from QuPath as GeoJSON."
        ) from error


def outlines_of(
    document: Any,
    path: Path,
    slide: Extent | None = None,
    *,
    note: Note = lambda _text: None,
) -> list[tuple[Outline, Mapping[str, Any]]]:
    """Give the outlines of a document as :func:`read_geojson` does, each with its feature."""
    facts = document.get(FACTS) if isinstance(document, dict) else None
    outlines = []
    without = 0
    for number, feature in enumerate(_features(document, path), start=1):
        if facts and _is_tile(feature):
            continue
        try:
            outlines.append((_outline(feature), feature))
        except WithoutAreaError:
            without += 1
        except UnusableError as error:
            raise AnnotationError(
                f"{path}, object {number}: {error}; remove or redraw it and export again."
            ) from error
    say_without_area(path, without, without + len(outlines), note)
    if slide is None:
        return outlines
    corner = _stated_corner(facts, path) or slide.qupath_corner
    return [(moved(outline, corner), feature) for outline, feature in outlines]


def area_from_geojson(geometry: Any) -> Polygon | MultiPolygon:
    """Read the geometry of one place that anybody may have written; repaired where it crosses.

    Raises
    ------
    AnnotationError
        It is no area.
    """
    try:
        return area_of(_parts(geometry))
    except UnusableError as error:
        raise AnnotationError(f"An outline cannot be used: {error}.") from error


def _stated_corner(facts: Any, path: Path) -> tuple[float, float] | None:
    """Level-0 position that a file of ours counts from; None where it does not say."""
    stated = facts.get(CORNER) if isinstance(facts, dict) else None
    if stated is None:
        return None
    if not (isinstance(stated, list) and len(stated) == 2 and all(map(is_pixel, stated))):
        raise AnnotationError(
            f"{path} is damaged: its {FACTS}.{CORNER} is no place; write it again."
        )
    return stated[0], stated[1]


def _is_tile(feature: Any) -> bool:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return isinstance(properties, dict) and properties.get("objectType") == "tile"


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        # More slowly, but with a byte order mark, in UTF-16, or with NaN among measurements.
        return json.loads(content)


def _content(path: Path) -> bytes:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        content: bytes = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise AnnotationError(
            f"{path} holds more than {_LARGEST_BYTES >> 20} MB; "
            "export only the annotations that are needed."
        )
    return content


def _feature(outline: Outline, index: int, slide_name: str) -> dict[str, Any]:
    polygon = _snapped(outline.polygon)
    name = f"{slide_name}/{index}/{outline.label}/{shapely.to_wkb(polygon, hex=True)}"
    return annotation(outline, uuid.uuid5(_NAMESPACE, name))


def annotation(
    outline: Outline, identity: uuid.UUID, metadata: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write an outline as a feature that QuPath takes, with what its list of objects shows beside.

    Parameters
    ----------
    outline
        An area in pixels as QuPath counts them.
    identity
        The object's id.
    metadata
        Text by name, which QuPath 0.5 and later keeps with the object.
    """
    properties: dict[str, Any] = {"objectType": "annotation"}
    if outline.label:
        color = list(color_of(outline.label))
        properties["classification"] = {"name": outline.label, "color": color}
    if metadata:
        properties["metadata"] = dict(metadata)
    return {
        "type": "Feature",
        "id": str(identity),
        "geometry": geojson_geometry(_snapped(outline.polygon)),
        "properties": properties,
    }


def _snapped(polygon: Polygon | MultiPolygon) -> Polygon | MultiPolygon:
    snapped = shapely.set_precision(polygon, _GRID_PX)
    return polygon if snapped.is_empty else snapped


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
        raise UnusableError("it is no GeoJSON feature")
    parts = _parts(feature.get("geometry"))
    if not parts:
        raise WithoutAreaError("its geometry is a point or a line")
    properties = feature.get("properties")
    return Outline(_label(properties), area_of(parts), _note(properties))


def _parts(geometry: Any, *, inside: bool = False) -> list[list[list[tuple[float, float]]]]:
    """Rings of each polygon of a geometry; none of points and lines."""
    if geometry is None:
        return []
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind in _WITHOUT_AREA:
        return []
    members = geometry.get("geometries") if kind == "GeometryCollection" else None
    if isinstance(members, list) and not inside:
        return [part for member in members for part in _parts(member, inside=True)]
    if kind not in ("Polygon", "MultiPolygon"):
        raise UnusableError(f"its geometry is {kind or 'missing'}, not a Polygon or MultiPolygon")
    coordinates = geometry.get("coordinates")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list) or not parts:
        raise UnusableError("its outline is empty")
    return [_rings(rings) for rings in parts]


def _rings(rings: Any) -> list[list[tuple[float, float]]]:
    if not isinstance(rings, list) or not rings:
        raise UnusableError("its outline is empty")
    return [_ring(ring) for ring in rings]


def _ring(ring: Any) -> list[tuple[float, float]]:
    if not isinstance(ring, list) or len(ring) < 4:
        raise UnusableError("one of its rings has fewer than four points")
    points = []
    for point in ring:
        if not isinstance(point, list) or len(point) < 2 or not all(map(is_pixel, point[:2])):
            raise UnusableError("one of its points is no pair of pixel coordinates")
        points.append((float(point[0]), float(point[1])))
    if points[0] != points[-1]:
        raise UnusableError("one of its rings is not closed")
    return points


def _label(properties: Any) -> str:
    classification = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(classification, dict) and classification:
        if "names" not in classification and "name" not in classification:
            raise UnusableError("its classification has no name")
        # A derived class has names, the other ones a name.
        classification = classification.get("names") or classification.get("name")
    if not classification:
        return ""
    names = classification if isinstance(classification, list) else [classification]
    if not all(isinstance(name, str) and _is_text(name) for name in names):
        raise UnusableError("its classification has no name")
    return ": ".join(names)


def _note(properties: Any) -> str:
    metadata = properties.get("metadata") if isinstance(properties, dict) else None
    note = metadata.get(_DESCRIPTION) if isinstance(metadata, dict) else None
    return note if isinstance(note, str) and _is_text(note) else ""


def _is_text(name: str) -> bool:
    """Whether it can be written again: half of a surrogate pair cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

"""From the points that a file holds to areas that can be trusted."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, Polygon, mapping

_FARTHEST_PX = 2.0**31
_COLORS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (140, 86, 75))

Rings = Sequence[Sequence[tuple[float, float]]]


class UnusableError(Exception):
    """Why one object of a file is no outline; readers add the file and the remedy."""


class WithoutAreaError(UnusableError):
    """It is a point or a line, or encloses nothing; readers leave it out, and say so."""


def area_of(parts: Sequence[Rings]) -> Polygon | MultiPolygon:
    """Build one valid area from the rings of its parts, self-crossing ones repaired.

    Parameters
    ----------
    parts
        For each part its outer ring, then its holes; closed, in level-0 pixels.

    Raises
    ------
    WithoutAreaError
        It encloses nothing.
    """
    polygons = [Polygon(rings[0], rings[1:]) for rings in parts]
    area = polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
    if not area.is_valid:
        area = areas_only(shapely.make_valid(area))
    if area.is_empty or area.area == 0:
        raise WithoutAreaError("its outline encloses nothing")
    return area


def areas_only(geometry: shapely.Geometry) -> Polygon | MultiPolygon:
    """Keep the areas of a geometry, drop stray lines and points."""
    parts = [p for p in shapely.get_parts(geometry) if isinstance(p, Polygon | MultiPolygon)]
    polygons = [p for part in parts for p in shapely.get_parts(part) if p.area > 0]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def geojson_geometry(area: Polygon | MultiPolygon) -> dict[str, Any]:
    """Write an area as GeoJSON's geometry; one part alone as a Polygon.

    QuPath 0.4.0 to 0.5.1 import nothing of a file that holds a MultiPolygon of one part.
    """
    parts = shapely.get_parts(area)
    geometry: dict[str, Any] = mapping(parts[0] if len(parts) == 1 else area)
    return geometry


def is_pixel(value: Any) -> bool:
    """Whether a value can be a pixel coordinate."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) < _FARTHEST_PX


def color_of(label: str) -> tuple[int, int, int]:
    """Colour of a label, red, green, blue: the same in every file."""
    return _COLORS[zlib.crc32(label.encode()) % len(_COLORS)]

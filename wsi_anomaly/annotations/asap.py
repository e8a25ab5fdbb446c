"""ASAP's XML, the format of the Camelyon challenges.

ASAP knows no holes. Camelyon draws them as annotations of their own, in a group ``_2`` (in later
releases ``Exclusion``, in Camelyon17 ``normal``): these are cut out of the outlines that they lie
in.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.parsers import expat

import shapely

from wsi_anomaly.annotations.geometry import (
    UnusableError,
    WithoutAreaError,
    area_of,
    areas_only,
    is_pixel,
)
from wsi_anomaly.annotations.outlines import NORMAL, Note, Outline, say_without_area
from wsi_anomaly.core.errors import AnnotationError

EXCLUSION = "Exclusion"
_EXCLUSIONS = {"_2", EXCLUSION.casefold()}
_CUT = {*_EXCLUSIONS, NORMAL}
_WITHOUT_AREA = {"dot", "pointset", "measurement"}
_LARGEST_BYTES = 1 << 28
_ROOT = "ASAP_Annotations"


def read_asap(path: str | os.PathLike[str], *, note: Note = lambda _text: None) -> list[Outline]:
    """Outlines of an ASAP or Camelyon XML file, in the file's order.

    The label is the annotation's group (``PartOfGroup``), empty without one. Polygons,
    rectangles and splines (through their points) are taken; dots, measurements and clicks that
    enclose nothing have no area and are left out. Self-crossing outlines are repaired.
    An exclusion is cut from every outline that does not lie wholly inside it; so is what is of the
    group ``normal``, which is an outline too.

    Parameters
    ----------
    path
        The file.
    note
        Told how many were left out.

    Raises
    ------
    AnnotationError
        The file is missing, broken, no ASAP annotation, holds something other than points, or
        nothing that has an area.
    """
    path = Path(path)
    reader = _Reader()
    try:
        content = path.read_bytes() if path.stat().st_size <= _LARGEST_BYTES else None
        if content is None:
            raise AnnotationError(
                f"{path} is larger than {_LARGEST_BYTES >> 20} MB, which no annotation is; "
                "check the path of the annotations."
            )
        reader.parse(content)
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read ({error.strerror}); check the path of the annotations."
        ) from error
    except (expat.ExpatError, UnicodeError) as error:
        raise AnnotationError(
            f"{path} is broken XML ({error}); save the annotations in ASAP again."
        ) from error
    except UnusableError as error:
        raise AnnotationError(f"{path}: {error}; save the annotations in ASAP again.") from error
    say_without_area(path, reader.without_area, reader.without_area + len(reader.outlines), note)
    return _without_exclusions(reader.outlines)


class _Reader:
    """Collects outlines while the file streams through; no DTD, hence no entities."""

    def __init__(self) -> None:
        self.outlines: list[Outline] = []
        self.without_area = 0
        self._depth = 0
        self._annotation: dict[str, str] | None = None
        self._points: list[tuple[float, float, float]] = []
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype

    def parse(self, content: bytes) -> None:
        self._parser.Parse(content, True)

    def _doctype(self, *_: Any) -> None:
        raise UnusableError("it declares a document type, which ASAP never does")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and name != _ROOT:
            raise UnusableError(f"its root is <{name}>, so it is no ASAP annotation")
        if name == "Annotation":
            self._annotation, self._points = attributes, []
        elif name == "Coordinate" and self._annotation is not None:
            self._points.append(self._point(attributes))

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name != "Annotation" or self._annotation is None:
            return
        kind = self._annotation.get("Type", "Polygon").casefold()
        ring = [(x, y) for _, x, y in sorted(self._points, key=lambda point: point[0])]
        if kind not in _WITHOUT_AREA and len(set(ring)) >= 3:
            self._add([*ring, ring[0]])
        else:
            self.without_area += 1
        self._annotation = None

    def _add(self, ring: list[tuple[float, float]]) -> None:
        assert self._annotation is not None
        group = self._annotation.get("PartOfGroup", "None")
        try:
            area = area_of([[ring]])
        except WithoutAreaError:  # a slip of the hand on one line
            self.without_area += 1
            return
        self.outlines.append(Outline("" if group == "None" else group, area))

    def _point(self, attributes: dict[str, str]) -> tuple[float, float, float]:
        assert self._annotation is not None
        try:
            order = float(attributes.get("Order", len(self._points)))
            x, y = float(attributes["X"]), float(attributes["Y"])
        except (KeyError, ValueError):
            x = y = order = float("nan")
        if not (is_pixel(x) and is_pixel(y) and is_pixel(order)):
            name = self._annotation.get("Name", "")
            raise UnusableError(f"a point of its annotation {name!r} is no pair of pixels")
        return order, x, y


def _without_exclusions(outlines: list[Outline]) -> list[Outline]:
    holes = [o.polygon for o in outlines if o.label.casefold() in _CUT]
    found = []
    for outline in outlines:
        if outline.label.casefold() in _EXCLUSIONS:
            continue
        area = outline.polygon
        # An island drawn inside a hole is meant to be there.
        cut = [h for h in holes if h.intersects(area) and not h.covers(area)]
        if outline.is_normal:
            cut = []
        if cut:
            area = areas_only(shapely.difference(area, shapely.union_all(cut)))
        if not area.is_empty:
            found.append(Outline(outline.label, area))
    return found

"""A labelled outline on a slide, and how much of a field lies inside outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.core.errors import AnnotationError

Note = Callable[[str], None]
"""Told, in a sentence each, what of a file was left out."""

TISSUE = "Tissue"
"""Label of the tissue's own outline."""
NORMAL = "normal"
"""Label, in any case, of what is never abnormal: Camelyon17's holes in ``metastases``."""

_PIECE_VERTICES = 128


@dataclass(frozen=True)
class Outline:
    """An area of a slide with a label.

    Attributes
    ----------
    label
        Class name, such as ``"Lesion"`` or ``"Tumor: Necrosis"``; empty when the area has none.
    polygon
        Valid polygon or multipolygon in level-0 pixels, origin at the slide's (0, 0).
    note
        What QuPath calls its description (exported by 0.5 and later); mostly empty.

    Examples
    --------
    >>> import shapely
    >>> Outline("Tumor: Necrosis", shapely.box(0, 0, 200, 100)).is_normal
    False
    """

    label: str
    polygon: Polygon | MultiPolygon
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.polygon, Polygon | MultiPolygon):
            raise TypeError(f"an outline is a polygon, not a {type(self.polygon).__name__}")
        if self.polygon.is_empty or not self.polygon.is_valid:
            raise ValueError("an outline is a valid polygon with an area")

    @property
    def is_normal(self) -> bool:
        """Whether somebody has marked it as normal."""
        return self.label.casefold() == NORMAL


def say_without_area(path: Path, without: int, every: int, note: Note) -> None:
    """Say that points, lines and empty outlines of a file were left out, if there are such.

    Raises
    ------
    AnnotationError
        There is nothing else: it may not pass for a file in which nothing is marked.
    """
    if without and without == every:
        raise AnnotationError(
            f"{path} marks no area: each of its objects ({every}) is a point or a line, or "
            "encloses nothing; draw round what is meant and export again."
        )
    if without:
        note(
            f"{path}: {without} of {every} objects are points or lines, or enclose nothing, and "
            "are left out."
        )


def fractions_inside(
    outlines: Iterable[Outline], coords: NDArray[np.number], field: tuple[float, float]
) -> NDArray[np.float64]:
    """Fraction of each rectangular field that lies inside the outlines.

    Overlapping outlines count once, whatever their labels: choose the outlines first.

    Parameters
    ----------
    outlines
        Areas in level-0 pixels.
    coords
        (N, 2) top-left corners x, y of the fields, level-0 pixels.
    field
        Width and height of every field, level-0 pixels.

    Returns
    -------
    (N,) float64 between 0 and 1.
    """
    coords = np.asarray(coords, dtype=np.float64).reshape(-1, 2)
    width, height = field
    if not (width > 0 and height > 0):
        raise ValueError(f"a field has a positive size, not {field}")
    fractions = np.zeros(len(coords))
    pieces = _pieces(shapely.union_all([outline.polygon for outline in outlines]))
    if len(coords) == 0 or len(pieces) == 0:
        return fractions
    fields = shapely.box(coords[:, 0], coords[:, 1], coords[:, 0] + width, coords[:, 1] + height)
    shapely.prepare(pieces)
    which_field, which_piece = shapely.STRtree(pieces).query(fields, predicate="intersects")
    covered = shapely.covers(pieces[which_piece], fields[which_field])
    fractions[which_field[covered]] = 1.0
    partly = ~covered
    areas = shapely.area(
        shapely.intersection(pieces[which_piece[partly]], fields[which_field[partly]])
    )
    np.add.at(fractions, which_field[partly], areas / (width * height))
    return np.clip(fractions, 0.0, 1.0)


def _pieces(polygon: Polygon | MultiPolygon) -> NDArray[np.object_]:
    """Cut into disjoint pieces of few vertices: intersecting costs what the outline has of them."""
    done: list[Polygon] = []
    todo: list[Polygon] = [p for p in shapely.get_parts(polygon) if _is_area(p)]
    while todo:
        piece = todo.pop()
        if shapely.get_num_coordinates(piece) <= _PIECE_VERTICES:
            done.append(piece)
            continue
        halves = [shapely.intersection(piece, half) for half in _halves(piece.bounds)]
        parts = [p for half in halves for p in shapely.get_parts(half) if _is_area(p)]
        fewer = max(map(shapely.get_num_coordinates, parts), default=0)
        # Detail finer than the cut (a star around a point) does not get simpler by cutting.
        (todo if fewer < shapely.get_num_coordinates(piece) else done).extend(parts)
    return np.array(done, dtype=object)


def _is_area(geometry: object) -> bool:
    return isinstance(geometry, Polygon) and geometry.area > 0


def _halves(bounds: Sequence[float]) -> tuple[Polygon, Polygon]:
    left, top, right, bottom = bounds
    if right - left >= bottom - top:
        middle = (left + right) / 2
        return shapely.box(left, top, middle, bottom), shapely.box(middle, top, right, bottom)
    middle = (top + bottom) / 2
    return shapely.box(left, top, right, middle), shapely.box(left, middle, right, bottom)

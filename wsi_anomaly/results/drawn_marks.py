"""What a person draws and names, made a mark that can be kept; and whether it is enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import shapely

from wsi_anomaly.annotations import Extent
from wsi_anomaly.annotations.geometry import WithoutAreaError, area_of, areas_only
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.results.marks import Mark
from wsi_anomaly.results.overlaps import Area
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.scoring import LEAST_CELLS

_LONGEST_KIND = 100
_MOST_POINTS = 5000
_LEAST_MM2 = 1e-4  # a click that slipped


def drawn_area(points: Sequence[tuple[float, float]], extent: Extent, um2: float) -> Area:
    """Make an outline of what a person drew: repaired where it crosses itself, cut to the slide.

    Parameters
    ----------
    points
        Corners, level-0 pixels.
    extent
        The slide.
    um2
        Area of one of its pixels, square micrometres.

    Raises
    ------
    UsageError
        It encloses nothing, or nothing of the slide.
    """
    if not 3 <= len(points) <= _MOST_POINTS:
        raise UsageError(f"An outline has 3 to {_MOST_POINTS} points; draw it again.")
    try:
        area = area_of([[[*points, points[0]]]])
    except WithoutAreaError as error:
        raise UsageError("The outline encloses nothing; draw round some tissue.") from error
    here = areas_only(shapely.intersection(area, shapely.box(0, 0, *extent.size)))
    if here.is_empty:
        raise UsageError("The outline lies beside the slide; draw it on tissue.")
    if here.area * um2 / 1e6 < _LEAST_MM2:
        raise UsageError("The outline encloses almost nothing; draw round 0.05 to 0.1 mm2.")
    return here


def checked_kind(kind: str, used: Iterable[str]) -> str:
    """Tidy a kind's name, and spell it as it was spelled before.

    Raises
    ------
    UsageError
        It is no name.
    """
    tidy = " ".join(kind.split())
    if not tidy or len(tidy) > _LONGEST_KIND or not tidy.isprintable():
        raise UsageError(
            f"Name the kind of tissue, such as Mucosa or Muscle, in at most {_LONGEST_KIND} "
            "characters."
        )
    return next((name for name in used if name.casefold() == tidy.casefold()), tidy)


def tissue_by_kind(marks: Iterable[Mark], stored: StoredScores) -> dict[str, tuple[float, bool]]:
    """Area of tissue that is marked of each kind, mm2, and whether that is enough for ``score``."""
    fields = stored.fields
    centres = fields.coords[np.isfinite(stored.score)] + np.array(fields.field_level0) / 2
    cell = fields.area_mm2(stored.mpp)
    by_kind: dict[str, list[Area]] = {}
    for mark in marks:
        by_kind.setdefault(mark.kind, []).append(mark.outline)
    inside = {
        kind: int(shapely.contains_xy(shapely.union_all(areas), *centres.T).sum())
        for kind, areas in by_kind.items()
    }
    return {kind: (cells * cell, cells >= LEAST_CELLS) for kind, cells in sorted(inside.items())}

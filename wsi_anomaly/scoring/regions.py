"""From flagged fields to outlines that a person can follow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.calibration import label_regions
from wsi_anomaly.tiles import Fields

_GRID_PX = 0.01  # what QuPath snaps coordinates to


@dataclass(frozen=True)
class AnomalousRegion:
    """Connected flagged fields.

    Attributes
    ----------
    outline
        Polygon or MultiPolygon, level-0 pixels; valid, small gaps closed.
    fields
        (k,) indices of its fields in the score map.
    area_mm2
        Tissue in its fields.
    highest
        Its highest smoothed score, by which regions are ordered.
    mean_score, max_score
        Of the raw scores of its fields.
    peak
        Field with the highest raw score at the place of the highest smoothed one.
    """

    outline: Polygon | MultiPolygon
    fields: NDArray[np.intp]
    area_mm2: float
    highest: float
    mean_score: float
    max_score: float
    peak: int


def _areas(shape: shapely.Geometry) -> Polygon | MultiPolygon:
    """Keep only the areas of a geometry, as one Polygon or MultiPolygon."""
    if isinstance(shape, Polygon | MultiPolygon):
        return shape
    parts = [p for p in shapely.get_parts(shape) if isinstance(p, Polygon | MultiPolygon)]
    polygons = [p for part in parts for p in shapely.get_parts(part) if p.area > 0]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def union_of_fields(
    fields: Fields, chosen: NDArray[np.intp], *, close_gaps: bool = False
) -> Polygon | MultiPolygon:
    """Outline of some fields, level-0 pixels.

    Parameters
    ----------
    fields, chosen
        The grid, and indices (n,) into it.
    close_gaps
        Close notches of up to one field and holes of up to four fields.

    Returns
    -------
    A valid Polygon or MultiPolygon, on QuPath's coordinate grid of 0.01 px; empty for no fields.
    """
    # Squares meet at common, exact corners here: the rounded ones of `coords` would leave slits.
    x = fields.origin[0] + fields.col[chosen] * fields.stride_level0[0]
    y = fields.origin[1] + fields.row[chosen] * fields.stride_level0[1]
    squares = shapely.box(x, y, x + fields.field_level0[0], y + fields.field_level0[1])
    shape = shapely.union_all(squares, grid_size=_GRID_PX)
    if close_gaps and len(chosen) > 1:
        # A little more than half: whether a gap of just one field closes must not hang on rounding.
        reach = 0.5 * min(fields.field_level0) + 2 * _GRID_PX
        # On the grid: edges that rounding leaves a hair from parallel would meet at infinity.
        grown = shapely.set_precision(shapely.buffer(shape, reach, join_style="mitre"), _GRID_PX)
        shape = shapely.union(shape, shapely.buffer(grown, -reach, join_style="mitre"))
        hole = 4 * fields.field_level0[0] * fields.field_level0[1]
        shape = MultiPolygon(
            [
                Polygon(part.exterior, [r for r in part.interiors if Polygon(r).area > hole])
                for part in shapely.get_parts(shape)
                if isinstance(part, Polygon)
            ]
        )
        shape = shapely.union_all(shapely.get_parts(shape))
    return _areas(shapely.make_valid(shapely.set_precision(shape, _GRID_PX)))


def merge_regions(
    fields: Fields,
    score: NDArray[np.floating],
    smoothed: NDArray[np.floating],
    flagged: NDArray[np.bool_],
    mpp: tuple[float, float],
) -> list[AnomalousRegion]:
    """Join connected flagged fields (8 neighbours, as calibration counts them), highest first.

    Parameters
    ----------
    fields
        The grid, N fields.
    score, smoothed, flagged
        (N,) raw score, smoothed score, and whether the field is flagged.
    mpp
        Micrometres per level-0 pixel (x, y).
    """
    labels, count = label_regions(fields.row, fields.col, flagged)
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(1, count + 2))
    regions = []
    for start, end in pairwise(ends):
        members = order[start:end]
        top = int(members[np.argmax(smoothed[members])])
        regions.append(
            AnomalousRegion(
                union_of_fields(fields, members, close_gaps=True),
                members,
                float(fields.tissue_fraction[members].sum()) * fields.area_mm2(mpp),
                float(smoothed[top]),
                float(np.mean(score[members])),
                float(np.max(score[members])),
                highest_near(fields, score, top, among=members),
            )
        )
    return sorted(regions, key=lambda r: -r.highest)


def highest_near(
    fields: Fields,
    score: NDArray[np.floating],
    field: int,
    *,
    among: NDArray[np.intp] | None = None,
) -> int:
    """Field with the highest raw score (N,) of a field and those it is smoothed with.

    The highest smoothed score may lie on the edge of the tissue, on a field that holds little.
    """
    near = np.arange(len(fields)) if among is None else among
    reach = smoothing_radius(fields)
    near = near[
        (abs(fields.row[near] - fields.row[field]) <= reach)
        & (abs(fields.col[near] - fields.col[field]) <= reach)
        & np.isfinite(score[near])
    ]
    return int(near[np.argmax(score[near])])


def smoothing_radius(fields: Fields) -> int:
    """Neighbours on each side: as wide as at calibration, whatever the stride."""
    return max(1, round(fields.field_level0[0] / fields.stride_level0[0]))

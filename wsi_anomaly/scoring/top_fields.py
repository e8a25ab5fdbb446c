"""The places of a slide that are worth showing, and where in them the score comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.scoring.regions import highest_near
from wsi_anomaly.tiles import Fields

SHOWN = 10
"""Places in the gallery of the report."""
CONTEXT_UM = 256.0
"""A place is shown with so much around it; shown places lie at least as far apart."""
MOST_MAPS = 1000
_MOST_MAP_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class PixelMaps:
    """Error maps of some fields.

    Attributes
    ----------
    fields
        (k,) indices into the score map's fields, most anomalous first.
    tiles
        (k, S, S, 3) uint8: what the model saw, stains normalised.
    maps
        (k, S, S) float32: how badly each pixel's surroundings were reconstructed.
    """

    fields: NDArray[np.intp]
    tiles: NDArray[np.uint8]
    maps: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NormalField:
    """A normal field that is shown: its slide, its middle in level-0 pixels, its picture (JPEG)."""

    slide: str
    place: tuple[float, float]
    picture: bytes


@dataclass(frozen=True, eq=False)
class BesideNormal:
    """The highest fields of a slide beside normal ones.

    Attributes
    ----------
    fields
        (m,) indices into the score map: the peaks of regions, then other high places.
    regions
        (m,) number of each one's region, from 1; 0: it lies in none.
    vectors
        (m, d) float32, mean direction in which the region, or the field, deviates.
    pictures
        (m) JPEG streams, stains as the model sees them.
    spoken
        (m) what spoke, see :func:`wsi_anomaly.scoring.beside.what_spoke`.
    nearest, distances, farther
        (m, k) position in `normals`, distance, and percentage of normal fields that lie nearer to
        theirs; k is 0 for a model without examples.
    normals
        Those that are shown.
    field_um
        Side of what the pictures show.
    """

    fields: NDArray[np.intp]
    regions: NDArray[np.int64]
    vectors: NDArray[np.float32]
    pictures: tuple[bytes, ...]
    spoken: tuple[Mapping[str, Any], ...]
    nearest: NDArray[np.intp]
    distances: NDArray[np.float32]
    farther: NDArray[np.float32]
    normals: tuple[NormalField, ...]
    field_um: int


def most_anomalous(
    fields: Fields, smoothed: NDArray[np.floating], count: int, *, apart_um: float
) -> list[int]:
    """Fields with the highest smoothed scores, no two nearer than a distance.

    Parameters
    ----------
    fields, smoothed
        The map, (N,); NaN where not assessed.
    count
        At most so many.
    apart_um
        Least distance along x or y.
    """
    stride_um = fields.field_um * fields.stride_level0[0] / fields.field_level0[0]
    order = np.argsort(-np.nan_to_num(smoothed, nan=-np.inf), kind="stable")
    row, col = fields.row, fields.col
    chosen: list[int] = []
    for i in order[: 200 * count].tolist():
        if not np.isfinite(smoothed[i]) or len(chosen) == count:
            break
        if all(
            max(abs(int(row[i]) - int(row[j])), abs(int(col[i]) - int(col[j]))) * stride_um
            >= apart_um - 1e-6
            for j in chosen
        ):
            chosen.append(i)
    return chosen


def fields_to_map(
    fields: Fields,
    score: NDArray[np.floating],
    smoothed: NDArray[np.floating],
    flagged: NDArray[np.bool_],
    *,
    all_flagged: bool,
    tile_size: int,
) -> NDArray[np.intp]:
    """Fields (n,), by scores (N,), whose error maps are made, most anomalous first.

    Those of the gallery; with `all_flagged` also the flagged ones (the highest tenth where none
    is), at most ``MOST_MAPS`` and 64 MB of pixels.
    """
    places = most_anomalous(fields, smoothed, SHOWN, apart_um=CONTEXT_UM)
    chosen = [highest_near(fields, score, i) for i in places]
    if all_flagged:
        known = np.flatnonzero(np.isfinite(smoothed))
        pool = np.flatnonzero(flagged) if flagged.any() else known
        order = pool[np.argsort(-smoothed[pool], kind="stable")]
        if not flagged.any():
            order = order[: max(1, len(known) // 10)]
        room = min(MOST_MAPS, _MOST_MAP_BYTES // (tile_size**2 * 7))
        chosen = list(dict.fromkeys([*chosen, *order.tolist()]))[: max(room, len(chosen))]
    ranked = np.asarray(chosen, np.intp)
    return ranked[np.argsort(-smoothed[ranked], kind="stable")]

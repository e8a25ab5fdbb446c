"""Score maps on a grid: smoothing, connected regions, how many regions each threshold gives.

Calibration counts regions with the very functions with which scoring makes them; otherwise the
promise about false regions would be a promise about something else.

A map is three arrays of equal length: `row`, `col` (grid indices, each pair once) and `score`
(NaN where a field was not assessed). Fields outside the tissue are simply absent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

EIGHT_NEIGHBOURS = tuple((r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c)


def _dense(
    row: NDArray[np.integer], col: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int]]:
    r = np.asarray(row, np.int64)
    c = np.asarray(col, np.int64)
    if not len(r):
        return r, c, (0, 0)
    r, c = r - r.min(), c - c.min()
    return r, c, (int(r.max()) + 1, int(c.max()) + 1)


def smooth_scores(
    row: NDArray[np.integer],
    col: NDArray[np.integer],
    score: NDArray[np.floating],
    *,
    radius: int = 1,
) -> NDArray[np.float32]:
    """Mean of each field and its assessed neighbours (normalised convolution with a square).

    Parameters
    ----------
    row, col, score
        The map, each (n,); NaN scores are fields that were not assessed.
    radius
        Half width of the square: 1 is 3 x 3 fields.

    Returns
    -------
    numpy.ndarray
        (n,) float32, NaN exactly where `score` is NaN.
    """
    score = np.asarray(score, np.float64)
    out = np.full(len(score), np.nan, np.float32)
    known = np.isfinite(score)
    if not known.any():
        return out
    r, c, shape = _dense(row, col)
    values = np.zeros(shape)
    weights = np.zeros(shape)
    values[r[known], c[known]] = score[known]
    weights[r[known], c[known]] = 1.0
    size = 2 * radius + 1
    total = ndimage.uniform_filter(values, size, mode="constant")
    mass = ndimage.uniform_filter(weights, size, mode="constant")
    out[known] = (total[r[known], c[known]] / mass[r[known], c[known]]).astype(np.float32)
    return out


def label_regions(
    row: NDArray[np.integer], col: NDArray[np.integer], flagged: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], int]:
    """Give each of the 8-connected regions of flagged fields a number.

    Returns
    -------
    labels : numpy.ndarray
        (n,) int32: 0 where not flagged, else 1 .. count.
    count : int
        Number of regions.
    """
    flagged = np.asarray(flagged, bool)
    labels = np.zeros(len(flagged), np.int32)
    if not flagged.any():
        return labels, 0
    r, c, shape = _dense(np.asarray(row)[flagged], np.asarray(col)[flagged])
    grid = np.zeros(shape, bool)
    grid[r, c] = True
    numbered, count = ndimage.label(grid, structure=np.ones((3, 3), bool))
    labels[flagged] = numbered[r, c]
    return labels, int(count)


def region_thresholds(
    row: NDArray[np.integer],
    col: NDArray[np.integer],
    score: NDArray[np.floating],
    most: int,
) -> NDArray[np.float64]:
    """Thresholds at which a map first shows 1, 2, ... `most` regions, coming from above.

    Regions join as the threshold falls, so their number is not monotone; the number *first
    reached* is, and bounds it from above: at any threshold t the fields with a score above t form
    at most ``(region_thresholds(...) > t).sum()`` regions, as long as that sum is below `most`.

    One sweep from the highest score down with a union-find; it ends once `most` are reached.

    Returns
    -------
    numpy.ndarray
        At most `most` scores, descending.
    """
    score = np.asarray(score, np.float64)
    known = np.flatnonzero(np.isfinite(score))
    order = known[np.argsort(-score[known], kind="stable")]
    index: dict[tuple[int, int], int] = {}
    parent: list[int] = []

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    thresholds: list[float] = []
    count = 0
    rows = np.asarray(row)[order].tolist()
    cols = np.asarray(col)[order].tolist()
    values = score[order].tolist()
    for i, (r, c) in enumerate(zip(rows, cols, strict=True)):
        index[r, c] = i
        parent.append(i)
        count += 1
        for dr, dc in EIGHT_NEIGHBOURS:
            j = index.get((r + dr, c + dc))
            if j is not None:
                a, b = find(i), find(j)
                if a != b:
                    parent[a] = b
                    count -= 1
        # Equal scores are one step: their fields appear together.
        last_of_equals = i + 1 == len(values) or values[i + 1] < values[i]
        while last_of_equals and count > len(thresholds):
            thresholds.append(values[i])
            if len(thresholds) >= most:
                return np.asarray(thresholds)
    return np.asarray(thresholds)

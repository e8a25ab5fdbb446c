"""Embedded fields as cells of a grid: what maps, regions and neighbours are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.embeddings.base import Embeddings
from wsi_anomaly.slides import Mpp
from wsi_anomaly.tiles import Fields, Status

_LARGEST_GRID = 1 << 26
_ON_GRID = 0.02  # of a step


@dataclass(frozen=True, eq=False)
class Gridded:
    """Embedded fields on a grid.

    Attributes
    ----------
    fields
        N cells, one step wide, in the middle of the embedded fields; in the order of the file.
    moved
        How many lie off the grid, and stand in the nearest cell.
    cell
        (N,) number of the cell, the same for fields that share one.
    """

    fields: Fields
    moved: int
    cell: NDArray[np.int64]

    def highest(self, score: NDArray[np.floating]) -> NDArray[np.intp]:
        """One field a cell, row by row: where several share one, that with the highest score (N,).

        Programs that lay a grid over each piece of tissue let fields of two pieces overlap.
        """
        order = np.lexsort((-score, self.cell))
        first = np.ones(len(order), bool)
        first[1:] = np.diff(self.cell[order]) > 0
        return order[first]


def on_grid(found: Embeddings, mpp: Mpp) -> Gridded:
    """Lay embedded fields on a grid.

    Parameters
    ----------
    found
        The embeddings.
    mpp
        Micrometres per level-0 pixel.

    Raises
    ------
    EmbeddingsError
        They lie so far apart that no slide has such a grid.
    """
    step = found.step_level0
    corner = found.coords + (found.field_level0 - step) / 2
    origin = np.array([_most_common(corner[:, axis], step) for axis in (0, 1)])
    place = (corner - origin) / step
    nearest = np.floor(place + 0.5).astype(np.int64)
    first = nearest.min(0)
    nearest -= first
    origin += first * step
    columns, rows = (int(n) + 1 for n in nearest.max(0))
    if rows * columns > _LARGEST_GRID:
        raise EmbeddingsError(
            f"{found.path} has fields on a grid of {rows} x {columns}, which no slide has; look at "
            "its coordinates and its step."
        )
    count = len(found)
    fields = Fields(
        np.floor(origin + nearest * step + 0.5).astype(np.int64),
        nearest[:, 1].astype(np.int32),
        nearest[:, 0].astype(np.int32),
        (rows, columns),
        (float(origin[0]), float(origin[1])),
        (step, step),
        (step, step),
        step * mpp.x,
        np.ones(count, np.float32),
        np.full(count, Status.OK, np.uint8),
    )
    off = np.abs(place - first - nearest).max(1)
    return Gridded(
        fields, int(np.count_nonzero(off > _ON_GRID)), nearest[:, 1] * columns + nearest[:, 0]
    )


def _most_common(values: NDArray[np.floating], step: float) -> float:
    """Where most of the values (N,) lie between two lines of a grid of this step."""
    offset = np.round(values % step, 3) % step
    found, counts = np.unique(offset, return_counts=True)
    return float(found[np.argmax(counts)])

"""Embeddings of all fields of a slide, from one pass of the network over its plane.

The one function through which training, calibration and scoring see tissue: the same field has the
same embedding in all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.features.pooling import pooled_fields
from wsi_anomaly.scoring.asking import ServedMaps
from wsi_anomaly.tiles import Fields, Status
from wsi_anomaly.tiles.plane import Plane

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of some cells.

    Attributes
    ----------
    indices
        (n,) positions of the cells among those asked for.
    embeddings
        By size of the field in um: (n, D) float32.
    shares
        (n,) float32, least share of tissue that is left in any of a cell's fields.
    """

    indices: NDArray[np.intp]
    embeddings: Mapping[int, NDArray[np.float32]]
    shares: NDArray[np.float32]


def embed_cells(
    plane: Plane,
    cells: Fields,
    maps: DenseMaps,
    sizes_um: Sequence[int],
    *,
    wanted: NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
) -> Iterator[Embedded]:
    """Embed the fields round each cell: glass, ink, folds, blur and damage are left out of them.

    Parameters
    ----------
    plane
        The slide's pixels.
    cells
        Its grid of N cells, as wide as they are apart; those that are OK are looked at.
    maps
        The network and its layers.
    sizes_um
        Sides of the fields, in whose middle each cell lies.
    wanted
        (N,) bool, the cells that are asked for; None: all.
    progress
        Called with cells done and cells in all.

    Yields
    ------
    Each cell that is OK and wanted, once, unless its pixels turn out to be damaged or blurred:
    ``plane.status_of(cells)`` then says so.
    """
    scale = plane.magnification / 10  # pixels a micrometre
    step = cells.stride_level0[0] * plane.px_per_level0[0]
    asked = cells.status == Status.OK if wanted is None else wanted & (cells.status == Status.OK)
    index = np.full((-(-plane.height // round(step)), -(-plane.width // round(step))), -1, np.intp)
    index[cells.row[asked], cells.col[asked]] = np.flatnonzero(asked)
    sizes = {round(size * scale): size for size in sizes_um}
    mask = plane.tissue_mask(maps.stride)
    if wanted is not None:
        mask &= _reached(cells, asked, mask.shape, step / maps.stride, max(sizes) / maps.stride)

    def read(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        pixels = plane.read(x, y, width, height)
        _leave_out(mask, plane, maps.stride, (x, y, width, height))
        return pixels

    done, total = 0, int(asked.sum())
    pooled = maps.pooled_fields if isinstance(maps, ServedMaps) else partial(pooled_fields, maps)
    for part in pooled(
        read, plane.width, plane.height, background=plane.background,
        sizes=tuple(sizes), step=round(step), mask=mask,
    ):  # fmt: skip
        rows, columns = next(iter(part.shares.values())).shape
        here = index[part.row : part.row + rows, part.column : part.column + columns]
        inside = np.nonzero(here >= 0)
        if not len(inside[0]):
            continue
        indices = here[inside]
        judged = plane.status_of(cells.take(indices)) == Status.OK
        done += len(indices)
        if judged.any():
            inside = inside[0][judged], inside[1][judged]
            yield Embedded(
                indices[judged],
                {um: part.embeddings[px][inside] for px, um in sizes.items()},
                np.min([part.shares[px][inside] for px in sizes], axis=0),
            )
        if progress is not None:
            progress(done, total)


def _reached(
    cells: Fields,
    asked: NDArray[np.bool_],
    shape: tuple[int, int],
    step: float,
    size: float,
) -> NDArray[np.bool_]:
    """Positions of a mask that lie in a field of a cell that is asked for; lengths in positions."""
    out = np.zeros(shape, bool)
    low = [(place[asked] + 0.5) * step - size / 2 for place in (cells.row, cells.col)]
    first = [np.clip(np.floor(v + 1e-6).astype(np.intp), 0, None) for v in low]
    last = [np.ceil(v + size - 1e-6).astype(np.intp) for v in low]
    for top, left, bottom, right in zip(*first, *last, strict=True):
        out[top:bottom, left:right] = True
    return out


def _leave_out(
    mask: NDArray[np.bool_], plane: Plane, stride: int, read: tuple[int, int, int, int]
) -> None:
    """Clear the positions of squares that have turned out to be unreadable or blurred."""
    x, y, width, height = read
    side = plane.square_px
    top, bottom = y // side, -(-(y + height) // side)
    left, right = x // side, -(-(x + width) // side)
    times = side // stride
    for row, column in np.argwhere(plane.status[top:bottom, left:right] != Status.OK):
        r, c = (top + row) * times, (left + column) * times
        mask[r : r + times, c : c + times] = False

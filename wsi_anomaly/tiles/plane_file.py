"""Planes in a tile file: whole stretches of tissue with all that a deep network sees round them.

A network that looks 0.4 mm far cannot learn from cut-out fields. So the chunks of a slide's plane
are stored, each once: those with tissue, and two more on every side, which is as far as the
deepest layer on offer reaches from the largest field. Of a slide with more tissue than the file
has room for, windows of 2 mm are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.slides import Bounds, Mpp, TissueMap
from wsi_anomaly.tiles.fields import Fields, Status
from wsi_anomaly.tiles.jpegs import JpegImages
from wsi_anomaly.tiles.plane import CHUNK_PX, RGB, SQUARE_UM, Plane

REACH_CHUNKS = 2
"""Chunks round those that are learned from: 512 px, more than the reach of any network's layer
(394 px at the end of ``lite0``'s b6) from a field of 256 px round a cell of 64."""

MOST_PLANE_BYTES = 480_000_000
"""Room for planes in a tile file: 163 mm2 at 10x, the whole of most biopsies and small sections."""

CHUNK_BYTES = CHUNK_PX * CHUNK_PX * 3

_WINDOW_CHUNKS = 8


@dataclass(frozen=True, eq=False)
class ChunkPlan:
    """The chunks of a plane that are stored.

    Attributes
    ----------
    places
        (n, 2) int32, row and column of each, row by row.
    learned
        (n,) bool: whether the cells in it may be learned from; the others are surroundings.
    """

    places: NDArray[np.int32]
    learned: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class PlaneToStore:
    """A plane on its way into a tile file: its grid of cells, and the chunks that are taken."""

    plane: Plane
    cells: Fields
    plan: ChunkPlan

    def learned_cells(self) -> NDArray[np.int32]:
        """Row and column (n, 2) of the cells that may be learned from."""
        rows, columns = chunk_of(self.plane, self.cells)
        chosen = {tuple(place) for place in self.plan.places[self.plan.learned].tolist()}
        inside = [place in chosen for place in zip(rows.tolist(), columns.tolist(), strict=True)]
        kept = np.asarray(inside, bool) & (self.cells.status == Status.OK)
        return np.stack((self.cells.row[kept], self.cells.col[kept]), axis=1).astype(np.int32)


def chunk_of(plane: Plane, cells: Fields) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column (N,) of the chunk in which the centre of each cell or tile lies."""
    found = []
    for place, axis, side in ((cells.row, 1, plane.height), (cells.col, 0, plane.width)):
        middle = place * cells.stride_level0[axis] + cells.field_level0[axis] / 2
        centre = np.minimum(middle * plane.px_per_level0[axis], side - 1)
        found.append((centre // CHUNK_PX).astype(np.intp))
    return found[0], found[1]


def plan_chunks(
    plane: Plane, cells: Fields, most_bytes: int, seed: int = 0, *, tiles: Fields | None = None
) -> ChunkPlan:
    """Choose chunks with good tissue, in windows drawn by `seed` until the room is used.

    Parameters
    ----------
    plane, cells
        A slide's plane, and its fields of tissue.
    most_bytes
        Room for pixels; one window is always taken.
    tiles
        Tiles whose surroundings are stored as well: those of a small lesion hold no whole cell.
    """
    shape = -(-plane.height // CHUNK_PX), -(-plane.width // CHUNK_PX)
    wanted = np.zeros(shape, bool)
    for fields in (cells, *([] if tiles is None else [tiles])):
        wanted[chunk_of(plane, fields.take(np.flatnonzero(fields.status == Status.OK)))] = True
    rows, columns = np.nonzero(wanted)
    window = rows // _WINDOW_CHUNKS * (shape[1] // _WINDOW_CHUNKS + 1) + columns // _WINDOW_CHUNKS
    learned, stored = np.zeros(shape, bool), np.zeros(shape, bool)
    for name in np.random.default_rng(seed).permutation(np.unique(window)):
        here = window == name
        grown = learned.copy()
        grown[rows[here], columns[here]] = True
        around = _dilated(grown)
        if learned.any() and np.count_nonzero(around) * CHUNK_BYTES > most_bytes:
            break
        learned, stored = grown, around
    places = np.argwhere(stored).astype(np.int32)
    return ChunkPlan(places, learned[places[:, 0], places[:, 1]])


def _dilated(chunks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow by :data:`REACH_CHUNKS` on every side."""
    from scipy.ndimage import maximum_filter

    grown: NDArray[np.bool_] = maximum_filter(chunks, 2 * REACH_CHUNKS + 1, mode="constant")
    return grown


class StoredPlane(Plane):
    """The plane of a tile file: what was not stored is background there.

    Parameters
    ----------
    chunks
        (n, 256, 256, 3) uint8, in the file.
    places
        (n, 2) row and column of each.
    status, sharpness
        Of the squares, as they were judged when the slide was read.
    """

    def __init__(
        self,
        chunks: RGB | JpegImages,
        places: NDArray[np.int32],
        status: NDArray[np.uint8],
        sharpness: NDArray[np.float32],
        *,
        size_px: tuple[int, int],
        magnification: int,
        background: tuple[int, int, int],
        tissue: TissueMap,
        px_per_level0: tuple[float, float],
    ) -> None:
        super().__init__(size_px, magnification, background, tissue, px_per_level0)
        if self.status.shape != status.shape or self.sharpness.shape != sharpness.shape:
            raise ValueError("the squares of its plane are not as they should be")
        self.status, self.sharpness = status, sharpness
        self._chunks = chunks
        self._index = {(int(r), int(c)): i for i, (r, c) in enumerate(places)}

    def surrounded(self, cells: Fields) -> NDArray[np.bool_]:
        """Say of which cells (N,) all is stored that a network sees in the fields round them."""
        missing = np.ones((-(-self.height // CHUNK_PX), -(-self.width // CHUNK_PX)), bool)
        for place in self._index:
            missing[place] = False
        found: NDArray[np.bool_] = ~_dilated(missing)[chunk_of(self, cells)]
        return found

    def chunk(self, row: int, column: int) -> RGB:
        """Pixels of a chunk; see :meth:`Plane.chunk`."""
        height = min(CHUNK_PX, self.height - row * CHUNK_PX)
        width = min(CHUNK_PX, self.width - column * CHUNK_PX)
        index = self._index.get((row, column))
        if index is None:
            return np.broadcast_to(np.array(self.background, np.uint8), (height, width, 3))
        return self._chunks[index][:height, :width]


def learned_cells(
    plane: StoredPlane, places: NDArray[np.int32], bounds: Bounds, mpp: Mpp
) -> Fields:
    """Lay stored cells (n, 2) on the slide again, as fields of 64 um.

    Parameters
    ----------
    plane, places
        The plane, and row and column of each cell.
    bounds, mpp
        The slide's scanned area and pixel size.
    """
    side = SQUARE_UM / mpp.x, SQUARE_UM / mpp.y
    row, col = places[:, 0], places[:, 1]
    corner = np.stack((bounds.x + col * side[0], bounds.y + row * side[1]), axis=1)
    return Fields(
        coords=np.floor(corner + 0.5).astype(np.int64),
        row=row,
        col=col,
        grid_shape=plane.status.shape,
        origin=(float(bounds.x), float(bounds.y)),
        field_level0=side,
        stride_level0=side,
        field_um=float(SQUARE_UM),
        tissue_fraction=np.ones(len(places), np.float32),
        status=np.full(len(places), Status.OK, np.uint8),
    )

"""A slide as one picture at one magnification: what a network runs over without cutting fields.

A *plane* has its origin at the corner of the scanned area and pixels of exactly the nominal size
(1 um at 10x). It comes from an open slide or from a tile file; both give the same pixels, so that
training, calibration and scoring see the same. It is read in *chunks*; each is brought to the
target's stains, and its *squares* of 64 um are judged, as it comes in.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.slides import TISSUE, ReadError, Slide, TissueMap
from wsi_anomaly.tiles.fields import Fields, Status
from wsi_anomaly.tiles.sharpness import MIN_SHARPNESS, sharpness

RGB = NDArray[np.uint8]

CHUNK_PX = 256
"""Side of what is read, stored and judged at once, pixels of the plane."""
SQUARE_UM = 64
"""Side of the squares whose sharpness and readability are judged, um."""

_CACHED_CHUNKS = 384  # 75 MB: two rectangles of 2100 px a side, the largest that are asked for
_MIN_COVERAGE = 0.95
_MOST_POSITIONS = 1 << 18  # of a mask that are worked out at once


class Plane(ABC):
    """A slide's pixels at one magnification, with its tissue.

    Parameters
    ----------
    size_px
        Width and height.
    magnification
        10, 20 or 40.
    background
        What lies outside.
    tissue
        The slide's tissue map.
    px_per_level0
        Pixels of the plane for each level-0 pixel (x, y).

    Attributes
    ----------
    status : (rows, columns) uint8
        :class:`Status` of each square of 64 um, OK until it has been read.
    sharpness : (rows, columns) float32
        Of each square that has been read and shows no fault, else NaN; infinite without contrast.
    """

    def __init__(
        self,
        size_px: tuple[int, int],
        magnification: int,
        background: tuple[int, int, int],
        tissue: TissueMap,
        px_per_level0: tuple[float, float],
    ) -> None:
        self.width, self.height = size_px
        self.magnification = magnification
        self.background = background
        self.tissue = tissue
        self.px_per_level0 = px_per_level0
        self.square_px = SQUARE_UM * magnification // 10
        rows, columns = -(-self.height // self.square_px), -(-self.width // self.square_px)
        self.status = np.full((rows, columns), Status.OK, np.uint8)
        self.sharpness = np.full((rows, columns), np.nan, np.float32)

    @abstractmethod
    def chunk(self, row: int, column: int) -> RGB:
        """Pixels of a chunk, 256 px a side, less at the right and lower edge.

        Background where they cannot be had; their squares' status then says so.
        """

    def read(self, x: int, y: int, width: int, height: int) -> RGB:
        """Pixels (height, width, 3) of a rectangle inside the plane, from its chunks."""
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // CHUNK_PX, (y + height - 1) // CHUNK_PX + 1):
            for column in range(x // CHUNK_PX, (x + width - 1) // CHUNK_PX + 1):
                pixels = self.chunk(row, column)
                top, left = row * CHUNK_PX, column * CHUNK_PX
                first, last = max(y, top), min(y + height, top + pixels.shape[0])
                start, end = max(x, left), min(x + width, left + pixels.shape[1])
                out[first - y : last - y, start - x : end - x] = pixels[
                    first - top : last - top, start - left : end - left
                ]
        return out

    def around(self, cells: Fields, index: int, um: int) -> RGB:
        """Pixels (S, S, 3) of the field of `um` round a cell; background beyond the plane."""
        side = round(um * self.magnification / 10)
        row, col = int(cells.row[index]), int(cells.col[index])
        x, y = (
            round((place + 0.5) * stride * scale - side / 2)
            for place, stride, scale in zip(
                (col, row), cells.stride_level0, self.px_per_level0, strict=True
            )
        )
        out = np.empty((side, side, 3), np.uint8)
        out[:] = self.background
        left, top = max(x, 0), max(y, 0)
        width, height = min(x + side, self.width) - left, min(y + side, self.height) - top
        if width > 0 and height > 0:
            pixels = self.read(left, top, width, height)
            out[top - y : top - y + height, left - x : left - x + width] = pixels
        return out

    def tissue_mask(self, cell_px: int) -> NDArray[np.bool_]:
        """Cells of `cell_px` pixels, (rows, columns), of which at least half is tissue.

        Ink, folds and what cannot be read are none.
        """
        rows, columns = -(-self.height // cell_px), -(-self.width // cell_px)
        out = np.zeros((rows, columns), bool)
        size = cell_px / self.px_per_level0[0], cell_px / self.px_per_level0[1]
        step = max(1, _MOST_POSITIONS // max(columns, 1))
        for first in range(0, rows, step):
            row, col = np.mgrid[first : min(rows, first + step), :columns]
            corner = np.stack((col * size[0], row * size[1]), -1) + self.tissue.origin
            shares = self.tissue.fractions(corner.reshape(-1, 2), size)
            out[first : first + step] = (shares[:, TISSUE] >= 0.5).reshape(row.shape)
        return out

    def status_of(self, fields: Fields) -> NDArray[np.uint8]:
        """Worst status (N,) of the squares under each field, as far as they have been read."""
        worst = np.full(len(fields), Status.OK, np.uint8)
        stride = [s * p for s, p in zip(fields.stride_level0, self.px_per_level0, strict=True)]
        size = [s * p for s, p in zip(fields.field_level0, self.px_per_level0, strict=True)]
        spans = []
        for place, step, side, most in (
            (fields.row, stride[1], size[1], self.status.shape[0]),
            (fields.col, stride[0], size[0], self.status.shape[1]),
        ):
            first = np.floor(place * step / self.square_px + 1e-6).astype(np.intp)
            last = np.ceil((place * step + side) / self.square_px - 1e-6).astype(np.intp)
            spans.append((np.minimum(first, most - 1), np.clip(last, first + 1, most)))
        (top, bottom), (left, right) = spans
        for down in range(int((bottom - top).max(initial=1))):
            for along in range(int((right - left).max(initial=1))):
                row, col = np.minimum(top + down, bottom - 1), np.minimum(left + along, right - 1)
                found = self.status[row, col]
                # The lower number is the more serious one: what cannot be read is not blurred.
                worse = (found != Status.OK) & ((worst == Status.OK) | (found < worst))
                worst[worse] = found[worse]
        return worst

    def sharpness_of(self, fields: Fields) -> NDArray[np.float32]:
        """Sharpness (N,) of the square in which the centre of each field lies, as far as read."""
        places = []
        for place, step, side, scale, most in (
            (fields.row, fields.stride_level0[1], fields.field_level0[1], self.px_per_level0[1], 0),
            (fields.col, fields.stride_level0[0], fields.field_level0[0], self.px_per_level0[0], 1),
        ):
            square = ((place * step + side / 2) * scale // self.square_px).astype(np.intp)
            places.append(np.minimum(square, self.sharpness.shape[most] - 1))
        found: NDArray[np.float32] = self.sharpness[places[0], places[1]]
        return found


class SlidePlane(Plane):
    """The plane of an open slide.

    Parameters
    ----------
    slide, tissue
        The slide and its tissue map.
    magnification
        10, 20 or 40; the slide must serve it.
    preprocess
        Applied to each chunk (h, w, 3), pixel by pixel.
    """

    def __init__(
        self,
        slide: Slide,
        tissue: TissueMap,
        magnification: int,
        preprocess: Callable[[RGB], RGB] | None = None,
    ) -> None:
        self._mpp = mpp_of(magnification)
        scale = slide.mpp.x / self._mpp, slide.mpp.y / self._mpp
        size = (
            max(1, math.ceil(slide.bounds.width * scale[0] - 1e-3)),
            max(1, math.ceil(slide.bounds.height * scale[1] - 1e-3)),
        )
        super().__init__(size, magnification, slide.background, tissue, scale)
        self._slide, self._preprocess = slide, preprocess
        self._chunks: OrderedDict[tuple[int, int], RGB] = OrderedDict()
        self._lock = threading.Lock()

    def chunk(self, row: int, column: int) -> RGB:
        """Pixels of a chunk; see :meth:`Plane.chunk`."""
        with self._lock:
            pixels = self._chunks.get((row, column))
            if pixels is None:
                pixels = self._chunks[row, column] = self._load(row, column)
                if len(self._chunks) > _CACHED_CHUNKS:
                    self._chunks.popitem(last=False)
            else:
                self._chunks.move_to_end((row, column))
        return pixels

    def _load(self, row: int, column: int) -> RGB:
        top, left = row * CHUNK_PX, column * CHUNK_PX
        height, width = min(CHUNK_PX, self.height - top), min(CHUNK_PX, self.width - left)
        try:
            pixels = self._read_slide(left, top, width, height)
        except ReadError:  # a part of it: the squares that can be had are not lost
            pixels = np.empty((height, width, 3), np.uint8)
            for y in range(0, height, self.square_px):
                for x in range(0, width, self.square_px):
                    here = np.s_[y : y + self.square_px, x : x + self.square_px]
                    part = pixels[here]
                    try:
                        part[:] = self._read_slide(left + x, top + y, part.shape[1], part.shape[0])
                    except ReadError:
                        part[:] = self.background
                        self._judge(left + x, top + y, part, failed=True)
        return pixels

    def _read_slide(self, x: int, y: int, width: int, height: int) -> RGB:
        bounds = self._slide.bounds
        region = self._slide.read(
            bounds.x + x / self.px_per_level0[0],
            bounds.y + y / self.px_per_level0[1],
            (width, height),
            self._mpp,
        )
        self._judge(x, y, region.rgb, coverage=region.coverage)
        return region.rgb if self._preprocess is None else self._preprocess(region.rgb)

    def _judge(
        self,
        x: int,
        y: int,
        rgb: RGB,
        *,
        coverage: NDArray[np.bool_] | None = None,
        failed: bool = False,
    ) -> None:
        """Note the status and sharpness of the squares of a part that begins at a square."""
        side = self.square_px
        rows, columns = -(-rgb.shape[0] // side), -(-rgb.shape[1] // side)
        here = np.s_[y // side : y // side + rows, x // side : x // side + columns]
        if failed:
            self.status[here] = Status.FAILED
            return
        if coverage is not None:
            for row, col in np.ndindex(rows, columns):
                part = np.s_[row * side : (row + 1) * side, col * side : (col + 1) * side]
                if coverage[part].mean() < _MIN_COVERAGE:
                    self.status[y // side + row, x // side + col] = Status.FAILED
        status = self.status[here]  # a view: what is set in it stays
        sharp = np.empty(status.shape, np.float32)
        for cut, squares in _alike(rgb, side):
            sharp[cut] = sharpness(squares, self._mpp).reshape(sharp[cut].shape)
        flat = np.isinf(sharp)
        if not flat.all():  # strips at the border are too narrow to tell
            sharp[flat] = np.median(sharp[~flat])
        status[(sharp < MIN_SHARPNESS) & (status == Status.OK)] = Status.BLURRED
        self.sharpness[here] = np.where(status == Status.OK, sharp, np.nan)


def _alike(rgb: RGB, side: int) -> Iterator[tuple[tuple[slice, slice], RGB]]:
    """Cut a part into squares: the whole ones (N, side, side, 3), then what is left at a border.

    Yields
    ------
    Where they lie among all squares, and their pixels, row by row.
    """
    height, width = rgb.shape[:2]
    whole = height // side, width // side
    for rows, tall in ((slice(0, whole[0]), side), (slice(whole[0], None), height % side)):
        for columns, wide in ((slice(0, whole[1]), side), (slice(whole[1], None), width % side)):
            top, left = (cut.start * side for cut in (rows, columns))
            part = rgb[top : None if rows.stop is None else rows.stop * side,
                       left : None if columns.stop is None else columns.stop * side]  # fmt: skip
            if part.size:
                parted = part.reshape(len(part) // tall, tall, part.shape[1] // wide, wide, 3)
                yield (rows, columns), parted.swapaxes(1, 2).reshape(-1, tall, wide, 3)

"""The one way in which pixels of fields are read, for training tiles and for scoring alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.slides import Slide, read_squares
from wsi_anomaly.tiles.fields import Fields, Status
from wsi_anomaly.tiles.sharpness import blurred

Batch = tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.uint8]]

_STRIP_UM = 4096.0  # a few rows of it at 40x fit the readers' caches of decoded tiles
_MOST_MISSING = 0.05  # of a tile, where the slide was never scanned


def read_fields(
    slide: Slide,
    fields: Fields,
    *,
    magnification: int,
    tile_size: int,
    preprocess: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    batch_size: int = 256,
) -> Iterator[Batch]:
    """Read fields in the order that touches each compressed block of the file once.

    Parameters
    ----------
    slide
        An open slide; it stays usable when some of its blocks are damaged.
    fields
        What to read.
    magnification
        10, 20 or 40; pixels have exactly the nominal size.
    tile_size
        Pixels a side of the result: for whole fields, ``field_um / mpp_of(magnification)``.
    preprocess
        Applied to the pixels of good fields, e.g. a ``SlidePreprocessor``.
    batch_size
        Fields a batch.

    Yields
    ------
    indices
        (n,) positions in `fields`.
    images
        (n, tile_size, tile_size, 3) uint8.
    status
        (n,) uint8: that of `fields`, or FAILED where the pixels cannot be had (the image is then
        background), or BLURRED. Never raises for a damaged block.
    """
    mpp = mpp_of(magnification)
    for indices in _batches(reading_order(slide, fields), batch_size):
        squares = read_squares(slide, fields.coords[indices], tile_size, mpp)
        images = squares.rgb
        status = fields.status[indices].copy()
        missing = _inside(slide, fields, indices, tile_size * mpp) - squares.coverage
        status[missing > _MOST_MISSING] = Status.FAILED
        good = status != Status.FAILED
        status[(status == Status.OK) & blurred(images, mpp)] = Status.BLURRED
        if preprocess is not None and good.any():
            if good.all():
                images = preprocess(images)
            else:
                images[good] = preprocess(images[good])
        yield indices, images, status


def reading_order(slide: Slide, fields: Fields) -> NDArray[np.intp]:
    """Fields (N,) in vertical strips, row by row inside: blocks are met again while still at hand.

    The same at every magnification, so that several can be read side by side.
    """
    strip = fields.coords[:, 0] * slide.mpp.x // _STRIP_UM
    order: NDArray[np.intp] = np.lexsort((fields.col, fields.row, strip))
    return order


def _inside(
    slide: Slide, fields: Fields, indices: NDArray[np.intp], side_um: float
) -> NDArray[np.float64]:
    """Share (n,) of each tile that lies in the scanned area: at its border tiles reach beyond."""
    first, area = fields.coords[indices], slide.bounds
    size = np.array((side_um / slide.mpp.x, side_um / slide.mpp.y))
    low = np.maximum(first, (area.x, area.y))
    high = np.minimum(first + size, (area.x + area.width, area.y + area.height))
    shares: NDArray[np.float64] = np.prod(np.maximum(high - low, 0) / size, axis=1)
    return shares


def _batches(order: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]

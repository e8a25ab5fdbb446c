"""Antialiased bicubic resampling to an exact scale, from an exact, fractional position.

The filter is the one that Pillow calls BICUBIC (Keys' cubic convolution, a = -0.5, widened by
the scale when it reduces): it serves the small enlargements (0.293 to 0.25 um) and the
reductions (0.293 to 1 um) that tiles need alike, without aliasing and almost without ringing.
Written out here because a tile is small: Pillow's set-up costs more than the arithmetic.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.compiling import compiled

_SUPPORT = 2.0  # half width of the cubic, in output pixels
_EXACT = 0.02  # a region that is off by less than this many pixels is copied, not resampled


def margin_px(scale: float) -> int:
    """Source pixels beyond the region that the filter reaches, for source pixels per output one."""
    return math.ceil(_SUPPORT * max(scale, 1.0)) + 1


@compiled()
def falls_on_pixels(start, scale, count):  # type: ignore[no-untyped-def]
    """Whether `count` output pixels from `start` (or each of many) are source pixels as they are.

    Where that holds in both directions a region is copied, and needs no pixel beyond itself.
    """
    return np.abs(start - np.rint(start)) + abs(scale - 1) * count < _EXACT


def resample(
    source: NDArray[np.uint8],
    x: float,
    y: float,
    scale_x: float,
    scale_y: float,
    size_px: tuple[int, int],
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.uint8]:
    """Cut a region out of `source` and bring it to `size_px`.

    Parameters
    ----------
    source
        (h, w, 3) uint8; where it ends, the filter is cut off and renormalised.
    x, y
        Corner of the region, pixels; the corner of a pixel is whole, its centre .5.
    scale_x, scale_y
        Source pixels per output pixel.
    size_px
        Width and height of the result.
    origin
        Where `source` begins in the frame of `x` and `y`. The result depends on the frame alone,
        to the last bit, not on how much of it is at hand.

    Returns
    -------
    (height, width, 3) uint8, contiguous.
    """
    width, height = size_px
    out = np.empty((height, width, 3), np.uint8)
    _fill(np.ascontiguousarray(source), origin, x, y, scale_x, scale_y, out)
    return out


def resample_batch(
    source: NDArray[np.uint8],
    corners: NDArray[np.float64],
    scale: tuple[float, float],
    origin: tuple[int, int],
    out: NDArray[np.uint8],
) -> None:
    """Cut many regions of one size out of `source`, each as :func:`resample` does.

    Parameters
    ----------
    source
        (h, w, 3) uint8.
    corners
        (N, 2), x and y of each region.
    scale
        Source pixels per output pixel (x, y).
    origin
        Where `source` begins in the frame of `corners`.
    out
        (N, height, width, 3) uint8, filled.
    """
    _fill_batch(np.ascontiguousarray(source), origin, corners, scale[0], scale[1], out)


@compiled()
def covered_batch(  # type: ignore[no-untyped-def]
    coverage, corners, scale, origin, size_px, out
):  # pragma: no cover - compiled
    """Share of each square (N,) that was scanned, by the source pixel under each of its pixels."""
    for n in range(len(corners)):
        count = 0
        for i in range(size_px):
            row = coverage[int((i + 0.5) * scale[1] + corners[n, 1] - origin[1])]
            for j in range(size_px):
                count += row[int((j + 0.5) * scale[0] + corners[n, 0] - origin[0])]
        out[n] = count / (size_px * size_px)


@compiled()
def _taps(  # type: ignore[no-untyped-def]
    start, scale, count, origin, limit
):  # pragma: no cover - compiled
    """First source pixel and normalised weights of each of `count` output pixels."""
    stretch = max(scale, 1.0)
    reach = _SUPPORT * stretch
    size = math.ceil(2 * reach) + 2
    first = np.empty(count, np.int64)
    length = np.empty(count, np.int64)
    weights = np.zeros((count, size), np.float32)
    for i in range(count):
        centre = start + (i + 0.5) * scale
        low = min(max(math.floor(centre - reach + 0.5), origin), origin + limit - 1)
        high = max(min(math.floor(centre + reach + 0.5), origin + limit), low + 1)
        total = 0.0
        for k in range(low, high):
            t = abs((k + 0.5 - centre) / stretch)
            if t < 1:
                w = (1.5 * t - 2.5) * t * t + 1
            elif t < 2:
                w = ((-0.5 * t + 2.5) * t - 4) * t + 2
            else:
                w = 0.0
            weights[i, k - low] = w
            total += w
        if total == 0.0:  # wholly beyond the source: its nearest pixel
            weights[i, 0] = 1.0
            total = 1.0
        weights[i] /= np.float32(total)
        first[i] = low - origin
        length[i] = high - low
    return first, length, weights


@compiled(fastmath=True)
def _resample(  # type: ignore[no-untyped-def]
    source, origin, x, y, scale_x, scale_y, out
):  # pragma: no cover - compiled
    """Rows first, over contiguous pixels; then columns, over a transposed strip."""
    height, width = out.shape[0], out.shape[1]
    rows, row_length, row_weights = _taps(y, scale_y, height, origin[1], source.shape[0])
    columns, column_length, column_weights = _taps(x, scale_x, width, origin[0], source.shape[1])
    left, right = columns[0], columns[-1] + column_length[-1]
    columns -= left
    line = (right - left) * 3
    flat = source.reshape(source.shape[0], source.shape[1] * 3)[:, left * 3 : right * 3]
    # tall[j, i]: value of flat column j in output row i, so that the second pass runs over rows.
    tall = np.empty((line, height), np.float32)
    total = np.empty(line, np.float32)
    for i in range(height):
        total[:] = 0
        for k in range(row_length[i]):
            weight = row_weights[i, k]
            pixels = flat[rows[i] + k]
            for j in range(line):
                total[j] += weight * np.float32(pixels[j])
        for j in range(line):
            tall[j, i] = total[j]
    column = np.empty(height, np.float32)
    for i in range(width):
        for c in range(3):
            column[:] = 0.5
            for k in range(column_length[i]):
                weight = column_weights[i, k]
                values = tall[(columns[i] + k) * 3 + c]
                for j in range(height):
                    column[j] += weight * values[j]
            for j in range(height):
                out[j, i, c] = np.uint8(min(max(column[j], np.float32(0)), np.float32(255)))


@compiled()
def _fill_batch(  # type: ignore[no-untyped-def]
    source, origin, corners, scale_x, scale_y, out
):  # pragma: no cover - compiled
    for i in range(len(corners)):
        _fill(source, origin, corners[i, 0], corners[i, 1], scale_x, scale_y, out[i])


@compiled()
def _fill(  # type: ignore[no-untyped-def]
    source, origin, x, y, scale_x, scale_y, out
):  # pragma: no cover - compiled
    """Copy where the region falls on whole pixels of the right size, else resample."""
    height, width = out.shape[0], out.shape[1]
    exact = falls_on_pixels(x, scale_x, width) and falls_on_pixels(y, scale_y, height)
    left, top = round(x) - origin[0], round(y) - origin[1]
    if exact and 0 <= left <= source.shape[1] - width and 0 <= top <= source.shape[0] - height:
        # Bytes, one by one, in an innermost loop: the compiler makes a block copy of it. An
        # assignment of slices is ten times slower.
        flat = source.reshape(source.shape[0], source.shape[1] * 3)
        lines = out.reshape(height, width * 3)
        for i in range(height):
            from_, to = flat[top + i], lines[i]
            for j in range(width * 3):
                to[j] = from_[left * 3 + j]
    else:
        _resample(source, origin, x, y, scale_x, scale_y, out)


def level_span(
    first: float, last: float, count: int, scale: float, limit: int, exact: bool
) -> tuple[int, int]:
    """Level pixels, from first to one past last, that regions from `first` to `last` depend on.

    Each has `count` output pixels. `exact`: all are pixels of the level as they are, and depend on
    no others. Else, what the resampling filter wants beyond is taken from the level where it
    exists; a region itself is never cut, so that what lies outside the level becomes background.
    """
    if exact:
        return round(first), round(last) + count
    margin = margin_px(scale)
    start, stop = math.floor(first + 1e-9), math.ceil(last + count * scale - 1e-9)
    return min(start, max(start - margin, 0)), max(stop, min(stop + margin, limit))

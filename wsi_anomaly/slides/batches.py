"""Many squares of a slide at once: neighbours share one read, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.slides.base import ReadError, Region, Slide
from wsi_anomaly.slides.resample import (
    covered_batch,
    falls_on_pixels,
    level_span,
    resample_batch,
)

_MAX_GAP = 1.0  # squares that lie farther apart than so many of their sides are read one by one
_MAX_RUN_PX = 4_000_000  # source pixels of one read


@dataclass(frozen=True, eq=False)
class Squares:
    """Pixels of many squares.

    Attributes
    ----------
    rgb
        (N, size, size, 3) uint8; background where they cannot be had.
    coverage
        (N,) float32, share of each that was scanned; 0 where the file is damaged.
    """

    rgb: NDArray[np.uint8]
    coverage: NDArray[np.float32]


def read_squares(slide: Slide, coords: NDArray[np.int64], size_px: int, mpp: float) -> Squares:
    """Read squares; each has the pixels that :meth:`Slide.read` gives it.

    Parameters
    ----------
    slide
        An open slide.
    coords
        (N, 2) level-0 top left corners. Fastest when neighbours in a row follow one another.
    size_px
        Side of each in the result, pixels.
    mpp
        Micrometres per pixel of the result.

    Returns
    -------
    Damaged parts of the file never raise.
    """
    rgb = np.empty((len(coords), size_px, size_px, 3), np.uint8)
    coverage = np.ones(len(coords), np.float32)
    level = _Level.of(slide, coords, size_px, mpp)
    for run in _runs(coords, level):
        if run.stop - run.start > 1 and _read_run(slide, level, run, rgb[run], coverage[run]):
            continue
        for i in range(run.start, run.stop):
            x, y = float(coords[i, 0]), float(coords[i, 1])
            try:
                region = slide.read(x, y, (size_px, size_px), mpp)
            except ReadError:
                region = Region(np.asarray(slide.background, np.uint8), np.zeros(1, bool))
            rgb[i] = region.rgb
            if region.coverage is not None:
                coverage[i] = region.coverage.mean()
    return Squares(rgb, coverage)


@dataclass(frozen=True, eq=False)
class _Level:
    """The level that squares are read from, and where they lie on it.

    Attributes
    ----------
    index, width, height
        Of the level, pixels.
    downsample
        Level-0 pixels a pixel of it.
    scale
        Its pixels per pixel of the result (x, y).
    corners
        (N, 2), of the squares, pixels of the level.
    size_px
        Side of a square in the result.
    exact
        (N,), which squares are pixels of the level as they are.
    """

    index: int
    width: int
    height: int
    downsample: float
    scale: tuple[float, float]
    corners: NDArray[np.float64]
    size_px: int
    exact: NDArray[np.bool_]

    @classmethod
    def of(cls, slide: Slide, coords: NDArray[np.int64], size_px: int, mpp: float) -> _Level:
        index = slide.best_level(mpp)
        downsample = slide.level_downsamples[index]
        scale = mpp / (slide.mpp.x * downsample), mpp / (slide.mpp.y * downsample)
        corners = coords / downsample
        x, y = (falls_on_pixels(corners[:, axis], scale[axis], size_px) for axis in (0, 1))
        size = slide.level_dimensions[index]
        return cls(index, *size, downsample, scale, corners, size_px, x & y)


def _runs(coords: NDArray[np.int64], level: _Level) -> Iterator[slice]:
    """Stretches of neighbours from left to right in one row, within the slide or over its edge."""
    if not len(coords):
        return
    side = level.size_px * level.scale[0] * level.downsample
    longest = _MAX_RUN_PX / (level.size_px * level.scale[1]) * level.downsample
    step = np.diff(coords, axis=0)
    apart = np.ones(len(coords), bool)
    apart[1:] = (step[:, 1] != 0) | (step[:, 0] < 0) | (step[:, 0] > (1 + _MAX_GAP) * side)
    # Resampled, one that hangs over the edge would have its whole row read one by one.
    over = level.corners[:, 0] + level.size_px * level.scale[0] > level.width
    apart[1:] |= (over[1:] != over[:-1]) & ~(level.exact[1:] & level.exact[:-1])
    first = coords[apart, 0][np.cumsum(apart) - 1]
    part = (coords[:, 0] - first) // longest
    apart[1:] |= part[1:] != part[:-1]
    for start, stop in pairwise([*np.flatnonzero(apart).tolist(), len(coords)]):
        yield slice(start, stop)


def _read_run(
    slide: Slide,
    level: _Level,
    run: slice,
    rgb: NDArray[np.uint8],
    coverage: NDArray[np.float32],
) -> bool:
    """Fill `rgb` and `coverage` from one read; False where only single reads can tell."""
    corners, exact = level.corners[run], bool(level.exact[run].all())
    (left, right), (top, bottom) = (
        level_span(
            corners[0, axis], corners[-1, axis], level.size_px, level.scale[axis], limit, exact
        )
        for axis, limit in ((0, level.width), (1, level.height))
    )
    try:
        source = slide.stored(level.index, left, top, right - left, bottom - top)
    except ReadError:
        return False
    if source.coverage is not None:
        if not exact and (left < 0 or right > level.width):
            return False  # the filter of a square would take in what lies beyond the edge
        covered_batch(source.coverage, corners, level.scale, (left, top), level.size_px, coverage)
    resample_batch(source.rgb, corners, level.scale, (left, top), rgb)
    return True

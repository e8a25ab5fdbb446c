"""Many squares of a slide at once: neighbours share one read, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.slides.base import ReadError, Region, Slide
from wsi_anomaly.slides.resample import falls_on_pixels, level_span, resample_batch

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
    for run in _runs(slide, coords, size_px, mpp):
        if run.stop - run.start > 1 and _read_run(slide, coords[run], mpp, rgb[run]):
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


def _runs(slide: Slide, coords: NDArray[np.int64], size_px: int, mpp: float) -> Iterator[slice]:
    """Stretches of neighbours from left to right in one row, within the slide or over its edge."""
    side = size_px * mpp / slide.mpp.x
    downsample = slide.level_downsamples[slide.best_level(mpp)]
    height = size_px * mpp / slide.mpp.y / downsample
    longest = _MAX_RUN_PX / height * downsample
    step = np.diff(coords, axis=0)
    apart = (step[:, 1] != 0) | (step[:, 0] < 0) | (step[:, 0] > (1 + _MAX_GAP) * side)
    # One that hangs over the edge would have its whole row read one by one.
    over = coords[:, 0] + side > slide.level_dimensions[0][0]
    apart |= over[1:] != over[:-1]
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(coords)]
    for start, stop in pairwise(edges):
        part = ((coords[start:stop, 0] - coords[start, 0]) // longest).astype(np.intp)
        inner = [start, *(np.flatnonzero(np.diff(part)) + 1 + start).tolist(), stop]
        yield from (slice(first, last) for first, last in pairwise(inner))


def _read_run(slide: Slide, coords: NDArray[np.int64], mpp: float, out: NDArray[np.uint8]) -> bool:
    """Fill `out` from one read; False when a part is damaged or was never scanned."""
    size_px = out.shape[1]
    level = slide.best_level(mpp)
    downsample = slide.level_downsamples[level]
    scale = mpp / (slide.mpp.x * downsample), mpp / (slide.mpp.y * downsample)
    corners = coords / downsample
    limits = slide.level_dimensions[level]
    exact = all(falls_on_pixels(corners[:, axis], scale[axis], size_px).all() for axis in (0, 1))
    spans = [
        level_span(corners[0, axis], corners[-1, axis], size_px, scale[axis], limits[axis], exact)
        for axis in (0, 1)
    ]
    (left, right), (top, bottom) = spans
    try:
        source = slide.stored(level, left, top, right - left, bottom - top)
    except ReadError:
        return False
    if source.coverage is not None:
        return False
    resample_batch(source.rgb, corners, scale, (left, top), out)
    return True

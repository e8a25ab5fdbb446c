"""Tell a field that is out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.tiles.fields import Fields, Status

MIN_SHARPNESS = 0.25
"""Below this a tile is out of focus: a Gaussian blur of 1.6 to 2 um, whatever the tissue
(``benchmarks/focus.py``; slides in focus have a median of 1.3 to 4)."""

_MEASURED_MPP = 1.0
_BANDS = 3
_MOST_AROUND = 0.6  # of a field and its eight neighbours
# Mean squares, grey levels: what rounding to 8 bits leaves in the two finer bands, and what the
# two coarser ones need at least to be more than that.
_ROUNDING = np.array((0.1, 0.015))
_CONTRAST = np.array((0.2, 0.1))


def sharpness(images: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """How much finer detail there is for each coarser one, whatever the strength of a stain.

    The green channel, which both stains absorb, at 1 um a pixel, so that a field is judged alike at
    every magnification, is parted into bands of about 2 to 4, 4 to 8 and 8 to 16 um. Tissue in
    focus has edges, and these have power in each band; a blur takes the finer from the coarser one.
    The power of the first to that of the second counts, without what rounding to whole grey levels
    adds; where the blur is so large that no more is left of these, the second to the third.

    Parameters
    ----------
    images
        (N, h, w, 3) uint8, neighbours on a slide: a tile without contrast is judged by the
        others together.
    mpp
        Their micrometres per pixel.

    Returns
    -------
    (N,) float32; infinite where there is no contrast at all.
    """
    powers = np.zeros((len(images), _BANDS), np.float32)
    factor = max(1, round(_MEASURED_MPP / mpp))
    _band_powers(np.ascontiguousarray(images), factor, powers)
    out = _ratio(powers)
    flat = np.isinf(out)
    if flat.any() and not flat.all():
        out[flat] = _ratio(powers[~flat].mean(0, keepdims=True))
    return out


def blurred(images: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Which tiles (N, S, S, 3) are out of focus; doubtful ones pass."""
    return sharpness(images, mpp) < MIN_SHARPNESS


def amid_blur(fields: Fields, status: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which good fields (N,) lie amid blurred ones: focus does not change from field to field.

    Parameters
    ----------
    fields, status
        N fields of a slide's grid, and their :class:`~wsi_anomaly.tiles.Status` after reading.
    """
    blurred_fields = status == Status.BLURRED
    judged = blurred_fields | (status == Status.OK)
    around = []
    for chosen in (blurred_fields, judged):
        grid = np.zeros(fields.grid_shape, np.float32)
        grid[fields.row[chosen], fields.col[chosen]] = 1
        around.append(ndimage.uniform_filter(grid, 3, mode="constant")[fields.row, fields.col])
    amid: NDArray[np.bool_] = (status == Status.OK) & (around[0] > _MOST_AROUND * around[1])
    return amid


def _ratio(powers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ratio (N,) of the finest bands (N, 3) that have power, infinite where none has."""
    finer, coarser = np.maximum(powers[:, :-1] - _ROUNDING, 0), powers[:, 1:]
    ratios = np.full(finer.shape, np.inf, np.float32)
    np.divide(finer, coarser, out=ratios, where=coarser > _CONTRAST, casting="same_kind")
    found: NDArray[np.float32] = np.where(np.isfinite(ratios[:, 0]), ratios[:, 0], ratios[:, 1])
    return found


@compiled()
def _smoothed(source, height, width, step, by, line, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Binomial mean over 5 x 5 points, `step` apart, at every `by`-th; the size of the result."""
    wide = (width - 4 * step + by - 1) // by
    high = (height - 4 * step + by - 1) // by
    for y in range(high):
        top = y * by
        for x in range(width):
            line[x] = (
                source[top, x] + source[top + 4 * step, x]
                + 4 * (source[top + step, x] + source[top + 3 * step, x])
                + 6 * source[top + 2 * step, x]
            )  # fmt: skip
        for x in range(wide):
            left = x * by
            out[y, x] = (
                line[left] + line[left + 4 * step]
                + 4 * (line[left + step] + line[left + 3 * step])
                + 6 * line[left + 2 * step]
            ) * np.float32(1 / 256)  # fmt: skip
    return high, wide


@compiled()
def _difference(fine, smooth, high, wide, step, by):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Mean square of what smoothing took away."""
    total = np.float32(0)
    if high < 1 or wide < 1:
        return total  # a strip at the border, too narrow for this band
    for y in range(high):
        for x in range(wide):
            gone = fine[y * by + 2 * step, x * by + 2 * step] - smooth[y, x]
            total += gone * gone
    return total / np.float32(high * wide)


@compiled()
def _band_powers(images, factor, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """One pass over each tile while it is in the cache; 2 um are enough for the coarser bands."""
    side, width = images.shape[1] // factor, images.shape[2] // factor
    flat = images.reshape(images.shape[0], images.shape[1], images.shape[2] * 3)
    green = np.empty((side, width), np.float32)
    first, second, third = np.empty_like(green), np.empty_like(green), np.empty_like(green)
    line = np.empty(width, np.float32)
    rows = np.empty(flat.shape[2], np.uint16)
    share = np.float32(1 / factor**2)
    for n in range(len(images)):
        for y in range(side):
            # Whole lines first: neighbours in memory are added many at a time.
            rows[:] = 0
            for k in range(factor):
                pixels = flat[n, y * factor + k]
                for x in range(rows.size):
                    rows[x] += pixels[x]
            for x in range(width):
                total = np.int64(0)
                for j in range(factor):
                    total += rows[3 * (x * factor + j) + 1]
                green[y, x] = total * share
        high, wide = _smoothed(green, side, width, 1, 2, line, first)
        out[n, 0] = _difference(green, first, high, wide, 1, 2)
        after_high, after_wide = _smoothed(first, high, wide, 1, 1, line, second)
        out[n, 1] = _difference(first, second, after_high, after_wide, 1, 1)
        high, wide = _smoothed(second, after_high, after_wide, 2, 1, line, third)
        out[n, 2] = _difference(second, third, high, wide, 2, 1)

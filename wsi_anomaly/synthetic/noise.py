"""Band-limited random textures: one tileable bank, read anywhere at any scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_anomaly.core.compiling import compiled

Plane = NDArray[np.float32]

BANK_SIZE = 512
PIXELS_PER_UNIT = 4.0
_BLUR_PX = 1.6


def noise_bank(rng: np.random.Generator) -> Plane:
    """(512, 512) smooth noise, mean 0, variance 1, periodic; features of about one unit."""
    white = rng.standard_normal((BANK_SIZE, BANK_SIZE))
    smooth = ndimage.gaussian_filter(white, _BLUR_PX, mode="wrap")
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


@compiled()
def sample(bank: Plane, x: float, y: float) -> float:
    """Noise at (x, y), in units of its feature size; period 128 units."""
    fx = x * PIXELS_PER_UNIT
    fy = y * PIXELS_PER_UNIT
    ix = int(np.floor(fx))
    iy = int(np.floor(fy))
    tx = fx - ix
    ty = fy - iy
    x0 = ix & (BANK_SIZE - 1)
    y0 = iy & (BANK_SIZE - 1)
    x1 = (x0 + 1) & (BANK_SIZE - 1)
    y1 = (y0 + 1) & (BANK_SIZE - 1)
    top = bank[y0, x0] + tx * (bank[y0, x1] - bank[y0, x0])
    bottom = bank[y1, x0] + tx * (bank[y1, x1] - bank[y1, x0])
    value: float = top + ty * (bottom - top)
    return value


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], wavelength_px: float
) -> NDArray[np.float64]:
    """Noise (H, W) of variance about 1 whose features measure `wavelength_px` grid points.

    Independent of the bank: used for layouts, where a period would show.
    """
    step = max(1.0, wavelength_px / 2)
    rows, columns = (int(np.ceil(n / step)) + 4 for n in shape)
    coarse = rng.standard_normal((rows, columns))
    offset = rng.uniform(0, 1, 2)
    y = np.arange(shape[0]) / step + 1 + offset[0]
    x = np.arange(shape[1]) / step + 1 + offset[1]
    values = ndimage.map_coordinates(
        ndimage.spline_filter(coarse, order=3),
        np.meshgrid(y, x, indexing="ij"),
        order=3,
        prefilter=False,
        mode="nearest",
    )
    return np.asarray(values, dtype=np.float64) * 1.3


@compiled()
def ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, smooth between."""
    x = (value - low) / (high - low)
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


@compiled()
def hashed(i: int, j: int, k: int) -> float:
    """Hash to a number in [0, 1)."""
    n = (i * 374761393 + j * 668265263 + k * 1274126177) & 0xFFFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFFFF) / 16777216.0


@compiled()
def mosaic(x: float, y: float) -> tuple[float, float]:
    """Distance to the nearest border of a mosaic of cells of size 1, and the cell's own number."""
    column, row = int(np.floor(x)), int(np.floor(y))
    first, second, own = 9.0, 9.0, 0.0
    for i in range(row - 1, row + 2):
        for j in range(column - 1, column + 2):
            dx = j + 0.15 + 0.7 * hashed(i, j, 1) - x
            dy = i + 0.15 + 0.7 * hashed(i, j, 2) - y
            distance = np.sqrt(dx * dx + dy * dy)
            if distance < first:
                first, second = distance, first
                own = hashed(i, j, 3)
            elif distance < second:
                second = distance
    return (second - first) / 2, own

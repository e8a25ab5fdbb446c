"""Band-limited random textures: one tileable bank, read anywhere at any scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

F = TypeVar("F", bound=Callable[..., Any])

Plane = NDArray[np.float32]

BANK_SIZE = 512
PIXELS_PER_UNIT = 4.0
_BLUR_PX = 1.6


def compiled(function: F) -> F:
    """Compile with numba, once per machine; same arithmetic everywhere (no fast mathematics)."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


def noise_bank(rng: np.random.Generator) -> Plane:
    """(512, 512) smooth noise, mean 0, variance 1, periodic; features of about one unit."""
    white = rng.standard_normal((BANK_SIZE, BANK_SIZE))
    smooth = ndimage.gaussian_filter(white, _BLUR_PX, mode="wrap")
    return ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)


@compiled
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
    return top + ty * (bottom - top)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], wavelength_px: float
) -> NDArray[np.float64]:
    """Noise of variance about 1 whose features measure `wavelength_px` grid points.

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

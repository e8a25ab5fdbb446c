"""Tell a field that is out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.compiling import compiled

_MEASURED_MPP = 1.0
MIN_SHARPNESS = 0.02
"""Below this a tile is plainly out of focus."""


def sharpness(images: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """Share of fine detail in a tile's contrast, whatever its stain's strength.

    Variance of the discrete Laplacian over the variance of the green channel (which both stains
    absorb), at 1 um a pixel so that a field is judged alike at every magnification. White noise
    has 20, an image blurred by a Gaussian of standard deviation s um about 2 / s^4 of it.

    Parameters
    ----------
    images
        (N, s, s, 3) uint8.
    mpp
        Their micrometres per pixel.

    Returns
    -------
    (N,) float32; infinite for a tile without any contrast.
    """
    out = np.empty(len(images), np.float32)
    _sharpness(np.ascontiguousarray(images), max(1, round(_MEASURED_MPP / mpp)), out)
    return out


@compiled()
def _sharpness(  # type: ignore[no-untyped-def]
    images, factor, out
):  # pragma: no cover - compiled
    """One pass over each tile while it is in the cache; variances from sums in whole numbers."""
    side, width = images.shape[1] // factor, images.shape[2] // factor
    flat = images.reshape(images.shape[0], images.shape[1], images.shape[2] * 3)
    green = np.empty((side, width), np.int32)
    rows = np.empty(flat.shape[2], np.uint16)
    count = (side - 2) * (width - 2)
    for n in range(len(images)):
        for y in range(side):
            line = green[y]
            line[:] = 0
            # Whole lines first: neighbours in memory are added many at a time.
            rows[:] = 0
            for k in range(factor):
                pixels = flat[n, y * factor + k]
                for x in range(rows.size):
                    rows[x] += pixels[x]
            for j in range(factor):
                for x in range(width):
                    line[x] += rows[3 * (x * factor + j) + 1]
        total, total2, fine, fine2 = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        for y in range(1, side - 1):
            above, line, below = green[y - 1], green[y], green[y + 1]
            for x in range(1, width - 1):
                value = line[x]
                edge = above[x] + below[x] + line[x - 1] + line[x + 1] - 4 * value
                total += value
                total2 += value * value
                fine += edge
                fine2 += edge * edge
        contrast = count * total2 - total * total
        out[n] = (count * fine2 - fine * fine) / contrast if contrast else np.inf


def blurred(images: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Which tiles are plainly out of focus; doubtful ones pass."""
    return sharpness(images, mpp) < MIN_SHARPNESS

"""From stain concentrations to the grey levels of a scanner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.synthetic.noise import Plane, hashed


@compiled()
def transmitted(planes: Plane, densities: NDArray[np.float64], white: Plane, out: Plane) -> None:
    """Beer and Lambert: light through hematoxylin, eosin and ink.

    Parameters
    ----------
    planes
        (3, H, W) concentrations.
    densities
        (3, 3) optical density of each, natural logarithm, in R, G, B.
    white
        (3,) grey level of empty glass.
    out
        (H, W, 3) grey levels; overwritten.
    """
    for i in range(planes.shape[1]):
        for j in range(planes.shape[2]):
            h, e, ink = planes[0, i, j], planes[1, i, j], planes[2, i, j]
            for k in range(3):
                density = h * densities[0, k] + e * densities[1, k] + ink * densities[2, k]
                out[i, j, k] = white[k] * np.exp(np.float32(-density))


@compiled()
def blurred(image: Plane, kernel: Plane, out: Plane) -> None:
    """Blur (H, W, 3) with a separable kernel; `out` loses half a kernel at top and bottom."""
    half = len(kernel) // 2
    height, width = image.shape[0], image.shape[1]
    line = np.empty((width, 3), np.float32)
    for i in range(half, height - half):
        line[:] = 0
        for m in range(len(kernel)):
            weight = kernel[m]
            for j in range(width):
                for k in range(3):
                    line[j, k] += weight * image[i + m - half, j, k]
        for j in range(width):
            for k in range(3):
                total = np.float32(0)
                for m in range(len(kernel)):
                    jj = min(max(j + m - half, 0), width - 1)
                    total += kernel[m] * line[jj, k]
                out[i - half, j, k] = total


@compiled()
def sensed(image: Plane, grain: Plane, top: int, sigma: float, out: NDArray[np.uint8]) -> None:
    """Add the sensor's noise to (H, W, 3) grey levels and round them."""
    size = grain.shape[0]
    for i in range(image.shape[0]):
        # Shift by row, so that the grain's period does not show.
        shift = int(hashed(top + i, 3, 7) * size)
        row = (top + i) % size
        for j in range(image.shape[1]):
            for k in range(3):
                noise = grain[row, (j * 3 + k + shift) % size]
                value = image[i, j, k] + sigma * noise + 0.5
                out[i, j, k] = np.uint8(min(max(value, 0.0), 255.0))

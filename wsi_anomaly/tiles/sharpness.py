"""Tell a field that is out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEASURED_MPP = 1.0
_MIN_SHARPNESS = 0.02


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
    green = images[..., 1].astype(np.float32)
    factor = max(1, round(_MEASURED_MPP / mpp))
    if factor > 1:
        n, side = len(green), green.shape[1] // factor
        green = green[:, : side * factor, : side * factor]
        green = green.reshape(n, side, factor, side, factor).mean((2, 4))
    centre = green[:, 1:-1, 1:-1]
    laplacian = (
        green[:, :-2, 1:-1]
        + green[:, 2:, 1:-1]
        + green[:, 1:-1, :-2]
        + green[:, 1:-1, 2:]
        - 4 * centre
    )
    contrast = centre.var((1, 2))
    with np.errstate(divide="ignore"):
        return np.where(contrast > 0, laplacian.var((1, 2)) / contrast, np.inf).astype(np.float32)


def blurred(images: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Which tiles are plainly out of focus; doubtful ones pass."""
    return sharpness(images, mpp) < _MIN_SHARPNESS

"""Estimate a slide's stain profile from a sample of its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.core.errors import StainError
from wsi_anomaly.core.optical_density import WHITE
from wsi_anomaly.stain.concentrations import concentrations, optical_density
from wsi_anomaly.stain.macenko import plane_angles
from wsi_anomaly.stain.profile import StainProfile
from wsi_anomaly.stain.vahadane import learn_dictionary

METHODS = {"vahadane": learn_dictionary, "macenko": plane_angles}
"""Stain methods: from optical densities (N, 3) to two stain vectors (2, 3)."""

MAXIMUM_PERCENTILE = 99.0
_TISSUE_LUMINANCE = 0.567  # CIE Y of L* = 80, above which StainTools takes a pixel for glass
_MIN_PIXELS = 200
_MAX_PIXELS = 60_000


def tissue_pixels(pixels: NDArray[np.uint8], white: ArrayLike = WHITE) -> NDArray[np.bool_]:
    """Which pixels are tissue rather than glass: CIE luminance below that of L* = 80.

    Parameters
    ----------
    pixels
        (N, 3) uint8.
    white
        Intensity of glass per channel.

    Returns
    -------
    (N,) bool.
    """
    level = np.clip(np.arange(256)[:, None] / np.asarray(white, np.float64), 0, 1)
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    weighted = (linear * (0.2126, 0.7152, 0.0722)).astype(np.float32)
    luminance = weighted[pixels[:, 0], 0] + weighted[pixels[:, 1], 1] + weighted[pixels[:, 2], 2]
    tissue: NDArray[np.bool_] = luminance < _TISSUE_LUMINANCE
    return tissue


def choose_pixels(
    pixels: NDArray[np.uint8], *, seed: int = 0, white: ArrayLike = WHITE
) -> NDArray[np.uint8]:
    """Tissue among pixels (..., 3), no more than it takes to estimate two stains, (N, 3) uint8.

    Raises
    ------
    StainError
        Too little tissue.
    """
    pixels = np.ascontiguousarray(pixels, np.uint8).reshape(-1, 3)
    pixels = pixels[tissue_pixels(pixels, white)]
    if len(pixels) < _MIN_PIXELS:
        raise StainError(
            f"Only {len(pixels)} tissue pixels to estimate the stains from, {_MIN_PIXELS} are "
            "needed."
        )
    if len(pixels) > _MAX_PIXELS:
        chosen = np.random.default_rng(seed).choice(len(pixels), _MAX_PIXELS, replace=False)
        pixels = pixels[np.sort(chosen)]
    return pixels


def fit_profile(
    pixels: NDArray[np.uint8],
    method: str = "vahadane",
    *,
    seed: int = 0,
    white: ArrayLike = WHITE,
) -> StainProfile:
    """Estimate a slide's stain vectors and strengths.

    Parameters
    ----------
    pixels
        (..., 3) uint8, a sample of the slide; glass among them is left out.
    method
        "vahadane" or "macenko".
    seed
        Draws the pixels that are used when there are more than enough.
    white
        Intensity of glass per channel.

    Raises
    ------
    StainError
        Too little tissue, or no two stains in it.
    """
    pixels = choose_pixels(pixels, seed=seed, white=white)
    matrix = METHODS[method](optical_density(pixels, white))
    maxima = np.percentile(concentrations(pixels, matrix, white=white), MAXIMUM_PERCENTILE, axis=0)
    return StainProfile(matrix, maxima, white)

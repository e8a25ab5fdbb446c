"""Optical density, and the two concentrations of a pixel in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.core.optical_density import WHITE, density_table

LAMBDA_CONCENTRATION = 0.01


def optical_density(rgb: NDArray[np.uint8], white: ArrayLike = WHITE) -> NDArray[np.float64]:
    """Optical density of 8-bit pixels (..., 3)."""
    table = density_table(white)
    return np.stack([table[rgb[..., c], c] for c in range(3)], axis=-1)


def concentrations(
    rgb: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    *,
    white: ArrayLike = WHITE,
    penalty: float = LAMBDA_CONCENTRATION,
) -> NDArray[np.float64]:
    """Stain concentrations of 8-bit pixels.

    Solves, for each pixel of optical density x and stain vectors m_1, m_2 of length one,

        min over a >= 0 of  1/2 |x - a_1 m_1 - a_2 m_2|^2 + penalty (a_1 + a_2)

    exactly: the unconstrained solution where both are positive, else the better single stain.

    Parameters
    ----------
    rgb
        (..., 3) uint8.
    matrix
        (2, 3), unit rows.

    Returns
    -------
    (..., 2) float64, hematoxylin and eosin.
    """
    projection = optical_density(rgb, white) @ np.asarray(matrix, np.float64).T - penalty
    overlap = float(matrix[0] @ matrix[1])
    determinant = max(1.0 - overlap * overlap, 1e-12)
    first, second = projection[..., 0], projection[..., 1]
    both_first = (first - overlap * second) / determinant
    both_second = (second - overlap * first) / determinant
    return np.stack(
        (
            np.where(
                both_first < 0, 0, np.where(both_second < 0, np.maximum(first, 0), both_first)
            ),
            np.where(both_first < 0, np.maximum(second, 0), np.maximum(both_second, 0)),
        ),
        axis=-1,
    )

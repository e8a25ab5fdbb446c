"""Macenko's stain separation: the extreme directions in the plane of the two stains.

Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009.
Optical densities of tissue lie near a plane; its first and last percentile of angle are the stains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import StainError

_PERCENTILES = (1.0, 99.0)


def plane_angles(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stain vectors (2, 3) of densities (N, 3), as :func:`.vahadane.learn_dictionary` gives them.

    Raises
    ------
    StainError
        The densities span no plane.
    """
    values, vectors = np.linalg.eigh(np.cov(density, rowvar=False))
    if values[1] <= 1e-9:
        raise StainError("The stains cannot be told apart.")
    plane = vectors[:, [2, 1]]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    x, y = (density @ plane).T
    angles = np.percentile(np.arctan2(y, x), _PERCENTILES)
    stains = np.maximum(np.stack((np.cos(angles), np.sin(angles)), axis=1) @ plane.T, 0)
    lengths = np.linalg.norm(stains, axis=1, keepdims=True)
    if (lengths < 1e-6).any():
        raise StainError("The stains cannot be told apart.")
    stains = stains / lengths
    return np.ascontiguousarray(stains if stains[0, 0] >= stains[1, 0] else stains[::-1])

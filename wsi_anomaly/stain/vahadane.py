"""Vahadane's stain separation: sparse non-negative dictionary learning with two atoms.

Vahadane et al., "Structure-preserving color normalization and sparse stain separation for
histological images", IEEE TMI 35:1962 (2016). The objective is that of StainTools,

    min over D, A of  1/2 |X - D A|^2 + lambda |A|_1,   A >= 0, D >= 0, |d_k| <= 1,

over the optical densities X of tissue pixels, lambda = 0.1. StainTools minimises it online from
a random start for one second; here both steps are exact (the lasso of two non-negative atoms has
a closed form, the dictionary step is block coordinate descent) and the start is fixed, so the
same pixels give the same matrix.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.core.errors import StainError

LAMBDA_FIT = 0.1
_MAX_ITERATIONS = 400
_CONVERGED = 1e-6
_START = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])  # Ruifrok and Johnston, 2001


def learn_dictionary(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two non-negative unit stain vectors, hematoxylin (the redder density) first.

    Parameters
    ----------
    density
        (N, 3) optical densities of tissue.

    Returns
    -------
    (2, 3) float64.
    """
    atoms = _START / np.linalg.norm(_START, axis=1, keepdims=True)
    density = np.ascontiguousarray(density, np.float64)
    for _ in range(_MAX_ITERATIONS):
        former = atoms.copy()
        aa, xa = _sums(density, atoms, LAMBDA_FIT)
        for _ in range(5):
            for k in range(2):
                if aa[k, k] <= 1e-12:
                    continue
                atom = np.maximum(atoms[k] + (xa[k] - aa[k] @ atoms) / aa[k, k], 0)
                atoms[k] = atom / max(1.0, math.sqrt(float(atom @ atom)))
        if np.abs(atoms - former).max() < _CONVERGED:
            break
    lengths = np.linalg.norm(atoms, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths < 1e-6).any():
        raise StainError("The stains cannot be told apart.")
    atoms = atoms / lengths
    if atoms[0, 0] < atoms[1, 0]:
        atoms = atoms[::-1]
    return np.ascontiguousarray(atoms)


@compiled()
def _sums(density, atoms, penalty):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Sum over pixels of a a^T (2, 2) and a x^T (2, 3), for the lasso solution a of each pixel."""
    aa = np.zeros((2, 2))
    xa = np.zeros((2, 3))
    n00 = atoms[0, 0] ** 2 + atoms[0, 1] ** 2 + atoms[0, 2] ** 2
    n11 = atoms[1, 0] ** 2 + atoms[1, 1] ** 2 + atoms[1, 2] ** 2
    n01 = atoms[0, 0] * atoms[1, 0] + atoms[0, 1] * atoms[1, 1] + atoms[0, 2] * atoms[1, 2]
    determinant = max(n00 * n11 - n01 * n01, 1e-12)
    for i in range(density.shape[0]):
        x0, x1, x2 = density[i, 0], density[i, 1], density[i, 2]
        b0 = atoms[0, 0] * x0 + atoms[0, 1] * x1 + atoms[0, 2] * x2 - penalty
        b1 = atoms[1, 0] * x0 + atoms[1, 1] * x1 + atoms[1, 2] * x2 - penalty
        a0 = (n11 * b0 - n01 * b1) / determinant
        a1 = (n00 * b1 - n01 * b0) / determinant
        if a0 < 0:
            a0, a1 = 0.0, max(b1 / n11, 0.0)
        elif a1 < 0:
            a0, a1 = max(b0 / n00, 0.0), 0.0
        aa[0, 0] += a0 * a0
        aa[0, 1] += a0 * a1
        aa[1, 1] += a1 * a1
        xa[0, 0] += a0 * x0
        xa[0, 1] += a0 * x1
        xa[0, 2] += a0 * x2
        xa[1, 0] += a1 * x0
        xa[1, 1] += a1 * x1
        xa[1, 2] += a1 * x2
    aa[1, 0] = aa[0, 1]
    return aa, xa

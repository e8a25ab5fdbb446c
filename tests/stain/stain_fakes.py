"""Pixels whose stains are known."""

from __future__ import annotations

import numpy as np

MATRIX = np.array([[0.65, 0.70, 0.29], [0.20, 0.94, 0.27]])
MATRIX /= np.linalg.norm(MATRIX, axis=1, keepdims=True)


def stained_pixels(
    n: int = 20_000, *, matrix: np.ndarray = MATRIX, white: float = 255.0, seed: int = 0
) -> np.ndarray:
    """(n, 3) uint8: nuclei (mostly hematoxylin), stroma (mostly eosin), a tenth of glass."""
    rng = np.random.default_rng(seed)
    amounts = np.where(
        rng.random((n, 1)) < 0.4,
        rng.gamma((9.0, 1.5), (0.15, 0.1), (n, 2)),
        rng.gamma((0.4, 9.0), (0.08, 0.09), (n, 2)),
    )
    amounts[: n // 10] = 0
    return np.clip(white * np.exp(-amounts @ matrix) + 0.5, 0, 255).astype(np.uint8)


def degrees_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between the rows of two stain matrices."""
    return np.degrees(np.arccos(np.clip((a * b).sum(1), -1, 1)))

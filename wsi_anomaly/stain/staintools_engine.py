"""StainTools itself, to compare with: its own fit and its own transform.

Slow (hundreds of times the time of ours) and, being GPL through its solver, an extra. Its
dictionary learning runs against a wall clock by default; here it is held to a number of steps on
one thread, so that the same pixels give the same tiles.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import StainError, UsageError
from wsi_anomaly.stain.fitting import MAXIMUM_PERCENTILE, choose_pixels
from wsi_anomaly.stain.profile import StainProfile

_STEPS = 5_000


def require_staintools() -> Any:
    """Import StainTools.

    Raises
    ------
    UsageError
        It is not installed.
    """
    try:
        import staintools
    except ImportError as error:
        raise UsageError(
            "--stain-engine staintools needs the package staintools: pip install "
            '"wsi-anomaly[staintools]", or leave the option away for the native engine.'
        ) from error
    return staintools


def fit_staintools(pixels: NDArray[np.uint8], method: str, *, seed: int = 0) -> StainProfile:
    """Stain profile of pixels (..., 3) as StainTools estimates it; glass is white to it.

    Raises
    ------
    StainError
        Too little tissue, or no two stains in it.
    """
    staintools = require_staintools()
    picture = choose_pixels(pixels, seed=seed)[None]
    with _repeatable():
        matrix = staintools.StainNormalizer(method).extractor.get_stain_matrix(picture.copy())
    if not np.isfinite(matrix).all():
        raise StainError("The stains cannot be told apart.")
    matrix = np.maximum(matrix, 0)
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    maxima = np.percentile(_concentrations(picture, matrix), MAXIMUM_PERCENTILE, axis=0)
    return StainProfile(matrix, maxima)


class StainToolsNormalizer:
    """What :class:`~wsi_anomaly.stain.StainNormalizer` does, the way StainTools does it."""

    def __init__(
        self, source: StainProfile, target: StainProfile, *, match_maxima: bool = True
    ) -> None:
        self.source, self.target = source, target
        self._strength = target.maxima / source.maxima if match_maxima else np.ones(2)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Normalise (..., 3) uint8 pixels; the result is a new array of the same shape."""
        found = _concentrations(rgb.reshape(1, -1, 3), np.array(self.source.matrix))
        pixels = 255 * np.exp(-(found * self._strength) @ self.target.matrix)
        return pixels.reshape(rgb.shape).astype(np.uint8)


def _concentrations(picture: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    require_staintools()
    from staintools.miscellaneous.get_concentrations import get_concentrations

    with _repeatable():
        found: NDArray[np.float64] = get_concentrations(picture.copy(), matrix)  # it writes to it
    return found


@contextmanager
def _repeatable() -> Iterator[None]:
    """Hold StainTools' solver to one thread and a fixed number of steps."""
    import spams

    former = spams.trainDL, spams.lasso
    spams.trainDL = functools.partial(former[0], numThreads=1, iter=_STEPS)
    spams.lasso = functools.partial(former[1], numThreads=1)
    try:
        yield
    finally:
        spams.trainDL, spams.lasso = former

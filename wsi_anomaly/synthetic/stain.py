"""The stains and the scanner of one synthetic slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Mean optical density vectors (natural logarithm) of hematoxylin and eosin in bright field scans.
_HEMATOXYLIN = np.array([0.62, 0.70, 0.32])
_EOSIN = np.array([0.12, 0.90, 0.34])
_INKS = (
    ("blue", np.array([1.9, 1.1, 0.25])),
    ("green", np.array([1.7, 0.55, 1.2])),
    ("black", np.array([1.7, 1.65, 1.55])),
)


@dataclass(frozen=True)
class SlideLook:
    """What differs between the stainings and the scans of two slides.

    Attributes
    ----------
    matrix
        (2, 3) unit rows, hematoxylin then eosin: optical density (natural logarithm) in R, G, B.
    hematoxylin, eosin
        Strength of each stain, about 1.
    white
        (3,) grey levels of empty glass.
    ink
        (3,) optical density of the pen.
    blur_um
        Standard deviation of the scanner's blur.
    noise
        Standard deviation of the sensor's noise, grey levels.
    """

    matrix: NDArray[np.float64]
    hematoxylin: float
    eosin: float
    white: NDArray[np.float64]
    ink: NDArray[np.float64]
    blur_um: float
    noise: float


def random_look(rng: np.random.Generator) -> SlideLook:
    """Draw a slide's stains and scanner: as different as those of one laboratory over years."""
    hematoxylin = _HEMATOXYLIN + rng.normal(0, [0.02, 0.015, 0.025])
    eosin = np.maximum(_EOSIN + rng.normal(0, [0.02, 0.015, 0.035]), 0.02)
    rows = np.stack([hematoxylin, eosin])
    return SlideLook(
        matrix=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        hematoxylin=float(1.15 * np.exp(rng.normal(0, 0.07))),
        eosin=float(np.exp(rng.normal(0, 0.07))),
        white=np.array([243.0, 242.0, 244.0]) + rng.normal(0, [1.5, 1.5, 1.5]),
        ink=_INKS[int(rng.integers(len(_INKS)))][1],
        blur_um=float(rng.uniform(0.18, 0.26)),
        noise=float(rng.uniform(0.8, 1.5)),
    )

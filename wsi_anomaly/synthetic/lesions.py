"""Lesions and harmless look-alikes: where they lie, how far their cells depart from normal ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True)
class Atypia:
    """How far lesion cells depart from normal ones.

    Attributes
    ----------
    enlargement
        Nuclear diameter over the normal one.
    variation
        Log-normal spread of nuclear diameter (pleomorphism).
    irregularity
        Amplitude of the nuclear contour's deviation from an ellipse, fraction of the radius.
    disorder
        0: nuclei stand at the base of their gland, on end; 1: anywhere, in any direction.
    coarseness
        Amplitude of chromatin clumps, fraction of the mean.
    solid
        Fraction of glands without a lumen.
    basophilia
        Hematoxylin of the cytoplasm over the normal one.
    """

    enlargement: float
    variation: float
    irregularity: float
    disorder: float
    coarseness: float
    solid: float
    basophilia: float


ATYPIA: dict[Difficulty, Atypia] = {
    "easy": Atypia(2.1, 0.34, 0.34, 1.0, 0.65, 0.9, 0.2),
    "medium": Atypia(1.6, 0.28, 0.28, 0.95, 0.55, 0.85, 0.25),
    "hard": Atypia(1.35, 0.20, 0.18, 0.7, 0.45, 0.6, 0.5),
}

REACTIVE = Atypia(1.5, 0.2, 0.2, 0.4, 0.5, 0.3, 0.3)
"""Harmless: glands that regenerate. They overlap lesions of medium difficulty."""


def place_lesions(
    rng: np.random.Generator,
    room: NDArray[np.float64],
    grid_um: float,
    count: int,
    radius_um: tuple[float, float],
) -> list[Polygon]:
    """Draw disjoint blobs where there is room for them.

    Parameters
    ----------
    room
        (H, W) distance in um to what a lesion must stay clear of, negative inside it.
    grid_um
        Distance of the points of `room`.
    count
        How many at most; fewer where there is no room.
    radius_um
        Smallest and largest mean radius.

    Returns
    -------
    Polygons in um.
    """
    room = room.copy()
    rows, columns = np.indices(room.shape)
    polygons: list[Polygon] = []
    for _ in range(count):
        radius = rng.uniform(*radius_um)
        # Lean towards the roomiest places, and shrink where even those are too small.
        roomiest = float(room.max())
        fits = room > min(radius, 0.85 * roomiest)
        if roomiest < radius_um[0] / 2 or not fits.any():
            break
        choice = rng.choice(np.flatnonzero(fits))
        y, x = np.unravel_index(choice, room.shape)
        radius = min(radius, float(room[y, x]) * 1.05)
        polygons.append(_blob(rng, float(x) * grid_um, float(y) * grid_um, radius))
        distance = np.hypot(rows - y, columns - x) * grid_um - 1.6 * radius
        room = np.minimum(room, distance)
    return polygons


def _blob(rng: np.random.Generator, x: float, y: float, radius: float) -> Polygon:
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    wave = np.ones_like(angle)
    for k, amplitude in ((2, 0.16), (3, 0.13), (5, 0.08), (8, 0.05), (13, 0.03)):
        wave += amplitude * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    wave = np.clip(wave, 0.55, 1.45) * radius
    return Polygon(np.column_stack([x + wave * np.cos(angle), y + wave * np.sin(angle)]))

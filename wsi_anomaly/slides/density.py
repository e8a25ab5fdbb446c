"""What a picture's colours say, pixel by pixel: how much is absorbed, and by stain or by ink."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

INKS = ("blue or green", "red", "black")


@dataclass(frozen=True, eq=False)
class Densities:
    """Optical densities of a picture.

    Attributes
    ----------
    excess
        (H, W) float32, by how much green is denser than the lesser of red and blue: stain.
    total
        (H, W) float32, red, green and blue together.
    ink
        (H, W) uint8, bit i: the colour of INKS[i]; bit 3 + i: and as dense as ink alone is.
    tables
        (3, 256) float32, density of each intensity of red, green and blue.
    """

    excess: NDArray[np.float32]
    total: NDArray[np.float32]
    ink: NDArray[np.uint8]
    tables: NDArray[np.float32]

    def has_ink(self, kind: int, *, surely: bool) -> NDArray[np.bool_]:
        """(H, W) bool: pixels of the colour of INKS[kind]; `surely` when dense as well."""
        return np.asarray(self.ink & (1 << (kind + 3 * surely)) != 0)


def densities(rgb: NDArray[np.uint8], white: tuple[float, float, float]) -> Densities:
    """Measure a picture against the intensity of bare glass."""
    values = np.log(np.maximum(np.arange(256), 1))
    tables = np.maximum(np.log(np.array(white))[:, None] - values, 0).astype(np.float32)
    shape = rgb.shape[:2]
    out = Densities(
        np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint8), tables
    )
    _measure(np.ascontiguousarray(rgb), tables, out.excess, out.total, out.ink)
    return out


@numba.njit(cache=True, nogil=True)
def _measure(  # type: ignore[no-untyped-def]
    rgb, tables, excess, total, ink
):  # pragma: no cover - compiled
    """Ink: of a colour that hematoxylin and eosin cannot mix; with what it fades into.

    Blue and green inks absorb red light most. Red ink absorbs blue light nearly as much as green
    and hardly any red; blood does too, but is never as dense. Black absorbs all alike.
    """
    for y in range(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            red, green = tables[0, rgb[y, x, 0]], tables[1, rgb[y, x, 1]]
            blue = tables[2, rgb[y, x, 2]]
            low, high = min(red, green, blue), max(red, green, blue)
            together = red + green + blue
            excess[y, x] = green - min(red, blue)
            total[y, x] = together
            bits = 0
            if red > 1.15 * green or (red > 1.1 * green and blue < 0.75 * red):
                bits |= (together > 0.2) | (together > 0.6) << 3
            if blue > 0.65 * green and red < 0.2 * green:
                bits |= (together > 0.6) << 1 | (together > 2.8) << 4
            if low > 0.6 * high:
                bits |= (together > 0.7) << 2 | (together > 3.6) << 5
            ink[y, x] = bits

"""What a picture's colours say, pixel by pixel: how much is absorbed, and by stain or by ink.

`tables` are optical densities (3, 256) of each intensity of red, green and blue against bare glass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.compiling import compiled

INKS = ("blue or green", "red or pink", "black", "yellow")


def excess_density(rgb: NDArray[np.uint8], tables: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much green is denser than the lesser of red and blue, (H, W): stain."""
    out = np.empty(rgb.shape[:2], np.float32)
    _excess(np.ascontiguousarray(rgb), tables, out)
    return out


def total_density(rgb: NDArray[np.uint8], tables: NDArray[np.float32]) -> NDArray[np.float32]:
    """Red, green and blue together, (H, W)."""
    out = np.empty(rgb.shape[:2], np.float32)
    _total(np.ascontiguousarray(rgb), tables, out)
    return out


def ink_colours(rgb: NDArray[np.uint8], tables: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Which ink a pixel may be, (H, W): see :func:`has_ink`."""
    out = np.empty(rgb.shape[:2], np.uint8)
    _ink(np.ascontiguousarray(rgb), tables, out)
    return out


def has_ink(ink: NDArray[np.uint8], kind: int, *, surely: bool) -> NDArray[np.bool_]:
    """Pixels (H, W) of the colour of INKS[kind]; `surely` when as dense as ink alone is."""
    return np.asarray(ink & (1 << (kind + len(INKS) * surely)) != 0)


@compiled()
def _excess(rgb, tables, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    for y in range(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            red, blue = tables[0, rgb[y, x, 0]], tables[2, rgb[y, x, 2]]
            out[y, x] = tables[1, rgb[y, x, 1]] - min(red, blue)


@compiled()
def _total(rgb, tables, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    for y in range(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            red, green = tables[0, rgb[y, x, 0]], tables[1, rgb[y, x, 1]]
            out[y, x] = red + green + tables[2, rgb[y, x, 2]]


@compiled()
def _ink(rgb, tables, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Find colours that hematoxylin and eosin cannot mix; with what they fade into.

    Blue and green inks absorb red light most. Red ink absorbs blue light nearly as much as green
    and hardly any red; blood does too, but is never as dense. Pink ink lets all red through, which
    dense tissue does not. Black absorbs all alike. Yellow ink absorbs blue light most, as pigments
    and the brown of IHC do, but these absorb red too. Brown ink is like them and purple ink like
    hematoxylin: neither is told from tissue.
    """
    for y in range(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            red, green = tables[0, rgb[y, x, 0]], tables[1, rgb[y, x, 1]]
            blue = tables[2, rgb[y, x, 2]]
            low, high = min(red, green, blue), max(red, green, blue)
            together = red + green + blue
            bits = 0
            if red > 1.15 * green or (red > 1.1 * green and blue < 0.75 * red):
                bits |= (together > 0.2) | (together > 0.6) << 4
            if blue > 0.65 * green and red < 0.2 * green:
                bits |= (together > 0.6) << 1 | (together > 2.8) << 5
            if red < (0.12 if green > 2.0 else 0.04) * green:
                bits |= (green > 0.5) << 1 | (green > 0.7) << 5
            if low > 0.6 * high:
                bits |= (together > 0.7) << 2 | (together > 3.6) << 6
            if blue > 1.25 * green and red < 0.25 * blue:
                bits |= (together > 0.6) << 3 | (together > 1.4) << 7
            out[y, x] = bits

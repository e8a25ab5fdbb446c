"""Bring pixels from one slide's stains to the target's, fast.

A slide has one stain profile and few colours: the first pixel of a colour fills its entry of a
table, the others look it up. Colours that differ by 128 in green or by 64 in blue share an entry
and drive each other out; tissue hardly has both, and so the table is small enough for a
processor's cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.core.optical_density import density_table
from wsi_anomaly.stain.concentrations import LAMBDA_CONCENTRATION
from wsi_anomaly.stain.profile import StainProfile

# An entry's place is made of all bits of red, the lower 7 of green and the lower 6 of blue.
_ENTRIES = 1 << 21
_RED, _GREEN = np.uint32(13), np.uint32(6)
_GREEN_MASK, _BLUE_MASK = np.uint32(0x7F), np.uint32(0x3F)
# Its top byte: filled, and the other bits, which say whose it is.
_FILLED = np.uint32(0x80)
_GREEN_TAG, _BLUE_TAG = np.uint32(5), np.uint32(6)


class StainNormalizer:
    """Maps 8-bit pixels of one slide to the target's stains.

    Concentrations are solved as in :func:`wsi_anomaly.stain.concentrations`, scaled so that the
    99th percentiles agree, and rendered with the target's vectors on its glass. Glass stays glass;
    no value can become NaN, and nothing becomes black.

    Parameters
    ----------
    source
        Profile of the slide that the pixels come from.
    target
        Profile to bring them to.
    match_maxima
        False: change the stain vectors only, not the strength (as the DPA paper did).

    Examples
    --------
    Glass stays glass, and a slide in the target's stains stays as it is:

    >>> from wsi_anomaly.stain import reference_target
    >>> target = reference_target()
    >>> normalise = StainNormalizer(target, target)
    >>> normalise(np.full((1, 2, 3), 255, np.uint8)).tolist()
    [[[255, 255, 255], [255, 255, 255]]]
    """

    def __init__(
        self, source: StainProfile, target: StainProfile, *, match_maxima: bool = True
    ) -> None:
        self.source, self.target = source, target
        strength = target.maxima / source.maxima if match_maxima else np.ones(2)
        self._density = density_table(source.white)
        self._source = np.ascontiguousarray(source.matrix)
        self._render = np.ascontiguousarray(target.matrix * strength[:, None])
        self._white = np.array(target.white)
        self._table: NDArray[np.uint32] | None = None

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Normalise (..., 3) uint8 pixels; the result is a new array of the same shape."""
        if rgb.dtype != np.uint8 or rgb.shape[-1:] != (3,):
            raise ValueError(f"8-bit RGB pixels are needed, not {rgb.dtype} {rgb.shape}")
        if self._table is None:
            self._table = np.zeros(_ENTRIES, np.uint32)
        pixels = np.ascontiguousarray(rgb).reshape(-1, 3)
        out = np.empty_like(pixels)
        _apply(
            pixels,
            out,
            self._table,
            self._density,
            self._source,
            self._render,
            self._white,
            LAMBDA_CONCENTRATION,
        )
        return out.reshape(rgb.shape)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_table": None}


@compiled()
def _apply(  # type: ignore[no-untyped-def]
    pixels, out, table, density, source, render, white, penalty
):  # pragma: no cover - compiled
    overlap = (
        source[0, 0] * source[1, 0] + source[0, 1] * source[1, 1] + source[0, 2] * source[1, 2]
    )
    determinant = max(1.0 - overlap * overlap, 1e-12)
    for i in range(pixels.shape[0]):
        r, g, b = np.uint32(pixels[i, 0]), np.uint32(pixels[i, 1]), np.uint32(pixels[i, 2])
        place = (r << _RED) | ((g & _GREEN_MASK) << _GREEN) | (b & _BLUE_MASK)
        whose = _FILLED | ((g & ~_GREEN_MASK) >> _GREEN_TAG) | (b >> _BLUE_TAG)
        entry = table[place]
        if entry >> 24 != whose:
            x, y, z = density[r, 0], density[g, 1], density[b, 2]
            first = source[0, 0] * x + source[0, 1] * y + source[0, 2] * z - penalty
            second = source[1, 0] * x + source[1, 1] * y + source[1, 2] * z - penalty
            h = (first - overlap * second) / determinant
            e = (second - overlap * first) / determinant
            if h < 0:
                h, e = 0.0, max(second, 0.0)
            elif e < 0:
                h, e = max(first, 0.0), 0.0
            entry = whose << np.uint32(24)
            for c in range(3):
                value = white[c] * np.exp(-(h * render[0, c] + e * render[1, c]))
                entry |= np.uint32(max(min(value + 0.5, 255.0), 1.0)) << np.uint32(16 - 8 * c)
            table[place] = entry
        out[i, 0] = (entry >> 16) & 255
        out[i, 1] = (entry >> 8) & 255
        out[i, 2] = entry & 255

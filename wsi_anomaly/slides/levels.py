"""How much coarser a level is, without the error that its rounded or padded size brings."""

from __future__ import annotations

import math

Size = tuple[int, int]
"""Width and height, pixels."""


def exact_level(
    full: Size, size: Size, reported: float, tile: Size | None = None
) -> tuple[float, Size]:
    """Downsample of a level, and the part of it that holds the slide.

    A level of 2221 of 4443 pixels was made by halving; 4443 / 2221 = 2.0005 would move its far
    end by a pixel. A level of 512 of 1000 pixels, in tiles of 256, was made by halving too and
    then padded to whole tiles; 1000 / 512 would stretch it.

    Parameters
    ----------
    full, size
        Of level 0 and of this one.
    reported
        Downsample from the sizes alone.
    tile
        Size of the level's tiles, where it has any.
    """
    whole = round(reported)
    if all(_is_rounded(n, m, whole) for n, m in zip(size, full, strict=True)):
        return float(whole), size
    halved = None if tile is None else _halved_and_padded(full, size, tile)
    if halved is None:
        return float(reported), size
    width, height = (min(n, math.ceil(m / halved)) for n, m in zip(size, full, strict=True))
    return float(halved), (width, height)


def is_halved_and_padded(full: Size, size: Size, tile: Size) -> bool:
    """Whether a level was halved, once or several times, and padded to whole tiles."""
    return _halved_and_padded(full, size, tile) is not None


def _is_rounded(side: int, full: int, scale: int) -> bool:
    return abs(side * scale - full) < max(scale, 2)


def _halved_and_padded(full: Size, size: Size, tile: Size) -> int | None:
    """Least power of two that explains the size; None where none does."""
    scale = 2
    while scale <= 2 * max(full):
        if all(
            _is_rounded(n, m, scale) or n == math.ceil(math.ceil(m / scale) / t) * t
            for n, m, t in zip(size, full, tile, strict=True)
        ):
            return scale
        scale *= 2
    return None

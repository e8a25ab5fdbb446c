"""How much coarser a level is, without the error that its rounded or padded size brings."""

from __future__ import annotations

import math
from collections.abc import Iterable

Size = tuple[int, int]
"""Width and height, pixels."""


_MOST_ODD = 64  # no scanner reduces by more at once


def exact_levels(
    full: Size, levels: Iterable[tuple[Size, float, Size | None]]
) -> list[tuple[float, Size]]:
    """:func:`exact_level` of each level, finest first.

    Parameters
    ----------
    full
        Of level 0.
    levels
        Size, downsample from the sizes alone, and size of the tiles, where it has any.
    """
    found: list[tuple[float, Size]] = []
    for size, reported, tile in levels:
        scales = [1.0, *(scale for scale, _ in found)]
        usual = scales[-1] * scales[-1] / scales[-2] if len(found) > 1 else None
        found.append(exact_level(full, size, reported, tile, usual))
    return found


def exact_level(
    full: Size, size: Size, reported: float, tile: Size | None = None, usual: float | None = None
) -> tuple[float, Size]:
    """Downsample of a level, and the part of it that holds the slide.

    A level of 2221 of 4443 pixels was made by halving; 4443 / 2221 = 2.0005 would move its far
    end by a pixel. A level of 512 of 1000 pixels, in tiles of 256, was made by halving too and
    then padded to whole tiles; 1000 / 512 would stretch it. Where several downsamples explain a
    padded size, pyramids go on as they began, else halve.

    Parameters
    ----------
    full, size
        Of level 0 and of this one.
    reported
        Downsample from the sizes alone.
    tile
        Size of the level's tiles, where it has any.
    usual
        Downsample if it is that of the level before, coarser once more by as much.
    """
    whole = round(reported)
    if all(_is_rounded(n, m, whole) for n, m in zip(size, full, strict=True)):
        return float(whole), size
    scale = None if tile is None else _padded(full, size, tile, usual)
    if scale is None:
        return float(reported), size
    width, height = (min(n, math.ceil(m / scale)) for n, m in zip(size, full, strict=True))
    return float(scale), (width, height)


def is_padded(full: Size, size: Size, tile: Size) -> bool:
    """Whether a level is a reduced copy that was padded to whole tiles."""
    return _padded(full, size, tile, None) is not None


def _is_rounded(side: int, full: int, scale: int) -> bool:
    return abs(side * scale - full) < max(scale, 2)


def _padded(full: Size, size: Size, tile: Size, usual: float | None) -> int | None:
    """Whole downsample that explains the size; None where none does."""
    halving: list[int] = [1 << power for power in range(1, (2 * max(full)).bit_length())]
    first = [round(usual)] if usual is not None and usual > 1 else []
    scales: list[int] = [*first, *halving, *range(3, _MOST_ODD)]
    for scale in scales:
        if all(
            _is_rounded(n, m, scale) or n == math.ceil(math.ceil(m / scale) / t) * t
            for n, m, t in zip(size, full, tile, strict=True)
        ):
            return scale
    return None

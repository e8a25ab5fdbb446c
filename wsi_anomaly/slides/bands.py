"""A large picture in bands of rows, so that what is computed on the way needs little memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_ROWS = 256


@dataclass(frozen=True)
class Band:
    """Some rows of a picture.

    Attributes
    ----------
    rows
        Rows of the picture.
    wide
        The same with the neighbours that a filter needs; fewer at the picture's edges.
    within
        Where `rows` lie in `wide`.
    """

    rows: slice
    wide: slice
    within: slice


def bands(height: int, halo: int = 0) -> Iterator[Band]:
    """Cut `height` rows into bands, each with up to `halo` neighbours on both sides."""
    for top in range(0, height, _ROWS):
        bottom = min(top + _ROWS, height)
        first, last = max(0, top - halo), min(height, bottom + halo)
        yield Band(slice(top, bottom), slice(first, last), slice(top - first, bottom - first))

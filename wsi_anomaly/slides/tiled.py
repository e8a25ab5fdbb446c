"""Slides that are stored as a grid of compressed tiles on each level: what such readers share.

Each tile is decoded once and kept while it is needed; a damaged or hanging one fails by itself.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import SlideError
from wsi_anomaly.slides.base import RGB, ReadError, Region, Slide, SlideInfo
from wsi_anomaly.slides.tile_cache import TileCache
from wsi_anomaly.slides.timeout import HangingError

TileKey = tuple[int, int, int]
"""Level, row and column of a tile."""

_DAMAGED = np.zeros((0, 0, 3), np.uint8)  # stands in the cache for a tile that cannot be decoded


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one level; all in pixels of that level."""

    width: int
    height: int
    tile_width: int
    tile_height: int

    def size_of(self, row: int, column: int) -> tuple[int, int]:
        """Height and width of the part of a tile that lies on the level."""
        return (
            min(self.tile_height, self.height - row * self.tile_height),
            min(self.tile_width, self.width - column * self.tile_width),
        )


class TiledSlide(Slide):
    """A slide that is read tile by tile. Safe for threads."""

    def __init__(
        self,
        path: Path,
        info: SlideInfo,
        grids: tuple[TileGrid, ...],
        *,
        scene: int | None = None,
    ) -> None:
        self._grids = grids
        self._cache = TileCache()
        self._hung: set[TileKey] = set()  # each costs its waiting only once
        super().__init__(path, info, scene=scene)

    def close(self) -> None:
        """Let go of decoded tiles."""
        self._cache.clear()

    @abstractmethod
    def _decode(self, level: int, row: int, column: int) -> RGB | None:
        """Pixels of a tile, (h, w, 3) or larger than its part of the level; None: never scanned.

        Raises
        ------
        OSError
            It cannot be read now.
        Exception
            Of any other kind: it is damaged.
        """

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Pixels of one level as they are stored; see :meth:`Slide.read_level`."""
        tile: list[TileKey] = []
        try:
            return self._patiently(
                lambda: self._read_level(level, x, y, width, height, tile), lambda: tuple(tile)
            )
        except SlideError as error:
            if isinstance(error.__cause__, HangingError):
                self._hung.update(tile)
            raise

    def _read_level(
        self, level: int, x: int, y: int, width: int, height: int, under_way: list[TileKey]
    ) -> Region:
        """Read; `under_way` always holds the tile that is being decoded."""
        grid = self._grids[level]
        rgb = np.empty((height, width, 3), np.uint8)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, grid.width), min(y + height, grid.height)
        coverage: NDArray[np.bool_] | None = None
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            coverage = np.zeros((height, width), bool)
            if left >= right or top >= bottom:
                rgb[:] = self.background
                return Region(rgb, coverage)
            rows, columns = slice(top - y, bottom - y), slice(left - x, right - x)
            coverage[rows, columns] = True
            for outside in (rgb[: rows.start], rgb[rows.stop :],
                            rgb[rows, : columns.start], rgb[rows, columns.stop :]):  # fmt: skip
                outside[:] = self.background  # three bytes at a time: slow, so nowhere else
        for row in range(top // grid.tile_height, (bottom - 1) // grid.tile_height + 1):
            above = row * grid.tile_height
            first, last = max(top, above), min(bottom, above + grid.tile_height)
            for column in range(left // grid.tile_width, (right - 1) // grid.tile_width + 1):
                before = column * grid.tile_width
                start, end = max(left, before), min(right, before + grid.tile_width)
                here = np.s_[first - y : last - y, start - x : end - x]
                under_way[:] = [(level, row, column)]
                tile = self._tile(level, row, column)
                if tile is None:
                    rgb[here] = self.background
                    if coverage is None:
                        coverage = np.ones((height, width), bool)
                    coverage[here] = False
                else:
                    rgb[here] = tile[first - above : last - above, start - before : end - before]
        return Region(rgb, coverage)

    def _tile(self, level: int, row: int, column: int) -> RGB | None:
        """Return the pixels of a tile; None where nothing was scanned."""
        key = (level, row, column)
        if key in self._hung:
            raise ReadError(f"{self.path} cannot be read: a tile of it has hung before.")
        tile = self._cache.get(key)
        if tile is None:
            try:
                tile = self._decode(level, row, column)
                if tile is None:
                    return None
                needed = self._grids[level].size_of(row, column)
                if tile.shape[0] < needed[0] or tile.shape[1] < needed[1] or tile.shape[2:] != (3,):
                    tile = _DAMAGED
                else:
                    tile.flags.writeable = False
            except OSError as error:
                raise ReadError(f"{self.path} cannot be read: {error}.") from error
            except Exception:  # noqa: BLE001 - codecs raise errors of many kinds
                tile = _DAMAGED
            self._cache.put(key, tile)
        if tile is _DAMAGED:
            raise ReadError(
                f"{self.path}: the compressed tile in row {row}, column {column} of level {level} "
                "is damaged or missing; copy the slide again."
            )
        return tile

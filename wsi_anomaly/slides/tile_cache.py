"""Decoded tiles, so that each compressed tile is decoded once while it is needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

CACHE_BYTES = 64_000_000
"""What an open slide may keep decoded: a few rows of tiles across the widest slide."""


class TileCache:
    """The most recently used tiles, bounded in bytes; safe for threads."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._tiles: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> NDArray[np.uint8] | None:
        """Return a tile (H, W, 3) that is still held, or None."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: Hashable, tile: NDArray[np.uint8]) -> None:
        """Hold a tile (H, W, 3); those unused for longest make room."""
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self.bytes += tile.nbytes
            while self.bytes > self.max_bytes and len(self._tiles) > 1:
                self.bytes -= self._tiles.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Let go of every tile."""
        with self._lock:
            self._tiles.clear()
            self.bytes = 0

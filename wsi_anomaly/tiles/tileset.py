"""Tiles of many slides as one, for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.tiles.fields import Status
from wsi_anomaly.tiles.preprocessing import Preprocessing
from wsi_anomaly.tiles.store import TileStore


class TileSet:
    """The good tiles of many slides at one magnification, in a fixed order.

    Attributes
    ----------
    stores, magnification
        What it is made of.
    preprocessing
        That of all stores alike.
    slide, index
        (N,) position of each tile's store in `stores`, and of the tile in it.
    cases
        The case of each tile.

    Raises
    ------
    TileStoreError
        There is no good tile, a store lacks the magnification or has smaller tiles, or the stores
        were made with different preprocessing.
    """

    def __init__(
        self, stores: Sequence[TileStore], magnification: int, *, tile_size: int | None = None
    ) -> None:
        if not stores:
            raise TileStoreError("There are no tiles; make some with wsi-anomaly tile SLIDES.")
        self.stores = tuple(stores)
        self.magnification = magnification
        self.preprocessing: Preprocessing = stores[0].preprocessing
        side = stores[0].tile_side(magnification)
        self.tile_side = side
        for store in stores:
            if store.preprocessing != self.preprocessing:
                raise TileStoreError(
                    f"{store.path} and {stores[0].path} were made with different stain options; "
                    "tile them again with the same ones."
                )
            if store.tile_side(magnification) != side:
                raise TileStoreError(
                    f"{store.path} has tiles of {store.tile_side(magnification)} px, "
                    f"{stores[0].path} of {side} px; tile them again with the same --tile-size."
                )
        self.tile_size = side if tile_size is None else tile_size
        if self.tile_size > side:
            raise TileStoreError(
                f"{stores[0].path} has tiles of {side} px at {magnification}x, {tile_size} px are "
                "needed; tile again with a larger --tile-size."
            )
        good = [np.flatnonzero(store.status == Status.OK) for store in stores]
        self.index: NDArray[np.intp] = np.concatenate(good)
        self.slide: NDArray[np.int32] = np.repeat(
            np.arange(len(stores), dtype=np.int32), [len(g) for g in good]
        )
        if not len(self.index):
            raise TileStoreError("None of the tiles is good enough to learn from.")
        self._mapped = [store.mapped(magnification) for store in stores]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def cases(self) -> list[str]:
        """Case of each tile."""
        return [self.stores[k].case for k in self.slide]

    @property
    def nbytes(self) -> int:
        """Bytes of all tiles at `tile_size`."""
        return len(self) * self.tile_size**2 * 3

    def batch(self, indices: NDArray[np.intp] | Sequence[int]) -> NDArray[np.uint8]:
        """Tiles (n, tile_size, tile_size, 3) uint8 in the order asked for: their centres.

        Any order, any slides: a tile costs the copying of its bytes.
        """
        indices = np.asarray(indices, np.intp)
        size = self.tile_size
        out = np.empty((len(indices), size, size, 3), np.uint8)
        start = (self.tile_side - size) // 2
        centre = np.s_[start : start + size]
        whole = size == self.tile_side
        for k, (slide, index) in enumerate(
            zip(self.slide[indices].tolist(), self.index[indices].tolist(), strict=True)
        ):
            tile = self._mapped[slide][index]
            out[k] = tile if whole else tile[centre, centre]
        return out

    def cut(
        self, indices: NDArray[np.intp] | Sequence[int], corners: NDArray[np.integer]
    ) -> NDArray[np.uint8]:
        """Like :meth:`batch`, each tile cut at its own place.

        Parameters
        ----------
        indices
            (n,) positions in the set.
        corners
            (n, 2) top left corners (y, x) in the stored tile, from 0 to `tile_side` - `tile_size`.
        """
        indices = np.asarray(indices, np.intp)
        size = self.tile_size
        out = np.empty((len(indices), size, size, 3), np.uint8)
        for k, (slide, index, (y, x)) in enumerate(
            zip(
                self.slide[indices].tolist(),
                self.index[indices].tolist(),
                np.asarray(corners).tolist(),
                strict=True,
            )
        ):
            out[k] = self._mapped[slide][index][y : y + size, x : x + size]
        return out

    def all(self) -> NDArray[np.uint8]:
        """Every tile, (N, S, S, 3), in memory."""
        return self.batch(np.arange(len(self)))

"""Training batches as a function of the step: shuffled, augmented, the same after a resume.

Batch k depends on the seed and on k alone. A run that was killed and resumed, or that is spread
over several processes, therefore sees what an uninterrupted run on one process would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.prefetch import prefetch

_PREFETCHED = 4
_RESIDENT_SHARE = 0.5  # of the free memory of a GPU that tiles may take
_DRAWN_AT_ONCE = 64  # batches whose draws go to the GPU together: every copy waits for it


class Tiles(Protocol):
    """A source of tiles: ``wsi_anomaly.tiles.TileSet`` is one, :class:`ArrayTiles` another."""

    @property
    def tile_size(self) -> int:
        """Side of the tiles that are handed out, px."""

    @property
    def tile_side(self) -> int:
        """Side of the tiles as they are stored, px: what is beyond `tile_size` is room to cut."""

    def __len__(self) -> int:
        """Count the tiles."""

    def batch(self, indices: NDArray[np.intp] | Sequence[int]) -> NDArray[np.uint8]:
        """Centres of tiles (n, S, S, 3) uint8."""

    def cut(
        self, indices: NDArray[np.intp] | Sequence[int], corners: NDArray[np.integer]
    ) -> NDArray[np.uint8]:
        """Tiles (n, S, S, 3) uint8 cut at (n, 2) corners (y, x) of the stored ones."""


class ArrayTiles:
    """Tiles that lie in memory as one array.

    Parameters
    ----------
    images
        (N, S, S, C) uint8; larger than `tile_size` to be cut at random in training.
    tile_size
        Side handed out, px; S by default.

    Examples
    --------
    >>> tiles = ArrayTiles(np.zeros((5, 96, 96, 3), np.uint8), tile_size=64)
    >>> len(tiles), tiles.tile_side
    (5, 96)
    >>> tiles.batch([0, 3]).shape
    (2, 64, 64, 3)
    """

    def __init__(self, images: NDArray[np.uint8], tile_size: int | None = None) -> None:
        if images.ndim != 4 or images.shape[1] != images.shape[2] or images.dtype != np.uint8:
            raise ValueError(f"tiles are (N, S, S, C) uint8, not {images.shape} {images.dtype}")
        self.images = images
        self.tile_side = images.shape[1]
        self.tile_size = self.tile_side if tile_size is None else tile_size
        if self.tile_size > self.tile_side:
            raise ValueError(f"tiles of {self.tile_side} px cannot give {self.tile_size} px")

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: NDArray[np.intp] | Sequence[int]) -> NDArray[np.uint8]:
        """Centres of tiles, (n, S, S, C) uint8."""
        start = (self.tile_side - self.tile_size) // 2
        centre = slice(start, start + self.tile_size)
        return self.images[np.asarray(indices, np.intp), centre, centre]

    def cut(
        self, indices: NDArray[np.intp] | Sequence[int], corners: NDArray[np.integer]
    ) -> NDArray[np.uint8]:
        """Tiles (n, S, S, C) uint8 cut at (n, 2) corners (y, x), px."""
        reach = np.arange(self.tile_size)
        rows = corners[:, :1] + reach
        columns = corners[:, 1:] + reach
        number = np.asarray(indices, np.intp)[:, None, None]
        cut: NDArray[np.uint8] = self.images[number, rows[:, :, None], columns[:, None, :]]
        return cut


class Crops:
    """Smaller tiles out of larger ones: a random place in training, the centre otherwise.

    Parameters
    ----------
    tiles
        The larger ones.
    tile_size
        Side handed out, px.
    """

    def __init__(self, tiles: Tiles, tile_size: int) -> None:
        self._tiles = tiles
        self.tile_size = tile_size
        self.tile_side = tiles.tile_size

    def __len__(self) -> int:
        return len(self._tiles)

    def batch(self, indices: NDArray[np.intp] | Sequence[int]) -> NDArray[np.uint8]:
        """Centres of tiles, (n, S, S, C) uint8."""
        start = (self.tile_side - self.tile_size) // 2
        centre = slice(start, start + self.tile_size)
        return self._tiles.batch(indices)[:, centre, centre]

    def cut(
        self, indices: NDArray[np.intp] | Sequence[int], corners: NDArray[np.integer]
    ) -> NDArray[np.uint8]:
        """Tiles (n, S, S, C) uint8 cut at (n, 2) corners (y, x), px."""
        whole = ArrayTiles(self._tiles.batch(indices), self.tile_size)
        return whole.cut(np.arange(len(whole)), corners)


def to_images(tiles: NDArray[np.uint8] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Tiles (N, S, S, C) uint8 as images (N, C, S, S) float32 in [-1, 1], channels last."""
    tensor = torch.as_tensor(tiles).to(device, non_blocking=True)
    return tensor.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class BatchStream:
    """Endless shuffled batches: every tile once before any twice, cut and flipped at random.

    Parameters
    ----------
    source : Tiles
    batch_size : int
        Of all processes together.
    seed : int
    device : torch.device
    rank, world : int
        Number of this process and of all; each takes every `world`-th tile of a batch.
    flips : bool
        Whether tiles are flipped at random: tissue has no upside, radiographs and cars have one.

    Examples
    --------
    >>> stream = BatchStream(ArrayTiles(np.zeros((10, 8, 8, 3), np.uint8)), 4, seed=0)
    >>> stream.batch(0).shape
    torch.Size([4, 3, 8, 8])
    >>> bool((stream.batch(7) == stream.batch(7)).all())  # of the step alone
    True
    """

    def __init__(
        self,
        source: Tiles,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        rank: int = 0,
        world: int = 1,
        flips: bool = True,
    ) -> None:
        if batch_size % world:
            raise ValueError(f"a batch of {batch_size} tiles cannot be shared by {world} processes")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.device = torch.device(device)
        self._rank, self._world, self._flips = rank, world, flips
        self._orders: dict[int, NDArray[np.intp]] = {}
        self._draws_there: tuple[int, Tensor] | None = None
        self._resident = self._on_device()

    def indices(self, k: int) -> NDArray[np.intp]:
        """Positions (batch_size,) in the source of batch k, all processes together."""
        count = len(self.source)
        position = np.arange(k * self.batch_size, (k + 1) * self.batch_size)
        rounds, place = np.divmod(position, count)
        out = np.empty(self.batch_size, np.intp)
        for number in np.unique(rounds).tolist():
            here = rounds == number
            out[here] = self._order(number)[place[here]]
        return out

    def batch(self, k: int) -> Tensor:
        """Images of batch k for this process, (n, C, S, S) in [-1, 1] on the device."""
        if self._resident is not None:
            return to_images(self._cut_there(self._resident, self._uploaded(k)), self.device)
        indices, corners, flips = self._draws(k)
        room = self.source.tile_side - self.source.tile_size
        cut = self.source.cut(indices, corners) if room else self.source.batch(indices)
        images = to_images(cut, self.device)
        return _flipped(images, flips) if self._flips else images

    def _draws(self, k: int) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]:
        """Tiles (n,) of batch k for this process, corners (n, 2) and flips (n, 2)."""
        rng = np.random.default_rng((self.seed, 1, k))
        mine = slice(self._rank, None, self._world)
        room = self.source.tile_side - self.source.tile_size
        corners = rng.integers(0, room + 1, (self.batch_size, 2))[mine]
        flips = (rng.random((self.batch_size, 2)) < 0.5)[mine] & self._flips
        return self.indices(k)[mine], corners, flips

    def _uploaded(self, k: int) -> Tensor:
        """Draws (n, 5) of batch k on the device: tile, corner (y, x), flips. Many go up at once."""
        number, place = divmod(k, _DRAWN_AT_ONCE)
        if self._draws_there is None or self._draws_there[0] != number:
            first = number * _DRAWN_AT_ONCE
            drawn = [self._draws(j) for j in range(first, first + _DRAWN_AT_ONCE)]
            rows = np.stack([np.column_stack(parts) for parts in drawn])
            self._draws_there = number, torch.from_numpy(rows).to(self.device, non_blocking=True)
        return self._draws_there[1][place]

    def _cut_there(self, tiles: Tensor, draws: Tensor) -> Tensor:
        """Cut and flip (N, side, side, C) where they lie, to (n, S, S, C): one operation."""
        size = self.source.tile_size
        reach = torch.arange(size, device=self.device)
        corners, flips = draws[:, 1:3, None], draws[:, 3:5, None]
        places = corners + torch.where(flips > 0, size - 1 - reach, reach)
        return tiles[draws[:, 0, None, None], places[:, 0, :, None], places[:, 1, None, :]]

    def stream(self, first: int, count: int) -> Iterator[Tensor]:
        """Batches (n, C, S, S) first, first + 1, ...; made ahead in a thread if off the device."""
        if self._resident is not None:
            for k in range(first, first + count):
                yield self.batch(k)
            return
        yield from prefetch((self.batch(k) for k in range(first, first + count)), _PREFETCHED)

    def _order(self, number: int) -> NDArray[np.intp]:
        if number not in self._orders:
            rng = np.random.default_rng((self.seed, 0, number))
            # Two rounds can meet in one batch; older ones never come back.
            self._orders = {n: o for n, o in self._orders.items() if n >= number - 1}
            self._orders[number] = rng.permutation(len(self.source))
        return self._orders[number]

    def _on_device(self) -> Tensor | None:
        """All tiles as stored in the GPU's memory, when there is a GPU and they fit."""
        if self.device.type != "cuda":
            return None
        count, side = len(self.source), self.source.tile_side
        free, _ = torch.cuda.mem_get_info(self.device)
        if count * side * side * 3 > _RESIDENT_SHARE * free:
            return None
        return self._stored()

    def _stored(self) -> Tensor:
        """Bring all tiles as stored, (N, side, side, C) uint8, to the device."""
        count, side, size = len(self.source), self.source.tile_side, self.source.tile_size
        starts = [*range(0, side - size, size), side - size]
        parts = []
        for indices in np.split(np.arange(count), range(4096, count, 4096)):
            whole: NDArray[np.uint8] | None = None
            for y, x in product(starts, starts):
                cut = self.source.cut(indices, np.tile([y, x], (len(indices), 1)))
                if whole is None:
                    whole = np.empty((len(indices), side, side, cut.shape[3]), np.uint8)
                whole[:, y : y + size, x : x + size] = cut
            parts.append(torch.as_tensor(whole).to(self.device))
        return torch.cat(parts)


def _flipped(images: Tensor, flips: NDArray[np.bool_]) -> Tensor:
    """Flip each image upside down and left to right, or not."""
    for axis in (0, 1):
        chosen = torch.as_tensor(flips[:, axis]).to(images.device).view(-1, 1, 1, 1)
        images = torch.where(chosen, images.flip(2 + axis), images)
    return images

"""What a search judges configurations on: normal tiles by case, abnormal tiles, folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.learning.batches import Tiles
from wsi_anomaly.tiles import TileStore
from wsi_anomaly.training.fields import embed_places


class Part:
    """Some of the tiles of a larger set.

    Parameters
    ----------
    tiles
        The larger set.
    indices
        (n,) positions in it.
    """

    def __init__(self, tiles: Tiles, indices: NDArray[np.intp]) -> None:
        self._tiles, self._indices = tiles, np.asarray(indices, np.intp)
        self.tile_size, self.tile_side = tiles.tile_size, tiles.tile_side

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, indices: NDArray[np.intp] | Sequence[int]) -> NDArray[np.uint8]:
        """Centres of tiles, (n, S, S, C)."""
        return self._tiles.batch(self._indices[np.asarray(indices, np.intp)])

    def cut(
        self, indices: NDArray[np.intp] | Sequence[int], corners: NDArray[np.integer]
    ) -> NDArray[np.uint8]:
        """Tiles (n, S, S, C) cut at their corners (n, 2)."""
        return self._tiles.cut(self._indices[np.asarray(indices, np.intp)], corners)


@dataclass(frozen=True, eq=False)
class Places:
    """Cells of tile files, one for each tile that is judged: in fields round them, or the tile.

    Attributes
    ----------
    stores
        The tile files.
    cells
        (N, 3): number of the tile file, row and column of the cell in its plane.
    """

    stores: tuple[TileStore, ...]
    cells: NDArray[np.intp]

    def take(self, indices: NDArray[np.intp]) -> Places:
        """Keep only these (n,)."""
        return Places(self.stores, self.cells[indices])

    def embed(
        self, network: PerceptualNetwork, layers: Sequence[str], magnification: int,
        sizes_um: Sequence[int],
    ) -> tuple[dict[int, Tensor], Tensor]:  # fmt: skip
        """Embed the fields round them, as ``train`` and ``score`` do.

        Returns
        -------
        By size in um (N, D) float32, and the least share of tissue (N,).
        """
        maps = DenseMaps(network, layers)
        return embed_places(self.stores, self.cells, magnification, maps, sizes_um)


@dataclass(frozen=True)
class SearchData:
    """Normal and abnormal tiles, each seen in one or more ways.

    Attributes
    ----------
    normal
        View ("10x", "20x", or a preprocessing) to the normal tiles; tile i is the same field in
        every view.
    cases
        (N,) case of each normal tile.
    abnormal
        View to the known anomalies; empty when there are none.
    groups
        (M,) slide or case of each abnormal tile.
    normal_places, abnormal_places
        The cell of each of these tiles; None: only tiles can be judged.
    """

    normal: Mapping[str, Tiles]
    cases: NDArray[np.str_]
    abnormal: Mapping[str, Tiles]
    groups: NDArray[np.str_]
    normal_places: Places | None = None
    abnormal_places: Places | None = None

    def __post_init__(self) -> None:
        for tiles, labels in ((self.normal, self.cases), (self.abnormal, self.groups)):
            counts = {len(one) for one in tiles.values()}
            if counts - {len(labels)}:
                raise ValueError("every view holds one tile for each label")


@dataclass(frozen=True)
class Fold:
    """Positions of normal tiles: those to learn from, to stop by, and to be judged.

    Attributes
    ----------
    train, validation, judged
        Without a case in common; `validation` may be empty.
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    judged: NDArray[np.intp]


def grouped_folds(cases: NDArray[np.str_], count: int, seed: int = 0) -> list[Fold]:
    """Part normal tiles so that every case is judged once, by a model that never saw it.

    Of the cases that a fold learns from, 15% (none below four of them) stop its training in time.

    Parameters
    ----------
    cases
        (N,) case of each tile.
    count
        Folds; no more than there are cases.
    seed
        Draws the cases that stop the training.

    Raises
    ------
    UsageError
        There are fewer than two cases.
    """
    from sklearn.model_selection import GroupKFold

    names = np.unique(cases)
    if len(names) < 2:
        raise UsageError(
            "Folds by case need at least two normal cases; give tiles of more normal cases."
        )
    if count < 2:
        raise UsageError(f"There are at least 2 folds, not {count}.")
    folds = []
    splitter = GroupKFold(min(count, len(names)))
    for k, (learn, judged) in enumerate(splitter.split(cases, groups=cases)):
        own = np.unique(cases[learn])
        stopping = max(1, round(0.15 * len(own))) if len(own) >= 4 else 0
        drawn = np.random.default_rng((seed, k)).permutation(own)[:stopping]
        stops = np.isin(cases[learn], drawn)
        folds.append(Fold(learn[~stops], learn[stops], judged))
    return folds


def at_most(cases: NDArray[np.str_], most: int, seed: int = 0) -> NDArray[np.intp]:
    """Positions (n,) of at most `most` tiles of each case, drawn by `seed`, ascending."""
    kept = []
    for k, name in enumerate(np.unique(cases)):
        own = np.flatnonzero(cases == name)
        if len(own) > most:
            own = np.random.default_rng((seed, k)).choice(own, most, replace=False)
        kept.append(own)
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, np.intp)

"""Fields of normal tissue, embedded from the planes of tile files as new slides' are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.slides import TISSUE, Bounds
from wsi_anomaly.tiles import Fields, Status, TileStore
from wsi_anomaly.tiles.plane import SQUARE_UM
from wsi_anomaly.tiles.plane_file import learned_cells
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.training.inputs import Notes
from wsi_anomaly.training.normals import MIN_TISSUE

MOST_CELLS = 50_000
"""At most about so many cells are learned from, of all slides together."""

_WINDOW_CELLS = 16  # a side: 1 mm
_ROUNDING = 0.01  # of a cell: corners are whole pixels


def with_fields_or_without(
    config: TrainConfig, features: PerceptualNetwork, stores: Sequence[TileStore], note: Notes
) -> TrainConfig:
    """Let ``density`` judge tiles where its fields cannot be had, and say why."""
    if "density" not in config.methods:
        return config
    usual = config.density(features.default_layer)
    if not usual.fields_um:
        return config
    if "fusion" in config.methods:
        note(
            "fusion weighs its members by tiles that are known, so density judges tiles of "
            f"{config.field_um} um; without fusion it judges fields of {max(usual.fields_um)} um, "
            "which see more."
        )
        return replace(config, density_fields_um=())
    without = [store for store in stores if store.plane(config.magnification) is None]
    if features.fields is not None and not without:
        return config
    note(
        f"{without[0].path} holds single tiles only (an older version, or stains fitted by tile), "
        "so density judges tiles of "
        f"{config.field_um} um; run tile again for fields of {max(usual.fields_um)} um, which see "
        "more."
        if without
        else f"The network {features.name} sees whole tiles only, so density judges tiles of "
        f"{config.field_um} um."
    )
    return replace(config, density_fields_um=())


def embed_stores(
    stores: Sequence[TileStore],
    magnification: int,
    maps: DenseMaps,
    sizes_um: Sequence[int],
    *,
    most: int,
    seed: int = 0,
    progress: Callable[[Path, int, int], None] = lambda _path, _done, _total: None,
) -> tuple[dict[int, Tensor], Tensor, NDArray[np.int64]]:
    """Embed the fields round the cells of tile files.

    Parameters
    ----------
    stores
        Tile files with planes.
    magnification, maps, sizes_um
        What is looked at: see :func:`~wsi_anomaly.scoring.embedding.embed_cells`.
    most, seed
        At most about so many cells in all, the same share of every slide, in windows of 1 mm that
        the seed draws.
    progress
        Called with the slide, its cells done and its cells in all.

    Returns
    -------
    By size in um: (N, D) float32, slide after slide; the least share (N,) of tissue in the
    fields of each cell; and where it lies, (N, 2): numbers of the tile file and the cell there.

    Raises
    ------
    TileStoreError
        A file has no plane, or there is no good field in any.
    """
    found: dict[int, list[NDArray[np.float32]]] = {um: [] for um in sizes_um}
    shares: list[NDArray[np.float32]] = []
    sources: list[NDArray[np.int64]] = []
    for number, store in enumerate(stores):
        stored = store.plane(magnification)
        if stored is None:
            raise TileStoreError(
                f"{store.path} holds single tiles only, of an older version or another stain "
                "option; run tile again."
            )
        plane, cells = stored
        wanted = draw_windows(cells, most // len(stores), seed)
        for part in embed_cells(
            plane, cells, maps, sizes_um, wanted=wanted,
            progress=lambda done, total, path=store.path: progress(path, done, total),  # type: ignore[misc]
        ):  # fmt: skip
            enough = part.shares >= MIN_TISSUE
            shares.append(part.shares[enough])
            here = part.indices[enough].astype(np.int64)
            sources.append(np.stack((np.full_like(here, number), here), 1))
            for um, values in part.embeddings.items():
                found[um].append(values[enough])
    joined = {um: torch.from_numpy(np.concatenate(parts)) for um, parts in found.items() if parts}
    if len(joined) < len(found):
        raise TileStoreError("None of the tile files has tissue that is good enough to learn from.")
    return joined, torch.from_numpy(np.concatenate(shares)), np.concatenate(sources)


def cells_of_tiles(
    store: TileStore, magnification: int, field_um: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Find the cell of a tile file's plane in which the centre of each tile lies.

    Parameters
    ----------
    store, magnification
        A tile file with a plane there.
    field_um
        Side of the largest field round a cell.

    Returns
    -------
    cells
        (N, 2) int32, row and column for each tile of the file.
    judged
        (N,) bool, whether `score` would judge the cell, and the file holds all that is seen then.
    """
    stored = store.plane(magnification)
    assert stored is not None
    plane, bounds = stored[0], Bounds(*store.bounds)
    um = store.tile_side(magnification) * mpp_of(magnification)
    pixel = np.array([store.mpp.x, store.mpp.y])
    middle = (store.coords - [bounds.x, bounds.y]) * pixel + um / 2
    column_row = np.floor(middle / SQUARE_UM + _ROUNDING).astype(np.int32)
    places = np.minimum(column_row[:, ::-1], np.array(plane.status.shape, np.int32) - 1)
    cells = learned_cells(plane, places, bounds, store.mpp)
    corner = cells.coords - (field_um - SQUARE_UM) / 2 / pixel
    size = field_um / pixel
    tissue = plane.tissue.fractions(corner, (float(size[0]), float(size[1])))[:, TISSUE]
    good = (plane.status_of(cells) == Status.OK) & (tissue >= MIN_TISSUE)
    return places, good & plane.surrounded(cells)


def embed_places(
    stores: Sequence[TileStore],
    places: NDArray[np.integer],
    magnification: int,
    maps: DenseMaps,
    sizes_um: Sequence[int],
) -> tuple[dict[int, Tensor], Tensor]:
    """Embed the fields round certain cells of tile files; several places may share a cell.

    Parameters
    ----------
    stores, magnification, maps, sizes_um
        As for :func:`embed_stores`.
    places
        (N, 3): number of the tile file, row and column of the cell.

    Returns
    -------
    By size in um (N, D) float32, and the least share (N,) of tissue in the fields of each cell; NaN
    and 0 where nothing can be seen.
    """
    found: dict[int, NDArray[np.float32]] = {}
    shares = np.zeros(len(places), np.float32)
    for number, store in enumerate(stores):
        mine = np.flatnonzero(places[:, 0] == number)
        stored = store.plane(magnification)
        if stored is None or not len(mine):
            continue
        own, of = np.unique(places[mine, 1:], axis=0, return_inverse=True)
        cells = learned_cells(stored[0], own.astype(np.int32), Bounds(*store.bounds), store.mpp)
        wanted = np.ones(len(cells), bool)
        for part in embed_cells(stored[0], cells, maps, sizes_um, wanted=wanted):
            # Which of its cells each place has, -1: none.
            at = np.full(len(cells), -1)
            at[part.indices] = np.arange(len(part.indices))
            here = at[of.reshape(-1)]
            to, source = mine[here >= 0], here[here >= 0]
            shares[to] = part.shares[source]
            for um, values in part.embeddings.items():
                if um not in found:
                    found[um] = np.full((len(places), values.shape[1]), np.nan, np.float32)
                found[um][to] = values[source]
    return {um: torch.from_numpy(v) for um, v in found.items()}, torch.from_numpy(shares)


def draw_windows(cells: Fields, most: int, seed: int = 0) -> NDArray[np.bool_]:
    """Say which cells (N,) are taken: whole windows of 1 mm, until about `most` are together."""
    if len(cells) <= most:
        return np.ones(len(cells), bool)
    across = int(cells.col.max(initial=0)) // _WINDOW_CELLS + 1
    window = cells.row // _WINDOW_CELLS * across + cells.col // _WINDOW_CELLS
    names, sizes = np.unique(window, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    taken = int(np.searchsorted(np.cumsum(sizes[order]), most)) + 1
    wanted: NDArray[np.bool_] = np.isin(window, names[order[:taken]])
    return wanted

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
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.tiles import Fields, TileStore
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.training.inputs import Notes
from wsi_anomaly.training.normals import MIN_TISSUE

MOST_CELLS = 50_000
"""At most about so many cells are learned from, of all slides together."""

_WINDOW_CELLS = 16  # a side: 1 mm


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

"""What a training starts from: tile files, sorted into parts, and what they have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.tiles import Status, TileSet, TileStore, find_tile_files
from wsi_anomaly.tiles.sharpness import sharpness
from wsi_anomaly.training.config import TrainConfig

Notes = Callable[[str], None]

_SHARPNESS_TILES = 256  # of each slide: enough for a median


def read_stores(
    tiles: str | Path | Sequence[str | Path], config: TrainConfig, note: Notes
) -> list[TileStore]:
    """Open the tile files that can be learned from; what is left out is noted.

    Raises
    ------
    UsageError, TileStoreError
        There is none, or they do not fit together.
    """
    places = [tiles] if isinstance(tiles, str | Path) else list(tiles)
    stores: list[TileStore] = []
    without: list[TileStore] = []
    named = {Path(place) for place in places}
    for path in find_tile_files(places):
        store = TileStore.open(path)
        if store.label is not None and path not in named:
            note(
                f"{path} was cut inside annotations ({', '.join(sorted(set(store.label)))}) and is "
                "left out: it may show what is not normal; name the file itself to learn from it."
            )
            continue
        (stores if config.magnification in store.magnifications else without).append(store)
    if not stores and not without:
        raise TileStoreError(
            "All tile files were cut inside annotations; tile normal slides without --annotations."
        )
    if not stores:
        stored = sorted({m for s in without for m in s.magnifications})
        raise TileStoreError(
            f"None of the tile files has {config.magnification}x tiles, only "
            f"{', '.join(f'{m}x' for m in stored)}; choose --magnification accordingly or tile "
            "slides of a higher resolution."
        )
    if without:
        note(
            f"{len(without)} of {len(without) + len(stores)} tile files have no "
            f"{config.magnification}x tiles and are left out, {without[0].path} among them."
        )
    # All parts alike, those that only calibrate too.
    TileSet(stores, config.magnification, tile_size=config.tile_size)
    return _without_copies(stores, note)


def _without_copies(stores: Sequence[TileStore], note: Notes) -> list[TileStore]:
    """Keep one tile file a slide: copies of a slide are no further cases.

    Tile files that were cut inside annotations may show different parts of one slide.
    """
    kept: list[TileStore] = []
    of_slide: dict[tuple[str, int | None], TileStore] = {}
    for store in stores:
        first = store
        if store.label is None:
            first = of_slide.setdefault((store.fingerprint, store.scene), store)
        if first is store:
            kept.append(store)
        else:
            note(f"{store.path} is of the same slide as {first.path} and is left out.")
    return kept


def tiles_of_cases(stores: Sequence[TileStore]) -> Mapping[str, int]:
    """Count the good tiles of each case."""
    counts: Counter[str] = Counter()
    for store in stores:
        counts[store.case] += int(np.count_nonzero(store.status == Status.OK))
    return counts


def tile_set(stores: Sequence[TileStore], cases: set[str], config: TrainConfig) -> TileSet | None:
    """Join the tiles of some cases; None when they have none."""
    chosen = [s for s in stores if s.case in cases]
    if not chosen:
        return None
    return TileSet(chosen, config.magnification, tile_size=config.tile_size)


def anomaly_set(
    paths: Sequence[str | Path], train_set: TileSet, config: TrainConfig
) -> TileSet | None:
    """Join tiles of known anomalies, treated as the training tiles were; None without any.

    Raises
    ------
    TileStoreError
        They were tiled with other stain options.
    """
    if not paths:
        return None
    stores = [TileStore.open(path) for path in find_tile_files(paths)]
    if stores[0].preprocessing != train_set.preprocessing:
        raise TileStoreError(
            f"{stores[0].path} was tiled with other stain options than the normal tiles; tile it "
            "again with the same ones."
        )
    return TileSet(stores, config.magnification, tile_size=config.tile_size)


def domain_of(tiles: TileSet) -> dict[str, Any]:
    """Ranges of what differs between slides, for warnings about slides beyond them."""
    stores = tiles.stores
    mpp = [s.mpp.x for s in stores]
    sharp = [
        float(
            np.median(
                sharpness(
                    # All over the slide: its tiles lie in the file row by row.
                    tiles.batch(own[:: len(own) // _SHARPNESS_TILES + 1]),
                    mpp_of(tiles.magnification),
                )
            )
        )
        for own in (np.flatnonzero(tiles.slide == k) for k in range(len(stores)))
        if len(own)
    ]
    domain: dict[str, Any] = {
        "mpp_range": [min(mpp), max(mpp)],
        "detail_range": [min(sharp), max(sharp)],
    }
    stains = [s.stain for s in stores if s.stain is not None]
    if stains:
        mean = np.mean([s.matrix for s in stains], axis=0)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        angles = [
            float(np.degrees(np.arccos(np.clip((s.matrix * mean).sum(1), -1, 1))).max())
            for s in stains
        ]
        maxima = np.array([s.maxima for s in stains])
        domain |= {
            "stain_matrix_mean": mean.tolist(),
            "stain_angle_max_deg": max(angles),
            "maxima_range": np.stack((maxima.min(0), maxima.max(0)), 1).tolist(),
        }
    return domain

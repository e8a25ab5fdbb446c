"""What tile files of JPEG cost and change, beside those of the pixels as they are.

    python benchmarks/lossy.py

On the project's slides of colon (shared/data): room, time to tile, tiles decoded in random
batches; `density` learned from the left half of the normal slide, calibrated on its right half,
which is read from the slide as ever; and the slide with an adenoma scored by both. Rates are
medians of interleaved rounds. The models differ in nothing but the pixels that they learned from.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import REPOSITORY, finish, parser_of
from scipy.stats import spearmanr

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.detectors import Density, Model
from wsi_anomaly.features import load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring import ScoreMap, score_slide
from wsi_anomaly.tiles import TileConfig, TileSet, TileStore, tile_slide
from wsi_anomaly.training.config import PRESETS
from wsi_anomaly.training.fields import embed_stores

DATA = Path(os.environ.get("WSI_ANOMALY_DATA", REPOSITORY.parent / "shared" / "data")) / "slides"
KINDS = ("lossless", "jpeg")
BATCH = 128


def learned(store: TileStore) -> Model:
    """Learn from the left half of a slide."""
    config = PRESETS["fast"]
    network = load_features(config.features)
    density = Density(network, config.density(network.default_layer))
    embeddings, shares, sources = embed_stores(
        [store], 10, DenseMaps(network, density.layers), density.fields_um, most=1 << 30
    )
    stored = store.plane(10)
    assert stored is not None
    left = torch.from_numpy(stored[1].coords[sources[:, 1], 0] < store.slide_size[0] / 2)
    density.fit_fields({um: found[left] for um, found in embeddings.items()}, shares[left])
    return Model(
        name="half", magnification=10, tile_size=64,
        preprocessing=store.preprocessing.to_dict(), detectors={"density": density},
        primary="density", seen={}, provenance={"trained": "2026-01-01"},
    )  # fmt: skip


def reference(found: ScoreMap) -> Calibration:
    """Normal fields of the right half, as they are scored."""
    right = found.assessed & (found.fields.coords[:, 0] >= found.slide.width / 2)
    fields = found.fields
    return Calibration.fit(
        [CaseScores("right", "right", fields.row[right], fields.col[right], found.score[right])]
    )


def rates(stores: dict[str, TileStore], rounds: int) -> dict[str, float]:
    """Tiles a second in random batches."""
    sets = {kind: TileSet([store], 10) for kind, store in stores.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    rng = np.random.default_rng(0)
    for _ in range(rounds + 1):  # the first warms the page cache
        for kind, tiles in sets.items():
            order = rng.permutation(len(tiles))[: len(tiles) // BATCH * BATCH].reshape(-1, BATCH)
            start = time.perf_counter()
            for indices in order:
                tiles.batch(indices)
            seconds[kind].append((time.perf_counter() - start) / order.size)
    return {kind: 1 / statistics.median(values[1:]) for kind, values in seconds.items()}


def main() -> None:
    options = parser_of(__doc__).parse_args()
    torch.set_num_threads(1)
    normal, new = DATA / "colon_normal.tif", DATA / "colon_adenoma.tif"
    kinds, scores, percentiles = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        stores, seconds = {}, {}
        for kind in KINDS:
            config = TileConfig(compression=kind)
            made = tile_slide(normal, Path(folder) / kind, config)
            stores[kind], seconds[kind] = TileStore.open(made.path), made.seconds
        decoded = rates(stores, options.rounds)
        for kind, store in stores.items():
            model = learned(store)
            found = score_slide(new, model)
            scores[kind] = found.score[found.assessed]
            percentiles[kind] = reference(score_slide(normal, model)).percentile(scores[kind])
            kinds[kind] = {
                "MB": store.path.stat().st_size / 1e6,
                "tile_s": seconds[kind],
                "tiles_per_s": decoded[kind],
                "above_95_percent": float((percentiles[kind] > 95).mean()),
            }
    exact, near = (scores[kind] for kind in KINDS)
    spread = np.subtract(*np.quantile(exact, (0.75, 0.25)))
    top = [set(np.argsort(-s)[: len(s) // 20].tolist()) for s in (exact, near)]
    result = {
        "kinds": kinds,
        "fields": len(exact),
        "rank_correlation": float(spearmanr(exact, near).statistic),
        "median_change_in_spread": float(np.median(np.abs(exact - near)) / spread),
        "top_twentieth_same": len(top[0] & top[1]) / len(top[0]),
        "median_change_of_percentile": float(
            np.median(np.abs(percentiles["lossless"] - percentiles["jpeg"]))
        ),
        "same_side_of_95": float(
            ((percentiles["lossless"] > 95) == (percentiles["jpeg"] > 95)).mean()
        ),
    }
    finish(result, options.json)


if __name__ == "__main__":
    main()

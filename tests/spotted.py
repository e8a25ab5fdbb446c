"""Slides with dark and with striped spots, and a model that knows their tissue without spots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.detectors import Density, DensityConfig, Model
from wsi_anomaly.features import load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.training.examples import examples_of
from wsi_anomaly.training.fields import embed_stores

DARK, STRIPED = False, True
SIZES = (64, 128)


def draw(path: Path, seed: int, spots: tuple[bool, ...] = ()) -> Path:
    """Pink tissue of 1536 um with spots of 256 um, at 1 um a pixel."""
    rng = np.random.default_rng(seed)
    image = np.full((1792, 1792, 3), 245, np.uint8)
    tissue = rng.normal((215, 130, 190), 22, (1536, 1536, 3))
    image[128:1664, 128:1664] = np.clip(tissue, 0, 255)
    for k, striped in enumerate(spots):
        y, x = 384 + 768 * (k // 2), 384 + 768 * (k % 2)
        spot = np.broadcast_to((70, 40, 90), (256, 256, 3)).copy()
        if striped:
            spot[(np.arange(256) // 12) % 2 == 0] = (225, 120, 190)
        image[y : y + 256, x : x + 256] = np.clip(rng.normal(spot, 12), 0, 255)
    tifffile.imwrite(
        path, image, tile=(256, 256), photometric="rgb", resolution=(1e4, 1e4),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


def is_striped(x: float, y: float) -> bool:
    """Whether a place, level-0 pixels, lies in the spot that is striped where there are three."""
    return x > 896 > y


def train(work: Path, cases: int = 6) -> Model:
    """Learn from a slide without spots, with fields to show, and calibrate on others."""
    stores = [
        TileStore.open(
            tile_slide(draw(work / f"{name}.tif", seed), work, TileConfig(stain="none")).path
        )
        for name, seed in (("one", 98), ("two", 99))
    ]
    network = load_features("compact", random_seed=0)
    detector = Density(network, DensityConfig(("c2",), estimator="both", fields_um=SIZES))
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8)
    detector.embed_tiles(ArrayTiles(noise))  # measures the filters' statistics
    embeddings, shares, sources = embed_stores(
        stores, 10, DenseMaps(network, ("c2",)), SIZES, most=10_000
    )
    detector.fit_fields(embeddings, shares)
    model = Model(
        name="spots", magnification=10, tile_size=64,
        preprocessing=stores[0].preprocessing.to_dict(), detectors={"density": detector},
        primary="density", seen={store.fingerprint: "train" for store in stores},
        provenance={"trained": "2026-01-01"},
        examples=examples_of(detector, embeddings, sources, stores, 10, 0),
    )  # fmt: skip
    scores = []
    for i in range(cases):
        found = score_slide(draw(work / f"c{i}.tif", 200 + i), model)
        good, fields = found.assessed, found.fields
        scores.append(
            CaseScores(f"c{i}", f"c{i}", fields.row[good], fields.col[good], found.score[good])
        )
    return replace(model, calibration={"density": Calibration.fit(scores)})

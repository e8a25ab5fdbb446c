"""Training and scoring with ``compact`` against VGG19 up to r42, in one run, on one core.

    python benchmarks/training.py [--rounds 5]

Tiles of 64 px in batches of 32. Training: whole steps of the autoencoder at its final size (4
channels, latent 4x8x8), data and optimiser included. Scoring: ``dpa`` and ``density`` together, as
``score`` runs them. VGG19 has random weights: its speed does not depend on them. Both networks run
in the number format that is fastest here. Medians of CPU time, the two interleaved; goals: each at
least 10 times VGG19, about 300 training and 800 scored tiles/s where the processor has bf16.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, GrowthTrainer, Stage
from wsi_anomaly.autoencoder.batches import ArrayTiles, BatchStream
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.detectors import Density, DensityConfig, Detector, Dpa, DpaConfig
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.detectors.model import Model
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.precision import fast_precision

SIZE, BATCH = 64, 32
GOALS = {"training": (10, 300), "scoring": (10, 800)}


def made_tiles(count: int) -> np.ndarray:
    """Tiles of blurred noise in tissue's colours: what they show does not matter to the speed."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.random((count, 8, 8, 1)), np.ones((1, 8, 8, 1)))
    pixels = (150, 80, 150) + coarse * (90, 120, 80) + rng.normal(0, 6, (count, SIZE, SIZE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def training_step(network: PerceptualNetwork, layer: str, tiles: ArrayTiles) -> Callable[[], None]:
    """Return one step of training at the final size, to be repeated."""
    torch.manual_seed(0)
    autoencoder = ProgressiveAutoencoder(Architecture())
    trainer = GrowthTrainer(
        autoencoder.to(memory_format=torch.channels_last),
        network,
        (Stage(SIZE, transition=False, steps=1_000_000),),
        GrowthConfig(layers={SIZE: {layer: 1.0}}),
        autocast=None if network.precision == torch.float32 else torch.bfloat16,  # as dpa does
    )
    stream = BatchStream(tiles, BATCH, 0)
    steps = iter(range(1_000_000))

    def step() -> None:
        k = next(steps)
        trainer.step((stream.batch(k),), k)

    return step


def scoring(
    network: PerceptualNetwork, layer: str, layers: tuple[str, ...], tiles: ArrayTiles
) -> Callable[[], object]:
    """Return the scoring of all tiles by both detectors, as a model does it."""
    stages = (Stage(SIZE, transition=False, steps=1),)
    growth = GrowthConfig(layers={SIZE: {layer: 1.0}})
    architecture = Architecture(first_resolution=SIZE)
    detectors: dict[str, Detector] = {
        "dpa": Dpa(network, DpaConfig(architecture, growth, stages, BATCH)),
        "density": Density(network, DensityConfig(layers)),
    }
    for detector in detectors.values():
        detector.fit(tiles)
    model = Model(
        name="benchmark", magnification=10, tile_size=SIZE, preprocessing={}, detectors=detectors,
        primary="density", seen={}, domain={}, provenance={},
    )  # fmt: skip
    return lambda: model.score_tiles(tiles.images)


def tiles_per_second(work: Callable[[], object], tiles: int) -> float:
    start = time.process_time()
    work()
    return tiles / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    precision = fast_precision("cpu")
    tiles = ArrayTiles(made_tiles(256))
    networks = {
        "compact": (load_features("compact"), "c3", ("c2", "c3")),
        "vgg19": (load_features("vgg19", random_seed=0), "r42", ("r42",)),
    }
    # Enough of each for a few tenths of a second a round.
    repeats = {"compact": 8, "vgg19": 1}
    work: dict[str, dict[str, tuple[Callable[[], object], int]]] = {"training": {}, "scoring": {}}
    for name, (network, layer, layers) in networks.items():
        network.set_precision(precision)
        fit_missing_statistics(network, tiles, sorted({layer, *layers}), most=64)
        step, count = training_step(network, layer, tiles), repeats[name]
        work["training"][name] = (
            lambda step=step, count=count: [step() for _ in range(count)],
            BATCH * count,
        )
        work["scoring"][name] = (scoring(network, layer, layers, tiles), len(tiles))
    found: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in by_name} for what, by_name in work.items()
    }
    for turn in range(options.rounds + 1):
        for what, by_name in work.items():
            for name, (run, count) in by_name.items():
                speed = tiles_per_second(run, count)
                if turn:  # the first one warms up
                    found[what][name].append(speed)
    result: dict[str, object] = {"format": str(precision).removeprefix("torch.")}
    print("| what | compact, tiles/s | VGG19 r42, tiles/s | ratio | goal |\n|---|---|---|---|---|")
    for what, by_name in found.items():
        ours, theirs = (statistics.median(by_name[name]) for name in ("compact", "vgg19"))
        ratios = [a / b for a, b in zip(by_name["compact"], by_name["vgg19"], strict=True)]
        ratio = statistics.median(ratios)
        times, speed = GOALS[what]
        print(
            f"| {what} | {ours:,.0f} | {theirs:,.0f} | {ratio:.1f} | "
            f"{times}x, about {speed} tiles/s |"
        )
        result[what] = {
            "compact_tiles_per_s": ours, "vgg19_tiles_per_s": theirs, "ratio": ratio,
            "ratios": ratios,
        }  # fmt: skip
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Training and scoring with ``compact`` against VGG19 up to r42, and ours against plain PyTorch.

    python benchmarks/training.py [--rounds 5]

Tiles of 64 px in batches of 32, one core. Training: whole steps of the autoencoder at its final
size (4 channels, latent 4x8x8), data and optimiser included. Scoring: ``dpa`` and ``density``
together, as ``score`` runs them. VGG19 has random weights: its speed does not depend on them. Both
networks run in the number format that is fastest here. *Plain*: the same networks, loss and
optimiser as one writes them first, in float32, each score on its own. Medians of CPU time, all
interleaved; goals: each at least 10 times VGG19, about 300 training and 800 scored tiles/s where
the processor has bf16.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common import finish, parser_of

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, GrowthTrainer, Stage
from wsi_anomaly.autoencoder.blocks import Conv3, Residual
from wsi_anomaly.autoencoder.loss import relative_l1
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.detectors import Density, DensityConfig, Detector, Dpa, DpaConfig
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.detectors.model import Model
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.precision import fast_precision
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream

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


def plain_step(network: PerceptualNetwork, layer: str, tiles: ArrayTiles) -> Callable[[], None]:
    """Return the same step, eager and in float32 throughout."""
    autoencoder = plain_autoencoder()
    optimizer = torch.optim.Adam(autoencoder.parameters(), 1e-3)
    rng = np.random.default_rng(0)

    def step() -> None:
        images = plain_images(tiles.images[rng.integers(0, len(tiles), BATCH)])
        with torch.no_grad():
            truth = network(images, [layer])[layer]
        found = network(autoencoder(images), [layer])[layer]
        loss = relative_l1(truth, found).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@torch.no_grad()
def plain_scoring(
    network: PerceptualNetwork, layer: str, layers: tuple[str, ...], tiles: ArrayTiles
) -> Callable[[], None]:
    """Return the same scoring: each method looks at the images by itself."""
    autoencoder = plain_autoencoder()

    def embed(images: torch.Tensor) -> torch.Tensor:
        found = network(images, layers)
        return torch.cat([found[name].mean((2, 3)) for name in layers], 1)

    normal = embed(plain_images(tiles.images[:64]))
    mean, inverse = normal.mean(0), torch.linalg.pinv(torch.cov(normal.T))

    @torch.no_grad()
    def score() -> None:
        for start in range(0, len(tiles), BATCH):
            images = plain_images(tiles.images[start : start + BATCH])
            relative_l1(
                network(images, [layer])[layer], network(autoencoder(images), [layer])[layer]
            )
            away = embed(images) - mean
            ((away @ inverse) * away).sum(1).sqrt()

    return score


def plain_autoencoder() -> ProgressiveAutoencoder:
    """Return the autoencoder, run by PyTorch's own modules."""
    torch.manual_seed(0)
    autoencoder = ProgressiveAutoencoder(Architecture())
    for module in autoencoder.modules():
        if isinstance(module, (Conv3, Residual)):
            module.fused = False
    return autoencoder


def plain_images(tiles: np.ndarray) -> torch.Tensor:
    """(N, 3, S, S) float32 in [-1, 1], contiguous."""
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1


def plain(network: PerceptualNetwork) -> PerceptualNetwork:
    """Bring a network to float32, channels first."""
    network.set_precision(torch.float32)
    network.stages.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network


def tiles_per_second(work: Callable[[], object], tiles: int) -> float:
    start = time.process_time()
    work()
    return tiles / (time.process_time() - start)


def main() -> None:
    parser = parser_of(__doc__)
    options = parser.parse_args()
    torch.set_num_threads(1)
    precision = fast_precision("cpu")
    tiles = ArrayTiles(made_tiles(256))
    made: dict[str, tuple[Callable[[], PerceptualNetwork], str, tuple[str, ...]]] = {
        "compact": (lambda: load_features("compact"), "c3", ("c2", "c3")),
        "vgg19": (lambda: load_features("vgg19", random_seed=0), "r42", ("r42",)),
    }
    # Enough of each for a few tenths of a second a round.
    repeats = {"compact": 8, "vgg19": 1}
    work: dict[str, dict[str, tuple[Callable[[], object], int]]] = {"training": {}, "scoring": {}}
    for name, (load, layer, layers) in made.items():
        network, slow = load().set_precision(precision), plain(load())
        for one in (network, slow):
            fit_missing_statistics(one, tiles, sorted({layer, *layers}), most=64)
        count = repeats[name]
        for way, step in (
            (name, training_step(network, layer, tiles)),
            (f"{name}_plain", plain_step(slow, layer, tiles)),
        ):
            work["training"][way] = (
                lambda step=step, count=count: [step() for _ in range(count)],
                BATCH * count,
            )
        work["scoring"][name] = (scoring(network, layer, layers, tiles), len(tiles))
        work["scoring"][f"{name}_plain"] = (plain_scoring(slow, layer, layers, tiles), len(tiles))
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
    for what, measured in found.items():
        speeds = {name: statistics.median(values) for name, values in measured.items()}
        ours = measured["compact"]
        ratios = {
            name: [a / b for a, b in zip(ours, values, strict=True)]
            for name, values in measured.items()
            if name != "compact"
        }
        result[what] = {
            "tiles_per_s": {name: round(speed, 1) for name, speed in speeds.items()},
            "goal": dict(zip(("times_vgg19", "tiles_per_s"), GOALS[what], strict=True)),
            "compact_times": {
                name: [round(value, 1) for value in (statistics.median(r), min(r), max(r))]
                for name, r in ratios.items()
            },
        }
    finish(result, options.json)


if __name__ == "__main__":
    main()

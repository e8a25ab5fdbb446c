"""The decisive test of the paper's idea: ``dpa`` with trained against random features.

    python -m wsi_anomaly.experiments.curve DATA --dataset cifar10 --row automobile \
        --features compact --feature-weights no_cifar/compact.safetensors --layer c4 \
        --steps 500 1000 2000 4000 -o docs/results

Both are trained alike, equally long, with the paper's bottleneck of one latent vector; the ROC AUC
is measured on the way. One division a seed: the row's of that seed, or its first fold. The output
folder gets a file of JSON lines, one for each seed and network; what has its line is not trained
again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsi_anomaly import __version__
from wsi_anomaly.autoencoder import GrowthTrainer
from wsi_anomaly.autoencoder.batches import ArrayTiles, BatchStream, to_images
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import config_hash, fingerprint, make_folder, write_text
from wsi_anomaly.detectors import Dpa
from wsi_anomaly.detectors.base import batches
from wsi_anomaly.experiments.cells import Settings, measure
from wsi_anomaly.experiments.divisions import Division, divide
from wsi_anomaly.experiments.image_sets import SETS, ImageSet, read_set
from wsi_anomaly.experiments.images import seen_by_features
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.precision import fast_precision

NETWORKS = ("trained", "random")
_STATISTICS_TILES = 2048


def learn_and_look(
    images: ImageSet,
    division: Division,
    settings: Settings,
    network: PerceptualNetwork,
    looks: Sequence[int],
) -> dict[str, float]:
    """Train one autoencoder; its ROC AUC on the judged images after each of `looks` steps.

    Parameters
    ----------
    images, division
        Set, and what of it is learned from and judged.
    settings : Settings
        Of ``dpa``.
    network : PerceptualNetwork
        Per-filter statistics are measured on the images to learn from where it has none.
    looks : sequence of int
        Ascending.
    """
    network.set_precision(fast_precision("cpu"))
    learned = images.tiles_of(division.learn)
    if not network.has_statistics(settings.loss_layer):
        few = learned[np.random.default_rng(0).permutation(len(learned))[:_STATISTICS_TILES]]
        network.fit_statistics((to_images(b) for b in batches(few)), [settings.loss_layer])
    dpa = Dpa(network, replace(settings, steps=looks[-1]).dpa(division.seed))
    torch.manual_seed(dpa.config.seed)
    autoencoder = ProgressiveAutoencoder(dpa.config.architecture)
    trainer = GrowthTrainer(
        autoencoder.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        network,
        dpa.config.stages,
        dpa.config.growth,
        autocast=None if network.precision == torch.float32 else network.precision,
    )
    stream = BatchStream(ArrayTiles(learned), settings.batch_size, dpa.config.seed)
    judged = np.isin(images.image, division.judge)
    found = {}
    for step, batch in enumerate(stream.stream(0, looks[-1])):
        trainer.step((batch,), step)
        if step + 1 in looks:
            dpa.autoencoder_ = autoencoder.grown().eval()
            scores = np.zeros(len(images.tiles))
            scores[judged] = dpa.score_samples(images.tiles[judged])
            per_image = images.mean_over_images(scores)
            auc = measure({"": per_image}, division, images.group)["auc"][""]
            found[str(step + 1)] = auc
            print(f"{division.name}, step {step + 1}: {auc}", file=sys.stderr, flush=True)
    return found


def one_division_a_seed(images: ImageSet, row: str, seeds: int) -> list[Division]:
    """First division of each seed that belongs to `row`.

    Raises
    ------
    UsageError
        The set has no such row.
    """
    found: dict[int, Division] = {}
    for division in divide(images, seeds):
        if division.row == row:
            found.setdefault(division.seed, division)
    if not found:
        raise UsageError(f"The set {images.name} has no row {row!r}.")
    return list(found.values())


def run_curves(
    images: ImageSet,
    settings: Settings,
    looks: Sequence[int],
    output: Path,
    *,
    row: str = "",
    weights: Path | None = None,
    seeds: int = 3,
) -> list[dict[str, Any]]:
    """Train what has no line yet; return all cells.

    Raises
    ------
    WsiAnomalyError
        The network's weights are missing, or the file cannot be read or written.
    """
    how = settings.to_dict() | {"steps": list(looks), "row": row}
    del how["layers"]  # of density
    path = make_folder(output) / f"{settings.data}_curve_{config_hash(how)[:8]}.jsonl"
    try:
        cells = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        done = {(cell["division"], cell["network"]): cell for cell in cells}
    except FileNotFoundError:
        done = {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged; delete it to have it computed again.") from error
    for division in one_division_a_seed(images, row, seeds):
        for kind in NETWORKS:
            if (division.name, kind) in done:
                continue
            network = (
                load_features(settings.features, weights=weights)
                if kind == "trained"
                else load_features(settings.features, random_seed=division.seed)
            )
            done[division.name, kind] = {
                "division": division.name,
                "network": kind,
                "settings": how,
                "program": f"wsi-anomaly {__version__}",
                "seen_by_features": seen_by_features(settings.data, settings.features, weights),
                "auc": learn_and_look(images, division, settings, network, looks),
            }
            write_text(path, "".join(json.dumps(cell) + "\n" for cell in done.values()))
    return list(done.values())


def markdown(cells: Sequence[dict[str, Any]]) -> str:
    """Give a table: a line for each number of steps, mean and range over the seeds."""
    lines = ["| steps | trained features | random features |\n|---|---|---|"]
    for steps in cells[0]["settings"]["steps"]:
        figures = []
        for kind in NETWORKS:
            values = [c["auc"][str(steps)] for c in cells if c["network"] == kind]
            figures.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        lines.append(f"| {steps:,} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m wsi_anomaly.experiments.curve",
        description="Train dpa on trained and on random features, and compare them on the way.",
    )
    parser.add_argument("data", type=Path, help="folder of the sets")
    parser.add_argument("--dataset", choices=sorted(SETS), required=True)
    parser.add_argument("--row", default="", help="normal class of cifar10")
    parser.add_argument("--features", default="compact", help="perceptual network")
    parser.add_argument("--feature-weights", type=Path, help="its weights")
    parser.add_argument("--layer", help="of the loss (default: the network's own)")
    parser.add_argument("--size", type=int, default=64, help="side of a tile in px (default 64)")
    parser.add_argument("--width", type=int, default=4, help="channels (default 4)")
    parser.add_argument("--latent", type=int, default=8, help="of the vector (default 8)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[500, 1000, 2000, 4000], help="when to look"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default 3)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the cells")
    options = parser.parse_args(arguments)
    try:
        looks = sorted(set(options.steps))
        if options.seeds < 1 or looks[0] < 1:
            raise UsageError("--seeds and --steps are at least 1.")
        weights: Path | None = options.feature_weights
        network = load_features(options.features, weights=weights)
        layer = options.layer or network.default_layer
        network.check_layers([layer])
        settings = Settings(
            data=options.dataset,
            size=options.size,
            method="dpa",
            features=options.features,
            weights=fingerprint(weights) if weights else "",
            layers=(layer,),
            batch_size=options.batch_size,
            latent_channels=options.latent,
            width=options.width,
            loss_layer=layer,
        )
        images = read_set(options.dataset, options.data, options.size)
        cells = run_curves(
            images, settings, looks, options.output,
            row=options.row, weights=weights, seeds=options.seeds,
        )  # fmt: skip
    except WsiAnomalyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())

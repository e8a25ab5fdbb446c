"""Per-filter statistics of a network from any set of images.

    python -m wsi_anomaly.features.statistics vgg19 IMAGES -o vgg19.safetensors

cuts the images (files, or folders of them) into tiles and writes the network with the statistics
of all its layers to one file, which ``--feature-weights`` takes. Give a broad set: statistics of a
handful of like images make much of filters that hardly ever answer.

    python -m wsi_anomaly.features.statistics vgg19 --statistics FILE -o vgg19.safetensors

takes them from a file instead: that of the paper's authors
(``vgg19_ILSVRC2012_object_detection_mean_var.pt``), or any with a mean and a standard deviation by
layer. It is opened in PyTorch's restricted mode, in which nothing is executed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsi_anomaly.core.errors import ModelError, UsageError, WsiAnomalyError
from wsi_anomaly.core.tensors import save_tensors
from wsi_anomaly.features.loading import FEATURES, load_features
from wsi_anomaly.features.network import PerceptualNetwork

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
BATCH = 64


def image_files(paths: Sequence[Path]) -> list[Path]:
    """List the images among files and below folders, sorted.

    Raises
    ------
    UsageError
        A path does not exist, or there are no images at all.
    """
    files: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist.")
        files.update(path.rglob("*") if path.is_dir() else [path])
    images = sorted(file for file in files if file.suffix.lower() in SUFFIXES)
    if not images:
        raise UsageError(f"There are no images in {', '.join(map(str, paths))}.")
    return images


def image_tiles(files: Sequence[Path], size: int, most: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield batches of tiles (N, 3, `size`, `size`) of images, RGB in [-1, 1].

    Every image gives whole tiles on a grid; one smaller than a tile is enlarged. Images give equal
    numbers of tiles, drawn at random, and about `most` in all.

    Raises
    ------
    UsageError
        An image cannot be read.
    """
    rng = np.random.default_rng(seed)
    share = -(-most // len(files))
    waiting: list[np.ndarray] = []
    for file in files:
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{file} is no readable image; take it out of the set.") from error
        if min(image.size) < size:
            factor = size / min(image.size)
            sides = [max(size, round(side * factor)) for side in image.size]
            image = image.resize((sides[0], sides[1]))
        columns, rows = image.width // size, image.height // size
        for place in rng.permutation(columns * rows)[:share]:
            x, y = size * (place % columns), size * (place // columns)
            waiting.append(np.asarray(image.crop((x, y, x + size, y + size))))
            if len(waiting) == BATCH:
                yield _batch(waiting)
                waiting = []
    if waiting:
        yield _batch(waiting)


def _batch(tiles: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 127.5 - 1


def take_statistics(network: PerceptualNetwork, path: Path) -> int:
    """Set mean and standard deviation of each filter of the layers that a file holds; count them.

    The authors' file gives them by layer as ``(1, C, 1, 1)``; what it calls ``var`` is the standard
    deviation.

    Raises
    ------
    ModelError
        The file is missing, damaged, holds more than tensors, or belongs to another network.
    """
    found: dict[str, tuple[Tensor, Tensor]] = {}
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        for layer in network.layers:
            if layer in held:
                mean, deviation = held[layer]
                found[layer] = mean.flatten(), deviation.flatten()
    except Exception as error:  # a damaged file fails in as many ways as there are readers
        raise ModelError(
            f"{path} cannot be read as statistics: it is missing, damaged, or holds something else "
            "than a mean and a standard deviation by layer; give the authors' file."
        ) from error
    filters = network.activations(torch.zeros(1, 3, 64, 64), list(found)) if found else {}
    if not found or any(found[layer][0].shape != f.shape[1:2] for layer, f in filters.items()):
        raise ModelError(f"{path} has no statistics of {network.name}: it has other layers.")
    for layer, (mean, deviation) in found.items():
        network.set_statistics(layer, mean, deviation)
    return len(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m wsi_anomaly.features.statistics",
        description="Measure the per-filter statistics of a perceptual network on images.",
    )
    parser.add_argument("network", help=f"one of {', '.join(FEATURES)}")
    parser.add_argument("images", type=Path, nargs="*", help="images, or folders of them")
    parser.add_argument("--statistics", type=Path, help="a file of them, in place of images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    parser.add_argument("--feature-weights", type=Path, help="the network's weights")
    parser.add_argument("--size", type=int, default=64, help="side of a tile in px (default 64)")
    parser.add_argument("--max-tiles", type=int, default=5000, help="default 5000")
    options = parser.parse_args(arguments)
    try:
        if options.size < 8 or options.max_tiles < 1:
            raise UsageError("--size is at least 8 px, and --max-tiles at least 1.")
        if options.output.suffix != ".safetensors":
            raise UsageError(f"{options.output} must end in .safetensors.")
        if bool(options.images) == (options.statistics is not None):
            raise UsageError("Give images, or a file of statistics with --statistics.")
        network = load_features(options.network, weights=options.feature_weights)
        if options.statistics is not None:
            layers = take_statistics(network, options.statistics)
            source = f"{options.statistics} ({layers} layers)"
        else:
            files = image_files(options.images)
            tiles = image_tiles(files, options.size, options.max_tiles)
            network.fit_statistics(tiles, network.layers)
            source = f"{len(files)} images"
        save_tensors(options.output, *network.to_state())
    except WsiAnomalyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.output}: {network.name} with statistics of {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The named set of images that filters are scaled by: photographs and textures.

    python -m wsi_anomaly.features.broad lite0 -o models/lite0-statistics.safetensors

writes the statistics that ship for a network's published weights. Networks with other weights,
random ones among them, are measured on the same images when they are first used.

The images are files of scikit-image and scikit-learn, which are installed anyway: portraits,
animals, streets, things, textures, print, sky, microscopy, a retina. No image of a set that the
project is judged on is among them, and no drawn slide.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsi_anomaly.core.errors import ModelError, UsageError, WsiAnomalyError
from wsi_anomaly.core.tensors import save_tensors
from wsi_anomaly.features.loading import load_features, network_spec, published_weights
from wsi_anomaly.features.weights import digest_of

NAME = "skimage-sklearn-22"
"""Name of the set, in the files that hold its statistics."""

SIZE = 224
SCALES = (1.0, 0.5)

IMAGES = {
    "skimage.data/astronaut.png": "88431cd9653ccd53",
    "skimage.data/brick.png": "7966caf324f6ba84",
    "skimage.data/camera.png": "b0793d2adda0fa6a",
    "skimage.data/cell.png": "8d23a7fb81f7cc87",
    "skimage.data/chelsea.png": "596aa1e7cb875eb7",
    "skimage.data/clock_motion.png": "f029226b28b642e8",
    "skimage.data/coffee.png": "cc02f8ca188b167c",
    "skimage.data/coins.png": "f8d773fc9cfa6f4d",
    "skimage.data/color.png": "7d2df993de2b4fa2",
    "skimage.data/grass.png": "b6b6022426b38936",
    "skimage.data/gravel.png": "c48615b451bf1e60",
    "skimage.data/horse.png": "c7fb60789fe394c4",
    "skimage.data/hubble_deep_field.jpg": "3a19c5dd8a927a93",
    "skimage.data/ihc.png": "f8dd1aa387ddd1f4",
    "skimage.data/moon.png": "78739619d11f7eb9",
    "skimage.data/motorcycle_left.png": "db18e9c415761740",
    "skimage.data/page.png": "341a6f0a61557662",
    "skimage.data/retina.jpg": "38a07f36f27f095e",
    "skimage.data/rocket.jpg": "c2dd0de7c538df8d",
    "skimage.data/text.png": "bd84aa3a6e3c9887",
    "sklearn.datasets.images/china.jpg": "8378025ad2519d64",
    "sklearn.datasets.images/flower.jpg": "a77f6ec41e353afd",
}
"""Package and file -> the first 16 digits of its SHA-256."""


def broad_files() -> list[Path]:
    """Paths of the set's images, each checked to be the very file.

    Raises
    ------
    ModelError
        The installed package lacks an image or has another one.
    """
    files = []
    for name, digest in IMAGES.items():
        package, _, file = name.partition("/")
        path = Path(str(resources.files(package).joinpath(file)))
        if not path.is_file() or not _digest(path).startswith(digest):
            raise ModelError(
                f"{path} is not the image of the set {NAME}; install the package's version that "
                "requirements.lock names."
            )
        files.append(path)
    return files


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def broad_tiles() -> Iterator[Tensor]:
    """Yield each image's tiles (N, 3, 224, 224), RGB in [-1, 1], at its full and at half its size.

    They lie on a grid that reaches from edge to edge; a smaller image is enlarged to one tile.
    """
    for file in broad_files():
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        for scale in SCALES:
            factor = max(scale, SIZE / min(image.size))
            width, height = (max(SIZE, round(side * factor)) for side in image.size)
            pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
            tiles = [
                pixels[y : y + SIZE, x : x + SIZE] for y in _starts(height) for x in _starts(width)
            ]
            yield torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _starts(side: int) -> list[int]:
    return [round(start) for start in np.linspace(0, side - SIZE, -(-side // SIZE))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m wsi_anomaly.features.broad",
        description=f"Measure the per-filter statistics of a network on the images of {NAME}.",
    )
    parser.add_argument("network")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    parser.add_argument("--feature-weights", type=Path, help="the network's weights")
    options = parser.parse_args(arguments)
    try:
        network = load_features(options.network, weights=options.feature_weights)
        spec = network_spec(options.network)
        if spec is None:
            raise UsageError("Statistics ship for networks of ours, not for timm's.")
        weights = published_weights(options.network, spec, options.feature_weights)
        network.fit_statistics(broad_tiles(), network.layers)
        tensors, _ = network.to_state()
        statistics = {key: value for key, value in tensors.items() if ".filter_" in key}
        about = {"network": network.name, "images": NAME, "weights": digest_of(weights)}
        save_tensors(options.output, statistics, about)
    except WsiAnomalyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.output}: statistics of {network.name} on {len(IMAGES)} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())

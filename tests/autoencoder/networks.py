"""A perceptual network small enough to work out by hand, and tiles to learn from."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wsi_anomaly.features.network import PerceptualNetwork, Stage
from wsi_anomaly.features.scaling import SYMMETRIC


def identity_network() -> PerceptualNetwork:
    """Layers ``a`` and ``b`` are the image itself, then the image halved; statistics 0 and 1."""
    network = PerceptualNetwork(
        "identity", [Stage("a", nn.Identity()), Stage("b", nn.AvgPool2d(2))], SYMMETRIC, "a"
    )
    for layer in network.layers:
        network.set_statistics(layer, torch.zeros(3), torch.ones(3))
    return network


def random_network(seed: int = 0) -> PerceptualNetwork:
    """Two convolutions with random weights; statistics from random tiles."""
    torch.manual_seed(seed)
    network = PerceptualNetwork(
        "tiny",
        [
            Stage("a", nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())),
            Stage("b", nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())),
        ],
        SYMMETRIC,
        "b",
    )
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    network.fit_statistics([images], network.layers)
    return network


def textured_tiles(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth pink texture, (count, size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.normal(0, 1, (count, size // 4, size // 4, 3))
    smooth = np.repeat(np.repeat(small, 4, 1), 4, 2)
    return np.clip((180, 90, 150) + 20 * smooth, 0, 255).astype(np.uint8)

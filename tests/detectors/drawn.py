"""A tiny network, and drawn tiles that are told apart by their pattern alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wsi_anomaly.features.network import PerceptualNetwork
from wsi_anomaly.features.network import Stage as Layer
from wsi_anomaly.features.scaling import SYMMETRIC

SIZE = 16


def network() -> PerceptualNetwork:
    torch.manual_seed(0)
    return PerceptualNetwork(
        "tiny",
        [
            Layer("a", nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())),
            Layer("b", nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU())),
        ],
        SYMMETRIC,
        "b",
        of_tissue=True,  # scaled by the drawn tiles, the only images that it knows
    )


def normal_tiles(count: int, seed: int = 0) -> np.ndarray:
    """Vertical stripes of a pinkish colour, faint noise."""
    rng = np.random.default_rng(seed)
    phase = rng.integers(0, 4, count)
    wave = np.sign(np.sin((np.arange(SIZE)[None] + phase[:, None]) * np.pi / 2 + 0.1))
    image = np.array([190, 110, 160]) + 30 * wave[:, None, :, None] * np.ones((1, SIZE, 1, 1))
    return np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)


def abnormal_tiles(count: int, seed: int = 0) -> np.ndarray:
    """The same colours in a coarse checkerboard."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIZE, SIZE))
    board = np.where((y // 4 + x // 4) % 2, 1, -1)[None, :, :, None]
    image = np.array([190, 110, 160]) + 30 * board
    return np.clip(image + rng.normal(0, 5, (count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)

"""Residual blocks of the autoencoder: pre-activation, LeakyReLU 0.2, no normalisation layers.

Shvetsova et al. 2021, section III, as published with the paper's configurations.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution with bias and zero padding: same height and width."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _skip(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)


class Activation(nn.LeakyReLU):
    """LeakyReLU with the slope of the paper."""

    def __init__(self) -> None:
        super().__init__(SLOPE)


class Block(nn.Module):
    """Two activated 3x3 convolutions plus the identity (1x1 convolution when widths differ)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Activation(), conv3(inputs, outputs), Activation(), conv3(outputs, outputs)
        )
        self.skip = _skip(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h, w)."""
        y: Tensor = self.branch(x) + self.skip(x)
        return y


class Down(nn.Module):
    """A block that halves height and width; both paths average 2x2 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Activation(),
            nn.AvgPool2d(2),
            conv3(inputs, outputs),
            Activation(),
            conv3(outputs, outputs),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), _skip(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h/2, w/2)."""
        y: Tensor = self.branch(x) + self.skip(x)
        return y


class Up(nn.Module):
    """A block that doubles height and width by repeating pixels, on both paths."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Activation(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            conv3(inputs, outputs),
            Activation(),
            conv3(outputs, outputs),
        )
        # A 1x1 convolution and pixel repetition commute; before it, the convolution costs less.
        self.skip = nn.Sequential(
            _skip(inputs, outputs), nn.Upsample(scale_factor=2, mode="nearest")
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, 2h, 2w)."""
        y: Tensor = self.branch(x) + self.skip(x)
        return y


def halve(images: Tensor) -> Tensor:
    """Mean of each 2x2 pixels."""
    return F.avg_pool2d(images, 2)


def double(images: Tensor) -> Tensor:
    """Each pixel repeated 2x2."""
    return F.interpolate(images, scale_factor=2, mode="nearest")


def initialise(module: nn.Module) -> None:
    """Kaiming normal weights, fan-out, for LeakyReLU 0.2; biases keep torch's default."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, a=SLOPE, mode="fan_out")

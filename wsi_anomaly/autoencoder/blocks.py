"""Residual blocks of the autoencoder: pre-activation, LeakyReLU 0.2, no normalisation layers.

Shvetsova et al. 2021, section III, as published with the paper's configurations.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.autoencoder import few_channels

SLOPE = 0.2

Alpha = float | Tensor
"""Share of the new path: a number, or a tensor () that only its device knows."""


def blends(alpha: Alpha) -> bool:
    """Whether the old path is computed. A tensor is not asked: that would wait for its device."""
    return isinstance(alpha, Tensor) or alpha < 1


class Conv3(nn.Conv2d):
    """3x3 convolution with bias and zero padding: same height and width."""

    fused = False  # see `fuse`

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h, w)."""
        if self.fused and few_channels.can_run(x, self):
            return few_channels.run_single(x, self)
        return super().forward(x)


class Residual(nn.Module):
    """What the three blocks below share: a branch with two convolutions, plus a skip.

    Attributes
    ----------
    branch, skip : nn.Module
        Both from the same input; their sum is the output.
    resample : int
        What both do to height and width: ``SAME``, ``HALF`` or ``DOUBLE`` of the module narrow.
    """

    fused = False  # see `fuse`
    resample = few_channels.SAME
    branch: nn.Sequential
    skip: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h', w')."""
        first, second = (c for c in self.branch if isinstance(c, Conv3))
        if not (self.fused and few_channels.can_run(x, first, second, resample=self.resample)):
            y: Tensor = self.branch(x) + self.skip(x)
            return y
        plain = first.in_channels == second.out_channels
        y = few_channels.run_block(x, first, second, SLOPE, self.resample, skip=plain)
        return y if plain else y + self.skip(x)


def fuse(module: nn.Module) -> None:
    """Let narrow blocks and convolutions inside `module` run in one pass on a CPU.

    Not for a network whose gradient is differentiated again, as a critic's is.
    """
    for child in module.modules():
        if isinstance(child, Conv3 | Residual):
            child.fused = True


def _skip(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)


class Activation(nn.LeakyReLU):
    """LeakyReLU with the slope of the paper."""

    def __init__(self) -> None:
        super().__init__(SLOPE)


class Block(Residual):
    """Two activated 3x3 convolutions plus the identity (1x1 convolution when widths differ)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Activation(), Conv3(inputs, outputs), Activation(), Conv3(outputs, outputs)
        )
        self.skip = _skip(inputs, outputs)


class Down(Residual):
    """A block that halves height and width; both paths average 2x2 pixels."""

    resample = few_channels.HALF

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Activation(),
            nn.AvgPool2d(2),
            Conv3(inputs, outputs),
            Activation(),
            Conv3(outputs, outputs),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), _skip(inputs, outputs))


class Up(Residual):
    """A block that doubles height and width by repeating pixels, on both paths."""

    resample = few_channels.DOUBLE

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Activation(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            Conv3(inputs, outputs),
            Activation(),
            Conv3(outputs, outputs),
        )
        # A 1x1 convolution and pixel repetition commute; before it, the convolution costs less.
        self.skip = nn.Sequential(
            _skip(inputs, outputs), nn.Upsample(scale_factor=2, mode="nearest")
        )


def halve(images: Tensor) -> Tensor:
    """Mean of each 2x2 pixels: (N, C, H, W) to (N, C, H/2, W/2)."""
    return F.avg_pool2d(images, 2)


def double(images: Tensor) -> Tensor:
    """Each pixel repeated 2x2: (N, C, H, W) to (N, C, 2H, 2W)."""
    return F.interpolate(images, scale_factor=2, mode="nearest")


def initialise(module: nn.Module) -> None:
    """Kaiming normal weights, fan-out, for LeakyReLU 0.2; biases keep torch's default."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, a=SLOPE, mode="fan_out")

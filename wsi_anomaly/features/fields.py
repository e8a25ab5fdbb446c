"""What a position of a layer sees: the receptive field, stated by arithmetic over the layers.

Only networks whose positions see a finite square and nothing else have one: chains of convolutions,
poolings and activations. Attention, squeeze-and-excitation and group norm see the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Field:
    """Position i of a layer sees the pixels from ``start + i * stride``, ``size`` of them.

    The same along both axes; before the image's first pixel counts below zero.
    """

    size: int = 1
    stride: int = 1
    start: int = 0

    def after(self, kernel: int, stride: int, pad: int) -> Field:
        """Field after one more convolution or pooling, `pad` zeros before its first position."""
        return Field(
            self.size + (kernel - 1) * self.stride,
            self.stride * stride,
            self.start - pad * self.stride,
        )

    def seen_from(self, before: Field) -> Field:
        """Return the same field in positions of a layer `before` instead of pixels."""
        return Field(
            (self.size - before.size) // before.stride + 1,
            self.stride // before.stride,
            (self.start - before.start) // before.stride,
        )

    def input_of(self, first: int, last: int) -> tuple[int, int]:
        """Range of what the positions `first` to `last` (left out) see."""
        begin = self.start + first * self.stride
        return begin, begin + (last - 1 - first) * self.stride + self.size

    @property
    def shift(self) -> int:
        """Pixels from the middle of a cell, one stride wide, to the middle of what is seen."""
        return self.start + (self.size - self.stride) // 2


class _Stage(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def modules(self) -> nn.Module: ...


class PaddedConv(nn.Conv2d):
    """Convolution that pads by itself: `left` zeros before and `right` after, on both axes."""

    left: int
    right: int


class Chain(nn.Module):
    """Part of a network whose convolutions act one after the other, in the order of its children.

    What it adds to their output, it crops to that size: it also runs where nothing is padded.
    """


_PASSIVE = (nn.ReLU, nn.ReLU6, nn.Identity)


def windows(module: nn.Module) -> list[nn.Conv2d | nn.MaxPool2d] | None:
    """Convolutions and poolings below `module` in order, or None where there is more than those."""
    if type(module) in _PASSIVE:
        return []
    if isinstance(module, nn.Conv2d | nn.MaxPool2d):
        known = type(module) in (nn.Conv2d, nn.MaxPool2d) or isinstance(module, PaddedConv)
        return [module] if known and module.dilation in (1, (1, 1)) else None
    if type(module) is not nn.Sequential and not isinstance(module, Chain):
        return None
    found: list[nn.Conv2d | nn.MaxPool2d] = []
    for child in module.children():
        below = windows(child)
        if below is None:
            return None
        found += below
    return found


def stated_fields(stages: Sequence[_Stage]) -> dict[str, Field] | None:
    """Field of each stage's output by name; None for a network without finite fields."""
    field, by_name = Field(), {}
    for stage in stages:
        found = windows(stage.modules)
        if found is None:
            return None
        for window in found:
            kernel, stride, pad = (
                value if isinstance(value, int) else int(value[0])
                for value in (window.kernel_size, window.stride, left_pad(window))
            )
            field = field.after(kernel, stride, pad)
        by_name[stage.name] = field
    return by_name


def left_pad(window: nn.Conv2d | nn.MaxPool2d) -> int:
    """Zeros before the first position."""
    if isinstance(window, PaddedConv):
        return window.left
    return int(window.padding if isinstance(window.padding, int) else window.padding[0])


def unpad(module: nn.Module) -> None:
    """Take all zero padding out, in place: positions whose field leaves the input are not made."""
    for window in module.modules():
        if isinstance(window, nn.Conv2d | nn.MaxPool2d):
            window.padding = (0, 0)
        if isinstance(window, PaddedConv):
            window.left = window.right = 0


def cropped(x: Tensor, like: Tensor) -> Tensor:
    """Middle of `x` (N, C, h, w), of the height and width of `like`."""
    if x.shape[2:] == like.shape[2:]:
        return x
    top, left = ((a - b) // 2 for a, b in zip(x.shape[2:], like.shape[2:], strict=True))
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]

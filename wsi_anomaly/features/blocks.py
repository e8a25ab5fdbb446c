"""Parts of an image and of its maps, for :mod:`wsi_anomaly.features.dense`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Read = Callable[[int, int, int, int], NDArray[np.uint8]]
"""``read(x, y, width, height)`` gives RGB (height, width, 3) of a part that lies inside."""

Span = tuple[int, int]
"""First and last (left out) along an axis."""


def cuts(span: Span, most: int) -> list[Span]:
    """Cut a span into as few parts of nearly equal length as keep within `most`."""
    first, last = span
    count = -(-(last - first) // most)
    edges = [first + (last - first) * k // count for k in range(count + 1)] if count else []
    return list(pairwise(edges))


def cells(pixels: Span, side: int, stride: int) -> Span:
    """Cells, `stride` wide, of an image of `side` px that `pixels` touch, along one axis."""
    last = min(-(-side // stride), -(-pixels[1] // stride))
    return max(0, pixels[0] // stride), last


@dataclass(frozen=True)
class Image:
    """An image that is read in parts; outside it lies its background."""

    read: Read
    width: int
    height: int
    background: tuple[int, int, int]

    def block(self, rows: Span, columns: Span) -> NDArray[np.uint8]:
        """Pixels (H, W, 3) of a rectangle, which may reach outside or lie there."""
        shape = (rows[1] - rows[0], columns[1] - columns[0], 3)
        top, bottom = (min(max(y, 0), self.height) for y in rows)
        left, right = (min(max(x, 0), self.width) for x in columns)
        if top == bottom or left == right:
            return np.broadcast_to(np.array(self.background, np.uint8), shape).copy()
        inside = self.read(left, top, right - left, bottom - top)
        if inside.shape == shape:
            return inside
        pixels = np.broadcast_to(np.array(self.background, np.uint8), shape).copy()
        pixels[top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]] = inside
        return pixels


class Mask:
    """What of an image counts: boolean (rows, columns) of cells `stride` wide.

    Parameters
    ----------
    mask : array of bool
    stride : int
        Side of its cells, px.
    width, height : int
        Of the image, px: cells at its right and lower edge count by the part inside.
    """

    def __init__(self, mask: NDArray[np.bool_], stride: int, width: int, height: int) -> None:
        self._mask, self._stride, self._size = mask, stride, (height, width)
        self._sums = np.pad(mask.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))

    def touches(self, rows: Span, columns: Span) -> bool:
        """Whether anything within these pixels counts."""
        (a, b), (c, d) = (
            (min(max(span[0] // self._stride, 0), most), min(-(-span[1] // self._stride), most))
            for span, most in zip((rows, columns), self._mask.shape, strict=True)
        )
        if a >= b or c >= d:
            return False
        sums = self._sums
        return bool(sums[b, d] - sums[a, d] - sums[b, c] + sums[a, c])

    def shares(self, rows: Span, columns: Span, stride: int) -> Tensor:
        """Share (h, w) of each cell, `stride` wide, that counts; float32, 0 to 1.

        `stride` is a multiple of the mask's own.
        """
        times = stride // self._stride
        part: NDArray[np.float64] = self._mask[
            rows[0] * times : rows[1] * times, columns[0] * times : columns[1] * times
        ].astype(np.float64)
        missing = (
            (rows[1] - rows[0]) * times - part.shape[0],
            (columns[1] - columns[0]) * times - part.shape[1],
        )
        part = np.pad(part, ((0, missing[0]), (0, missing[1])))
        for axis, (first, last) in enumerate((rows, columns)):
            edges = np.arange(first * times, last * times + 1) * self._stride
            inside = np.diff(np.minimum(edges, self._size[axis])) / self._stride
            part *= np.expand_dims(inside, 1 - axis)
        blocks = part.reshape(rows[1] - rows[0], times, columns[1] - columns[0], times)
        return torch.from_numpy(blocks.mean((1, 3)).astype(np.float32))


@dataclass(frozen=True)
class MapPart:
    """Part of a layer's map, from position (`row`, `column`) of the whole on.

    `values` is (1, C, h, w), channels last.
    """

    row: int
    column: int
    values: Tensor

    def part(self, rows: Span, columns: Span) -> Tensor:
        """Positions (1, C, H, W) of these rows and columns of the whole map, as a view."""
        return self.values[
            :, :, rows[0] - self.row : rows[1] - self.row,
            columns[0] - self.column : columns[1] - self.column,
        ]  # fmt: skip

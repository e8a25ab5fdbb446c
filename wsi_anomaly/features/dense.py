"""Maps of a network over a whole image: the network runs once, fields are pooled from its maps.

A field of 256 px every 64 px covers each pixel sixteen times; computed one by one, sixteen times
the work. Here every position of a layer is computed once, in strips of the image, and stands for
its cell: the square, one stride wide, in whose middle the pixels that it sees are centred.

*Exact.* Nothing is padded: each part of a map is computed from all pixels that it sees, so a
position has the same value however the image is cut. Outside the image lies its background.

*Small.* The image goes through in strips, cut into bands where it is wide. Of each strip a few maps
are kept at layers that hold no more numbers than the strip has pixels (the ends of *segments*);
what lies between is computed in tiles that fit a processor's cache. Rows of a map that the next
strip needs too are kept, not computed again. Memory grows with the band's width, never with the
image: docs/method.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.blocks import Image, MapPart, Mask, Read, Span, cells, cuts
from wsi_anomaly.features.fields import Field, unpad, windows
from wsi_anomaly.features.network import PerceptualNetwork

STRIP, BAND = 1024, 16384
"""Largest height of a strip and largest width of a band, px."""

_LEAST_STRIP, _STRIP_AREA = 256, 2**21

_READ_PX = 2048
_TILE_PX, _TILE_POSITIONS = 640, 144
"""Side of what one pass of a segment takes in: pixels, or positions of the layer before."""


@dataclass(frozen=True)
class LayerMap:
    """Part of a layer's map.

    Attributes
    ----------
    values : Tensor (C, h, w)
        Raw activations, in the network's precision.
    row, column : int
        Place of the first position in the map of the whole image.
    stride : int
        Side of a position's cell, px.
    weights : Tensor (h, w)
        Share of each cell that counts: inside the image and of the mask, 0 to 1, float32.
    """

    values: Tensor
    row: int
    column: int
    stride: int
    weights: Tensor


@dataclass(frozen=True)
class Strip:
    """A rectangle of the image (px; right and bottom left out) and the maps round it, by layer."""

    left: int
    top: int
    right: int
    bottom: int
    maps: Mapping[str, LayerMap]


@dataclass(frozen=True)
class _Segment:
    """Stages that run in one go, unpadded; `local` is their field in what the last one gave."""

    layer: str
    modules: nn.Module
    field: Field
    local: Field
    channels: int
    tile: int  # positions of the output along each side

    def input_of(self, rows: Span, columns: Span, part: Callable[[Span, Span], Tensor]) -> Tensor:
        """Input (1, C, h, w) of a tile of the output, of what ``part(rows, columns)`` gives."""
        found = part(self.local.input_of(*rows), self.local.input_of(*columns))
        return found.contiguous(memory_format=torch.channels_last)


Run = Callable[[nn.Module, Tensor], Tensor]
"""``run(modules, part)`` gives ``modules(part)``, at most with more at its right and below."""


def _run(modules: nn.Module, part: Tensor) -> Tensor:
    found: Tensor = modules(part)
    return found


class DenseMaps:
    """Runs a network over images of any size.

    Parameters
    ----------
    network : PerceptualNetwork
        One with finite fields; in its precision and on its device.
    layers : sequence of str
        Layers whose maps are wanted.
    run : callable
        Runs some of its modules on a part.

    Attributes
    ----------
    stride : int
        Smallest stride among `layers`, px: the resolution of masks.
    margin : int
        How far from its cell a position of the deepest layer sees, px.

    Raises
    ------
    ModelError
        The network sees whole images only, or lacks a layer.
    """

    def __init__(self, network: PerceptualNetwork, layers: Sequence[str], run: Run = _run) -> None:
        network.check_layers(layers)
        fields = network.fields
        if fields is None:
            raise ModelError(
                f"The network {network.name} states no finite field: it looks at one tile at a "
                "time; choose lite0, compact, vgg16 or vgg19 to score large blocks."
            )
        self.network = network
        self.layers = tuple(name for name in network.layers if name in layers)
        self._fields = {name: fields[name] for name in self.layers}
        self._deepest = fields[self.layers[-1]]
        self.stride = min(field.stride for field in self._fields.values())
        self.margin = -(-(self._deepest.size - self._deepest.stride) // 2)
        self._device = next(network.parameters()).device
        self._run = run

    @cached_property
    def _segments(self) -> list[_Segment]:
        """Copies of the stages, made when they are to run: who asks another process has none."""
        fields = self.network.fields
        assert fields is not None
        segments: list[_Segment] = []
        modules, before, channels = nn.Sequential(), Field(), 3
        for name in self.network.layers[: self.network.layers.index(self.layers[-1]) + 1]:
            stage = self.network.stages[name]
            modules.append(deepcopy(stage))
            convolutions = [w for w in windows(stage) or () if isinstance(w, nn.Conv2d)]
            channels = convolutions[-1].out_channels if convolutions else channels
            field = fields[name]
            if name in self.layers or channels <= field.stride**2:
                unpad(modules)
                # Else each pass would bring its input to the weights' order.
                modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                local = field.seen_from(before)
                side = _TILE_POSITIONS if segments else _TILE_PX
                tile = max(8, (side - local.size) // local.stride + 1)
                segments.append(_Segment(name, modules, field, local, channels, tile))
                modules, before = nn.Sequential(), field
        return segments

    @torch.inference_mode()
    def strips(
        self,
        read: Read,
        width: int,
        height: int,
        *,
        background: tuple[int, int, int],
        mask: NDArray[np.bool_] | None = None,
        halo: int = 0,
        strip: int | None = None,
        band: int = BAND,
    ) -> Iterator[Strip]:
        """Yield the maps of an image, rectangle by rectangle; together these cover the image.

        Parameters
        ----------
        read
            Gives pixels of the image; asked for each about once, up to some 2100 px a side.
        width, height
            Of the image, px.
        background
            RGB of what lies outside the image.
        mask
            (rows, columns), rows = ceil(height / :attr:`stride`): what counts.
            Where nothing that counts is in reach nothing is computed, and the maps hold zeros.
        halo
            The maps reach so far beyond each rectangle, px, as far as the image does.
        strip, band
            Height and largest width of a rectangle, px. The height that is left out is that of
            :data:`STRIP`, less where the image is wide: memory hardly grows with the width.

        Raises
        ------
        ModelError
            The mask has another shape.
        """
        shape = (-(-height // self.stride), -(-width // self.stride))
        if mask is not None and mask.shape != shape:
            raise ModelError(f"The mask is {mask.shape}, not {shape} as the image's maps.")
        counts = Mask(np.ones(shape, bool) if mask is None else mask, self.stride, width, height)
        image = Image(read, width, height, background)
        if strip is None:
            strip = min(STRIP, max(_LEAST_STRIP, _STRIP_AREA // width // 64 * 64))
        for left, right in cuts((0, width), band):
            beside = (left - halo, right + halo)
            columns = self._needed(beside, width)
            kept: dict[str, MapPart] = {}
            for top, bottom in cuts((0, height), strip):
                around = (top - halo, bottom + halo)
                self._advance(image, kept, self._needed(around, height), columns, counts)
                maps = {}
                for name, field in self._fields.items():
                    ys = cells(around, height, field.stride)
                    xs = cells(beside, width, field.stride)
                    values = kept[name].part(ys, xs)[0]
                    weights = counts.shares(ys, xs, field.stride).to(values.device)
                    maps[name] = LayerMap(values, ys[0], xs[0], field.stride, weights)
                yield Strip(left, top, right, bottom, maps)

    def _needed(self, pixels: Span, side: int) -> list[Span]:
        """Positions of each segment's output that `pixels` of the image need, along one axis."""
        needed: list[Span] = []
        after: Span | None = None
        for segment in reversed(self._segments):
            spans = [after] if after else []
            if segment.layer in self.layers:
                spans.append(cells(pixels, side, segment.field.stride))
            span = min(first for first, _ in spans), max(last for _, last in spans)
            needed.insert(0, span)
            after = segment.local.input_of(*span)
        return needed

    def _advance(
        self, image: Image, kept: dict[str, MapPart], rows: list[Span], columns: list[Span],
        counts: Mask,
    ) -> None:  # fmt: skip
        """Bring the kept part of every segment's map from the last strip to this one."""
        source: MapPart | None = None
        for segment, (first, last), across in zip(self._segments, rows, columns, strict=True):
            old = kept.get(segment.layer)
            begin = first if old is None else max(first, old.row + old.values.shape[2])
            values = self._computed(segment, (begin, last), across, source or image, counts)
            if old is not None and begin > first:
                values = torch.cat([old.part((first, begin), across), values], 2)
            source = MapPart(first, across[0], values)
            kept[segment.layer] = source

    def _computed(
        self, segment: _Segment, rows: Span, columns: Span, source: MapPart | Image, counts: Mask
    ) -> Tensor:
        """Rows and columns of a segment's output (1, C, h, w) from what was before it."""
        out = torch.zeros(
            (1, segment.channels, rows[1] - rows[0], columns[1] - columns[0]),
            dtype=self.network.precision, device=self._device,
        ).to(memory_format=torch.channels_last)  # fmt: skip
        target = MapPart(rows[0], columns[0], out)
        group = max(1, _READ_PX // (segment.tile * segment.field.stride)) * segment.tile
        for ys in cuts(rows, group):
            for xs in cuts(columns, group):
                tiles = [
                    (y, x)
                    for y in cuts(ys, segment.tile)
                    for x in cuts(xs, segment.tile)
                    if counts.touches(*(self._reached(segment.field, span) for span in (y, x)))
                ]
                if not tiles:
                    continue
                part = (
                    source.part
                    if isinstance(source, MapPart)
                    else self._pixels(
                        source, segment.local.input_of(*ys), segment.local.input_of(*xs)
                    )
                )
                for y, x in tiles:
                    place = target.part(y, x)
                    found = self._run(segment.modules, segment.input_of(y, x, part))
                    place.copy_(found[:, :, : place.shape[2], : place.shape[3]])
        return out

    def _reached(self, field: Field, span: Span) -> Span:
        """Pixels of the image whose cells, at any deeper layer, may see these positions."""
        reach = (self._deepest.size - field.size) // 2 + 2 * self._deepest.stride
        return span[0] * field.stride - reach, span[1] * field.stride + reach

    def _pixels(self, image: Image, rows: Span, columns: Span) -> Callable[[Span, Span], Tensor]:
        """Read a rectangle; return what gives parts of it as the first layer wants them.

        The network's pixel 0 is the image's -shift.
        """
        shift = self._deepest.shift
        pixels = image.block(
            (rows[0] - shift, rows[1] - shift), (columns[0] - shift, columns[1] - shift)
        )
        there = torch.from_numpy(pixels).to(self._device)
        block = MapPart(rows[0], columns[0], there.permute(2, 0, 1)[None])
        scaling = self.network.scaling
        factor = torch.tensor([1 / (255 * std) for std in scaling.std], device=self._device)
        offset = torch.tensor(
            [-mean / std for mean, std in zip(scaling.mean, scaling.std, strict=True)],
            device=self._device,
        )

        def part(ys: Span, xs: Span) -> Tensor:
            x = block.part(ys, xs).permute(0, 2, 3, 1).float()
            x = torch.addcmul(offset, x.flip(3) if scaling.bgr else x, factor)
            return x.to(self.network.precision).permute(0, 3, 1, 2)

        return part

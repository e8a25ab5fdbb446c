"""Fields of any size on any grid, pooled from maps that a network made once.

A field's place is its *cell*: a square as wide as the grid's step, in whose middle the field lies.
Each position of a map counts by how much of its own cell lies inside the field, and by how much of
that is tissue; so sizes and steps need not be multiples of the stride.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.features.blocks import Read, cuts
from wsi_anomaly.features.dense import DenseMaps, LayerMap

_COLUMNS = 32  # cells that are pooled at once: few positions lie beyond what they need


@dataclass(frozen=True)
class PooledFields:
    """Fields of a rectangle of cells.

    Attributes
    ----------
    row, column : int
        First cell, on the grid of the whole image.
    embeddings : dict of int to array (rows, columns, D)
        By size of the field, px: means of the layers' normalised filters, shallow to deep, float32;
        with deviations, each layer's after its means. NaN where nothing of the field counts.
    shares : dict of int to array (rows, columns)
        How much of each field counts, 0 to 1, float32: what lies outside the image does not.
    """

    row: int
    column: int
    embeddings: Mapping[int, NDArray[np.float32]]
    shares: Mapping[int, NDArray[np.float32]]


def pooled_fields(
    maps: DenseMaps,
    read: Read,
    width: int,
    height: int,
    *,
    background: tuple[int, int, int],
    sizes: Sequence[int],
    step: int,
    mask: NDArray[np.bool_] | None = None,
    deviations: bool = False,
    strip: int | None = None,
) -> Iterator[PooledFields]:
    """Yield all fields of an image: one of each size for every cell, rectangle by rectangle.

    Parameters
    ----------
    maps
        The network and its layers.
    read, width, height, background, mask, strip
        See :meth:`DenseMaps.strips`; the mask is (rows, columns) of its stride.
    sizes
        Sides of the fields, px.
    step
        Side of a cell, px; the grid has ceil(height / step) rows and ceil(width / step) columns.
    deviations
        Give each filter's standard deviation over the field too.
    """
    halo = max(sizes) // 2 + step
    for part in maps.strips(
        read, width, height, background=background, mask=mask, halo=halo, strip=strip
    ):
        rows, columns = (
            np.arange(-(-first // step), -(-last // step))
            for first, last in ((part.top, part.bottom), (part.left, part.right))
        )
        if not len(rows) or not len(columns):
            continue
        embeddings, shares = {}, {}
        for size in sizes:
            found = []
            for name, layer in part.maps.items():
                mean, spread = maps.network.statistics(name)
                means, share = pool(layer, rows, columns, size, step)
                found.append((means - mean) / spread)
                if deviations:
                    squared = replace(layer, values=layer.values.float().square())
                    squares, _ = pool(squared, rows, columns, size, step)
                    found.append((squares - means.square()).clamp_min(0).sqrt() / spread)
            embeddings[size] = torch.cat(found, 2).cpu().numpy()
            shares[size] = share.cpu().numpy()
        yield PooledFields(int(rows[0]), int(columns[0]), embeddings, shares)


@torch.inference_mode()
def pool(
    layer: LayerMap, rows: NDArray[np.int_], columns: NDArray[np.int_], size: int, step: int
) -> tuple[Tensor, Tensor]:
    """Means of fields over a layer's map.

    Parameters
    ----------
    layer
        The map; fields that reach beyond it are pooled from the part inside.
    rows, columns
        Cells in whose middle the fields lie.
    size, step
        Side of a field and of a cell, px.

    Returns
    -------
    means : Tensor (rows, columns, C)
        Float32, raw activations; NaN where nothing counts.
    shares : Tensor (rows, columns)
        How much of each field counts, 0 to 1.
    """
    values = layer.values.permute(1, 2, 0)
    down = _inside(rows, size, step, layer.row, values.shape[0], layer.stride).to(values.device)
    across = _inside(columns, size, step, layer.column, values.shape[1], layer.stride)
    across = across.to(values.device)
    means, shares = [], []
    for first, last in cuts((0, len(columns)), _COLUMNS):
        used = across[first:last].any(0).nonzero()
        begin, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        inside, weights = across[first:last, begin:end], layer.weights[:, begin:end]
        weighted = values[:, begin:end].float() * weights[..., None]
        total = torch.tensordot(down, torch.matmul(inside, weighted), 1)
        count = down @ weights @ inside.T
        means.append(total / count[..., None])
        shares.append(count / size**2)
    return torch.cat(means, 1), torch.cat(shares, 1)


def _inside(
    places: NDArray[np.int_], size: int, step: int, first: int, count: int, stride: int
) -> Tensor:
    """How many pixels of each of `count` cells of a map lie inside each field, along one axis."""
    low = (places * step + (step - size) / 2)[:, None]
    edges = (first + np.arange(count + 1)) * stride
    inside = np.minimum(edges[1:], low + size) - np.maximum(edges[:-1], low)
    return torch.from_numpy(inside.clip(0).astype(np.float32))

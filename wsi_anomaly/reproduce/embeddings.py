"""Pooled features of tiles that come back in many divisions."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.detectors import Density
from wsi_anomaly.detectors.base import batches, device_of
from wsi_anomaly.learning.batches import to_images


class Embeddings:
    """Embeddings of tiles; each is computed once, however often its tile comes back.

    Parameters
    ----------
    density
        Its network and its layers make the embeddings; need not be fitted.
    """

    def __init__(self, density: Density) -> None:
        self._density = density
        self._rows: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def of(self, tiles: NDArray[np.uint8]) -> Tensor:
        """Embed tiles (N, S, S, 3), N at least 1: (N, D) float32 on the CPU."""
        density = self._density
        device = device_of(density.features)
        keys = [blake2b(tile.tobytes(), digest_size=16).digest() for tile in tiles]
        new = {key: place for place, key in enumerate(keys) if key not in self._rows}
        for part in batches(np.fromiter(new.values(), np.intp)):
            truth = density.features(to_images(tiles[part], device), density.layers)
            rows = density.embed(truth).float().cpu()
            self._rows.update(zip((keys[place] for place in part), rows, strict=True))
        return torch.stack([self._rows[key] for key in keys])

"""``deep-if``: an isolation forest over pooled features of a pretrained network.

Ouardini et al., "Towards practical unsupervised anomaly detection on retinal images", DART 2019,
as compared in Shvetsova et al. 2021: each layer's activations are averaged over positions, and
scikit-learn's isolation forest with its default settings judges them. It trains no network.

Neighbours: ``density`` takes the same embedding and measures a distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from wsi_anomaly.autoencoder.batches import Tiles, to_images
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors.base import (
    Detector,
    Fitting,
    State,
    batches,
    device_of,
    fit_missing_statistics,
    sample_images,
)
from wsi_anomaly.detectors.compared.base import Compared
from wsi_anomaly.detectors.compared.forest import IsolationTrees
from wsi_anomaly.detectors.compared.settings import Settings
from wsi_anomaly.features import PerceptualNetwork


@dataclass(frozen=True, kw_only=True)
class DeepIfConfig(Settings):
    """Everything that decides what ``deep-if`` learns; the defaults are scikit-learn's.

    Attributes
    ----------
    layers
        Layers of the perceptual network whose averages make the embedding.
    trees
        Number of trees.
    samples
        Tiles, at most, that each tree is grown on.
    most_tiles
        At most so many tiles are looked at.
    """

    layers: tuple[str, ...]
    trees: int = 100
    samples: int = 256
    most_tiles: int = 50_000

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("deep-if needs at least one layer of the perceptual network.")
        self._positive("trees", "samples", "most_tiles")


class DeepIf(Compared):
    """An isolation forest over pooled features.

    Parameters
    ----------
    features : PerceptualNetwork
    config : DeepIfConfig

    Attributes
    ----------
    trees_ : IsolationTrees
    """

    name = "deep-if"
    config_type = DeepIfConfig
    config: DeepIfConfig

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that make the embedding."""
        return self.config.layers

    def embed(self, truth: Mapping[str, Tensor]) -> Tensor:
        """Average normalised activations over positions: (N, D) float32."""
        return torch.cat([truth[name].mean((2, 3)) for name in self.layers], 1).float()

    @torch.no_grad()
    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Grow the trees; see :meth:`Detector.fit`."""
        device = fitting.device if fitting else device_of(self.features)
        fit_missing_statistics(self.features, tiles, self.layers)
        images = sample_images(tiles, self.config.most_tiles, self.config.seed)
        if len(images) < 2:
            raise ModelError("One tile is too few for an isolation forest; give more tiles.")
        found = torch.cat(
            [
                self.embed(self.features(to_images(b, device), self.layers)).cpu()
                for b in batches(images)
            ]
        )
        samples = min(self.config.samples, len(images))
        self.trees_ = IsolationTrees.grow(
            found.numpy(), self.config.trees, samples, self.config.seed
        )
        return self.to(device)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Scores in (0, 1): 0.5 is what a tile like all others gets."""
        scores: Tensor = self.trees_.score(self.embed(truth))
        return scores

    def to(self, device: torch.device | str) -> Self:
        """Move the trees."""
        self.trees_.to(device)
        return self

    def to_state(self) -> State:
        """Give the trees as arrays, and the configuration."""
        arrays = {name: a.cpu().contiguous() for name, a in self.trees_.arrays.items()}
        return arrays, self.config.to_dict() | {"grown_on": self.trees_.samples}

    @classmethod
    def from_state(
        cls,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        features: PerceptualNetwork,
        others: Mapping[str, Detector],
    ) -> Self:
        """Rebuild the detector; see :meth:`Detector.from_state`."""
        value = dict(config)
        samples = int(value.pop("grown_on"))
        detector = cls(features, DeepIfConfig.from_dict(value))
        detector.trees_ = IsolationTrees(tensors, samples)
        return detector

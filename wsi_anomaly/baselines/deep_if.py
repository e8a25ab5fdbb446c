"""``deep-if``: an isolation forest over pooled features of a pretrained network.

Ouardini et al., "Towards practical unsupervised anomaly detection on retinal images", DART 2019,
as compared in Shvetsova et al. 2021: each layer's activations are averaged over positions, and
scikit-learn's isolation forest with its default settings judges them. It trains no network.

Neighbours: ``density`` takes the same embedding and measures a distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from wsi_anomaly.baselines.forest import IsolationTrees
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors.base import DETECTORS, Detector, Fitting, device_of
from wsi_anomaly.detectors.settings import Settings
from wsi_anomaly.learning.batches import Tiles


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


@DETECTORS.register("deep-if")
class DeepIf(Detector):
    """An isolation forest over pooled features.

    Parameters
    ----------
    features : PerceptualNetwork
    config : DeepIfConfig

    Attributes
    ----------
    trees_ : IsolationTrees
    grown_on_ : int
        Number of tiles that each tree was grown on.
    """

    facts = ("grown_on",)
    config_type = DeepIfConfig
    config: DeepIfConfig

    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Grow the trees; see :meth:`Detector.fit`."""
        device = fitting.device if fitting else device_of(self.features)
        found = self.embed_tiles(tiles, self.config.most_tiles, self.config.seed)
        if len(found) < 2:
            raise ModelError("One tile is too few for an isolation forest; give more tiles.")
        self.grown_on_ = min(self.config.samples, len(found))
        self.trees_ = IsolationTrees.grow(
            found.numpy(), self.config.trees, self.grown_on_, self.config.seed
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

    def learned(self) -> Mapping[str, Tensor]:
        """Give the trees as arrays."""
        return self.trees_.arrays

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the trees; see :meth:`Detector.restore`."""
        self.grown_on_ = int(self.grown_on_)
        self.trees_ = IsolationTrees(tensors, self.grown_on_)

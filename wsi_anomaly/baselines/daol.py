"""``daol``: deep adversarial one-class learning, an autoencoder with an encoder at each end.

Tang et al., "Abnormal Chest X-ray Identification with Generative Adversarial One-Class
Classifier", ISBI 2019. Three networks compete and collaborate: an autoencoder rebuilds normal
images, a discriminator tells rebuilt from real, an encoder brings the rebuilt image back to its
vector. What is rebuilt badly is abnormal.

There is no public code. This is the design that the paper describes, with the networks and
weights of ``ganomaly``; that and the score are choices of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.baselines.ganomaly import (
    EncodeDecodeEncode,
    Ganomaly,
    GanomalyConfig,
)
from wsi_anomaly.baselines.learner import Learner
from wsi_anomaly.baselines.networks import fooling_loss
from wsi_anomaly.detectors.base import DETECTORS
from wsi_anomaly.learning.batches import Tiles


@dataclass(frozen=True, kw_only=True)
class DaolConfig(GanomalyConfig):
    """Everything that decides what ``daol`` learns; see :class:`GanomalyConfig`."""


class _Learner(EncodeDecodeEncode):
    def adversarial(self, images: Tensor, rebuilt: Tensor) -> Tensor:
        """Let rebuilt images be taken for real."""
        return fooling_loss(self._discriminator(rebuilt))


@DETECTORS.register("daol")
class Daol(Ganomaly):
    """Deep adversarial one-class learning."""

    config_type = DaolConfig
    config: DaolConfig

    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains the three networks."""
        return _Learner(networks, self.config, device)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Mean absolute difference (N,) between image and rebuilt image."""
        return self._error(images).mean((1, 2))

    def map_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Absolute difference (N, S, S) by position."""
        error, size = self._error(images)[:, None], images.shape[-1]
        return F.interpolate(error, (size, size), mode="bilinear", align_corners=False)[:, 0]

    def _error(self, images: Tensor) -> Tensor:
        """(N, R, R), mean over colours."""
        x = self.resized(images)
        rebuilt = self.networks_["decoder"](self.networks_["encoder"](x))
        difference: Tensor = (x - rebuilt).abs().mean(1)
        return difference

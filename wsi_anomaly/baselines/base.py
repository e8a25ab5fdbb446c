"""What the compared systems share as detectors: networks that are trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from wsi_anomaly.baselines.learner import Learner, ResizedBatches
from wsi_anomaly.baselines.networks import resized
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.detectors.base import Detector, Fitting, device_of, fit_missing_statistics
from wsi_anomaly.learning.batches import Tiles
from wsi_anomaly.learning.loop import LoopConfig, TrainingLoop


class NetworkDetector(Detector):
    """A compared system that trains networks of its own.

    Attributes
    ----------
    networks_ : nn.ModuleDict
        What scoring needs, frozen.
    """

    networks_: nn.ModuleDict
    config: NetworkSettings

    @abstractmethod
    def build(self) -> nn.ModuleDict:
        """Make the networks that scoring needs, with new weights."""

    @abstractmethod
    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains these networks."""

    def finish(self, tiles: Tiles, device: torch.device) -> None:
        """Learn what comes after the training of the networks; nothing for most systems."""

    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Train for a fixed number of steps, as published; see :meth:`Detector.fit`."""
        fitting = fitting or Fitting.on(device_of(self.features))
        fit_missing_statistics(self.features, tiles, self.layers)
        torch.manual_seed(self.config.seed)
        networks = self.build()
        learner = self.learner(networks, tiles, fitting.device)
        learner.name = self.name
        steps = self.config.total_steps
        loop = TrainingLoop(
            learner,
            ResizedBatches(tiles, self.config, fitting.device),
            [steps],
            LoopConfig(report_every=self.config.report_every, validate_every=steps),
            checkpoint=fitting.checkpoint_of(self.name),
            identity={
                "name": self.name,
                "config": self.config.to_dict(),
                **dict(fitting.identity or {}),
            },
            progress=fitting.progress,
        )
        self.log_ = loop.run()
        self.networks_ = networks.eval().requires_grad_(requires_grad=False)
        self.finish(tiles, fitting.device)
        return self

    def resized(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) at the side S px that the networks see."""
        return resized(images, self.config.resolution)

    def to(self, device: torch.device | str) -> Self:
        """Move the networks."""
        self.networks_.to(device)
        return self

    def learned(self) -> Mapping[str, Tensor]:
        """Weights of the networks that scoring needs."""
        return self.networks_.state_dict()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights; see :meth:`Detector.restore`."""
        with torch.random.fork_rng(devices=[]):
            networks = self.build()
        if not tensors.keys() <= networks.state_dict().keys():
            raise WsiAnomalyError(
                f"{self.name} has other networks in this version of wsi-anomaly; train it anew."
            )
        networks.load_state_dict(dict(tensors))
        # As training laid them out: other layouts round differently.
        networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks_ = networks.eval().requires_grad_(requires_grad=False)

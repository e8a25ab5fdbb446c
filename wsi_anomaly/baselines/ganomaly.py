"""``ganomaly``: whether an image encodes to the same vector after it was rebuilt.

Akcay, Atapour-Abarghouei and Breckon, "GANomaly: Semi-Supervised Anomaly Detection via Adversarial
Training", ACCV 2018. Encoder, decoder and a second encoder are trained on normal images with a
discriminator; the squared distance between the two vectors is the anomaly score.

Neighbours: ``daol`` trains nearly the same networks and judges the rebuilt image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.baselines.base import NetworkDetector
from wsi_anomaly.baselines.learner import Learner
from wsi_anomaly.baselines.networks import (
    ConvDecoder,
    ConvEncoder,
    as_in_dcgan,
    discriminator_loss,
)
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.detectors.base import DETECTORS
from wsi_anomaly.learning.batches import Tiles
from wsi_anomaly.learning.distributed import mean_over_processes
from wsi_anomaly.learning.loop import StepResult

_BETAS = (0.5, 0.999)
_COLLAPSED = 1e-5  # a discriminator that is never wrong teaches nothing, and starts anew


@dataclass(frozen=True, kw_only=True)
class GanomalyConfig(NetworkSettings):
    """Everything that decides what ``ganomaly`` learns; the defaults are the paper's.

    Attributes
    ----------
    latent
        Numbers of the vectors.
    adversarial_weight, context_weight, latent_weight
        Of the three terms: the discriminator's features, the pixels, the vectors.
    steps
        As many as 15 passes over 45,000 images.
    """

    width: int = 64
    latent: int = 100
    steps: int = 10_500
    adversarial_weight: float = 1.0
    context_weight: float = 50.0
    latent_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("latent", "context_weight")


class EncodeDecodeEncode(Learner):
    """Trains encoder, decoder and second encoder against a discriminator."""

    def __init__(
        self, networks: nn.ModuleDict, config: GanomalyConfig, device: torch.device
    ) -> None:
        self._networks, self._config = networks, config
        self._discriminator = ConvEncoder(config.resolution, config.width, 1)
        super().__init__({"networks": networks, "discriminator": self._discriminator}, device)
        for name, module in self.modules.items():
            self.optimizers[name] = torch.optim.Adam(
                module.parameters(), lr=config.learning_rate, betas=_BETAS
            )

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Update the three networks by images (N, 3, S, S), then the discriminator."""
        (images,) = batches
        config = self._config
        vector = self._networks["encoder"](images)
        rebuilt = self._networks["decoder"](vector)
        loss = (
            config.adversarial_weight * self.adversarial(images, rebuilt)
            + config.context_weight * (rebuilt - images).abs().mean()
            + config.latent_weight * F.mse_loss(self._networks["second"](rebuilt), vector)
        )
        self.descend(loss, "networks")
        judged = discriminator_loss(
            self._discriminator(images), self._discriminator(rebuilt.detach())
        )
        self.descend(judged, "discriminator")
        if float(mean_over_processes(judged.detach())) < _COLLAPSED:
            torch.manual_seed(step)  # the same for all processes
            as_in_dcgan(self._discriminator)
        return StepResult(loss.detach(), judged.detach())

    def adversarial(self, images: Tensor, rebuilt: Tensor) -> Tensor:
        """Distance, (), of the discriminator's features of images (N, 3, S, S) and rebuilt ones."""
        with torch.no_grad():
            wanted = self._discriminator.body(images)
        return F.mse_loss(self._discriminator.body(rebuilt), wanted)


@DETECTORS.register("ganomaly")
class Ganomaly(NetworkDetector):
    """Semi-supervised anomaly detection via adversarial training.

    Attributes
    ----------
    networks_ : nn.ModuleDict
        ``encoder``, ``decoder`` and ``second`` encoder.
    """

    config_type: ClassVar[type[GanomalyConfig]] = GanomalyConfig
    config: GanomalyConfig

    def build(self) -> nn.ModuleDict:
        """Make the three networks."""
        size = (self.config.resolution, self.config.width, self.config.latent)
        return nn.ModuleDict(
            {
                "encoder": ConvEncoder(*size),
                "decoder": ConvDecoder(*size),
                "second": ConvEncoder(*size),
            }
        )

    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains them."""
        return EncodeDecodeEncode(networks, self.config, device)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Mean squared difference (N,) of the two vectors."""
        vector = self.networks_["encoder"](self.resized(images))
        again = self.networks_["second"](self.networks_["decoder"](vector))
        scores: Tensor = (vector - again).square().mean((1, 2, 3))
        return scores

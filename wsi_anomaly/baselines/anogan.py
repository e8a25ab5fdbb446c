"""``anogan``: how far an image is from the best that a generator of normal images can paint.

Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker
Discovery", IPMI 2017. A DCGAN learns to paint normal images. For a new image the latent vector is
searched by gradient descent; what differs between the image and the best painting, and between
the discriminator's features of both, is the anomaly score. The search makes it slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.baselines.base import NetworkDetector
from wsi_anomaly.baselines.learner import Learner
from wsi_anomaly.baselines.networks import (
    ConvDecoder,
    ConvEncoder,
    discriminator_loss,
    fooling_loss,
)
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors.base import DETECTORS
from wsi_anomaly.learning.batches import Tiles
from wsi_anomaly.learning.loop import StepResult

_BETAS = (0.5, 0.999)


@dataclass(frozen=True, kw_only=True)
class AnoganConfig(NetworkSettings):
    """Everything that decides what ``anogan`` learns.

    Attributes
    ----------
    latent
        Numbers of the latent vector.
    search_steps, search_rate
        Of the search for the vector of a new image.
    feature_share
        Share of the discriminator's features in the score.
    """

    width: int = 64
    latent: int = 100
    search_steps: int = 500
    search_rate: float = 0.02
    feature_share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("latent", "search_steps", "search_rate")
        if not 0 <= self.feature_share <= 1:
            raise UsageError(f"feature_share lies between 0 and 1, not {self.feature_share}.")


class _Learner(Learner):
    def __init__(self, networks: nn.ModuleDict, config: AnoganConfig, device: torch.device) -> None:
        names = ("generator", "discriminator")
        super().__init__({name: networks[name] for name in names}, device)
        self._latent = config.latent
        for name, module in self.modules.items():
            self.optimizers[name] = torch.optim.Adam(
                module.parameters(), lr=config.learning_rate, betas=_BETAS
            )

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Update the discriminator, then the generator."""
        (images,) = batches
        judge = self.modules["discriminator"]
        drawn = torch.randn(len(images), self._latent, 1, 1, device=self.device)
        painted = self.modules["generator"](drawn)
        judged = discriminator_loss(judge(images), judge(painted.detach()))
        self.descend(judged, "discriminator")
        loss = fooling_loss(judge(painted))
        self.descend(loss, "generator")
        return StepResult(loss.detach(), judged.detach())


@DETECTORS.register("anogan")
class Anogan(NetworkDetector):
    """Anomaly detection with a generator of normal images.

    Attributes
    ----------
    networks_ : nn.ModuleDict
        ``generator`` and ``discriminator``.
    """

    config_type = AnoganConfig
    config: AnoganConfig

    def build(self) -> nn.ModuleDict:
        """Make both networks."""
        c = self.config
        return nn.ModuleDict(
            {
                "generator": ConvDecoder(c.resolution, c.width, c.latent),
                "discriminator": ConvEncoder(c.resolution, c.width, 1),
            }
        )

    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains them."""
        return _Learner(networks, self.config, device)

    def search(self, images: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Search latent vectors whose paintings are like the images.

        Every search begins at the same vector, so that an image's score is its own.

        Parameters
        ----------
        images : Tensor (N, 3, R, R)
        steps : int

        Returns
        -------
        scores : Tensor (N,)
            Of the last vectors.
        painted : Tensor (N, 3, R, R)
        """
        config = self.config
        with torch.inference_mode(mode=False), torch.enable_grad():
            images = images.clone()
            judge = self.networks_["discriminator"]
            assert isinstance(judge, ConvEncoder)
            features = judge.body(images)
            generator = torch.Generator().manual_seed(config.seed)
            start = torch.randn(1, config.latent, 1, 1, generator=generator).to(images.device)
            vector = start.expand(len(images), -1, -1, -1).clone().requires_grad_()
            optimizer = torch.optim.Adam([vector], lr=config.search_rate)
            for step in range(steps + 1):
                painted = self.networks_["generator"](vector)
                residual = (images - painted).abs().sum((1, 2, 3))
                other = (features - judge.body(painted)).abs().sum((1, 2, 3))
                scores = (1 - config.feature_share) * residual + config.feature_share * other
                if step < steps:
                    (vector.grad,) = torch.autograd.grad(scores.sum(), vector)
                    optimizer.step()
            return scores.detach(), painted.detach()

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum (N,) of the residual and of the difference of features."""
        return self.search(self.resized(images), self.config.search_steps)[0]

    def map_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Residual (N, S, S) by position, mean over colours; as slow as the score."""
        x, size = self.resized(images), images.shape[-1]
        painted = self.search(x, self.config.search_steps)[1]
        residual = (x - painted).abs().mean(1, keepdim=True)
        return F.interpolate(residual, (size, size), mode="bilinear", align_corners=False)[:, 0]

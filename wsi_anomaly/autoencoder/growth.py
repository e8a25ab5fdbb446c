"""Progressive growing of the autoencoder together with its loss: stages and single steps.

This module knows the arithmetic of one training step and the order of the stages. Batches,
validation, checkpoints and progress belong to :mod:`wsi_anomaly.learning.loop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wsi_anomaly.autoencoder.adversary import Adversary
from wsi_anomaly.autoencoder.blocks import Alpha, blends, halve
from wsi_anomaly.autoencoder.loss import mix_resolutions, pixel_l1, weighted_l1
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.features.network import PerceptualNetwork
from wsi_anomaly.learning.distributed import average_gradients
from wsi_anomaly.learning.loop import StepResult
from wsi_anomaly.learning.recorded import Recorded, can_record

Layers = Mapping[str, float]


@dataclass(frozen=True)
class Stage:
    """One stage of growth.

    Attributes
    ----------
    resolution
        Side of the images in px.
    transition
        Whether ``alpha`` rises from 0 to 1 over the stage; otherwise it is 1.
    steps
        Length in optimiser steps.
    """

    resolution: int
    transition: bool
    steps: int

    def alpha(self, step: int) -> float:
        """Share of the new path in `step` (from 0): 1/steps at the first, 1 at the last."""
        return (step + 1) / self.steps if self.transition else 1.0

    def __str__(self) -> str:
        kind = "grow to" if self.transition else "train at"
        return f"{kind} {self.resolution} px"


@dataclass(frozen=True)
class GrowthConfig:
    """Optimisation of the autoencoder.

    Attributes
    ----------
    layers
        Resolution to layers of the perceptual network with their weights.
    learning_rate
        Constant; a new Adam with default betas at each stage.
    pixel_weight
        Weight of the mean absolute difference of pixels, in [-1, 1], beside the perceptual term.
    adversarial_weight
        Weight of the WGAN-GP term; 0 leaves the critic out.
    critic_steps
        Critic updates before each update of the autoencoder.
    """

    layers: Mapping[int, Layers] = field(default_factory=dict)
    learning_rate: float = 1e-3
    pixel_weight: float = 0.0
    adversarial_weight: float = 0.0
    critic_steps: int = 2


class GrowthTrainer:
    """Takes the autoencoder through its stages, one step at a time.

    Parameters
    ----------
    autoencoder : ProgressiveAutoencoder
    network : PerceptualNetwork
        Frozen, with statistics for every layer used.
    stages : sequence of Stage
    config : GrowthConfig
    autocast : torch.dtype, optional
        Number format of the autoencoder's convolutions (bfloat16 on a GPU); float32 when left out.

    Raises
    ------
    UsageError
        A resolution of the stages has no layer.
    """

    def __init__(
        self,
        autoencoder: ProgressiveAutoencoder,
        network: PerceptualNetwork,
        stages: tuple[Stage, ...],
        config: GrowthConfig,
        *,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.network = network
        self.stages = stages
        self.config = config
        self._autocast = autocast
        for stage in stages:
            sizes = [stage.resolution // 2] * stage.transition + [stage.resolution]
            for size in sizes:
                if not config.layers.get(size):
                    raise UsageError(f"No perceptual layer is configured for {size} px.")
                network.check_layers(list(config.layers[size]))
        self.adversary = (
            Adversary(autoencoder.architecture, config.adversarial_weight, config.learning_rate)
            if config.adversarial_weight
            else None
        )
        if self.adversary is not None:
            self.adversary.to(next(autoencoder.parameters()).device)
        self.start_stage(0)

    def start_stage(self, index: int) -> None:
        """Enter a stage: a new Adam over the parameters it uses."""
        self.index = index
        parts = self.autoencoder.parts(self.stage.resolution, transition=self.stage.transition)
        learning = [p for part in parts for p in part.parameters()]
        # The critic draws random numbers, which a recorded step would draw the same each time.
        recorded = self.adversary is None and can_record(learning[0].device)
        self.optimizer = torch.optim.Adam(
            learning, self.config.learning_rate, fused=recorded or None, capturable=recorded
        )
        self._recorded = Recorded(self._update) if recorded else None
        if self.adversary is not None:
            self.adversary.start_stage(self.stage.resolution, transition=self.stage.transition)

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.stages[self.index]

    def describe(self, step: int) -> tuple[str, float]:
        """Say what the stage is, and the share of the new path in its step."""
        return str(self.stage), self.stage.alpha(step)

    def reconstruct(self, inputs: Tensor, alpha: Alpha) -> Tensor:
        """Rebuild images (N, 3, S, S), already at the stage's resolution S px; float32."""
        with torch.autocast(inputs.device.type, self._autocast, enabled=self._autocast is not None):
            images: Tensor = self.autoencoder(inputs, self.stage.resolution, alpha)
        return images.float()

    def loss(self, inputs: Tensor, rebuilt: Tensor, alpha: Alpha) -> Tensor:
        """Reconstruction loss per image, (N,), as the stage defines it.

        In a transition: (1 - alpha) L_low(down2(x), down2(x')) + alpha L_high(x, x').
        """
        resolution = self.stage.resolution
        if not blends(alpha):
            return self._at(inputs, rebuilt, resolution)
        low = self._at(halve(inputs), halve(rebuilt), resolution // 2)
        return (1 - alpha) * low + alpha * self._at(inputs, rebuilt, resolution)

    def _at(self, inputs: Tensor, rebuilt: Tensor, resolution: int) -> Tensor:
        layers = self.config.layers[resolution]
        with torch.no_grad():
            truth = self.network(inputs, list(layers))
        total = weighted_l1(truth, self.network(rebuilt, list(layers)), layers)
        if self.config.pixel_weight:
            total = total + self.config.pixel_weight * pixel_l1(inputs, rebuilt)
        return total

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """One update of the autoencoder, after the critic's updates when there is one.

        Parameters
        ----------
        batches : tuple of Tensor (N, 3, S, S)
            Images in [-1, 1] at the full resolution: one batch for each critic update, then one
            for the autoencoder.
        step : int
            Number of the step within the stage, from 0.
        """
        alpha = self.stage.alpha(step)
        *for_critic, images = batches
        critic_loss = None
        if self.adversary is not None:
            for batch in for_critic:
                real = mix_resolutions(batch, self.stage.resolution, alpha)
                with torch.no_grad():
                    fake = self.reconstruct(real, alpha)
                critic_loss = self.adversary.update(real, fake, alpha)
        if self._recorded is None:
            return StepResult(self._update(images, alpha), critic_loss)
        if not self.stage.transition:
            return StepResult(self._recorded(images))
        return StepResult(self._recorded(images, torch.full((), alpha, device=images.device)))

    def _update(self, images: Tensor, alpha: Alpha = 1.0) -> Tensor:
        """Update the autoencoder by images (N, 3, S, S); return its loss, ()."""
        inputs = mix_resolutions(images, self.stage.resolution, alpha)
        rebuilt = self.reconstruct(inputs, alpha)
        loss = self.loss(inputs, rebuilt, alpha).mean()
        total = loss
        if self.adversary is not None:
            total = loss + self.adversary.term(rebuilt, alpha)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.optimizer)
        self.optimizer.step()
        return loss.detach()

    @property
    def draws(self) -> bool:
        """Whether a step draws random numbers: the critic's mixtures."""
        return self.adversary is not None

    @property
    def batches_per_step(self) -> int:
        """How many batches :meth:`step` takes."""
        return 1 + (self.config.critic_steps if self.adversary is not None else 0)

    @torch.no_grad()
    def evaluate(self, images: Tensor, alpha: float = 1.0) -> Tensor:
        """Loss per image, (N,), without learning."""
        inputs = mix_resolutions(images, self.stage.resolution, alpha)
        return self.loss(inputs, self.reconstruct(inputs, alpha), alpha)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What learns, by name: for checkpoints."""
        found: dict[str, nn.Module] = {"autoencoder": self.autoencoder}
        if self.adversary is not None:
            found["critic"] = self.adversary.critic
        return found

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The stage's optimisers, by name: for checkpoints."""
        found: dict[str, torch.optim.Optimizer] = {"autoencoder": self.optimizer}
        if self.adversary is not None:
            found["critic"] = self.adversary.optimizer
        return found

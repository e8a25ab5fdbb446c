"""The adversarial term of the paper's ablation: a Wasserstein critic with gradient penalty.

Gulrajani et al. 2017. The critic is an encoder with one output that grows with the autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from wsi_anomaly.autoencoder.blocks import Alpha
from wsi_anomaly.autoencoder.network import Architecture, Encoder
from wsi_anomaly.learning.distributed import average_gradients

GRADIENT_PENALTY = 10.0
NORM_PENALTY = 1e-3
"""Weight of the squared verdicts, which keeps them near zero."""


class Adversary:
    """Critic, its optimiser, and the two losses.

    Parameters
    ----------
    architecture : Architecture
        The autoencoder's; the critic has the same widths and one 1x1 output.
    weight : float
        Of the adversarial term in the autoencoder's loss.
    learning_rate : float
    """

    def __init__(self, architecture: Architecture, weight: float, learning_rate: float) -> None:
        # Below the autoencoder's latent the critic goes on with the same number of channels.
        widths = [architecture.width(r) for r in (*architecture.octaves()[::-1],)]
        widths.append(architecture.width(architecture.base_resolution))
        narrowest = architecture.base_resolution
        while narrowest > 4:
            widths.append(widths[-1])
            narrowest //= 2
        self.critic = Encoder(
            replace(architecture, latent_resolution=1, latent_channels=1, widths=tuple(widths))
        )
        self.weight = weight
        self._rate = learning_rate

    def to(self, device: torch.device) -> None:
        """Move the critic."""
        self.critic.to(device)

    def start_stage(self, resolution: int, *, transition: bool) -> None:
        """Enter a stage: a new Adam over the parameters it uses."""
        self._resolution = resolution
        parts = list(self.critic.parts(resolution))
        if transition:
            parts.append(self.critic.from_image[str(resolution // 2)])
        self.optimizer = torch.optim.Adam(
            [p for part in parts for p in part.parameters()], lr=self._rate
        )

    def update(self, real: Tensor, fake: Tensor, alpha: Alpha) -> Tensor:
        """One critic update by images (N, 3, S, S); returns its loss, ()."""
        loss = critic_loss(lambda images: self._judge(images, alpha), real, fake)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.optimizer)
        self.optimizer.step()
        return loss.detach()

    def term(self, fake: Tensor, alpha: Alpha) -> Tensor:
        """Return the autoencoder's adversarial term, (), of images (N, 3, S, S)."""
        return -self.weight * self._judge(fake, alpha).mean()

    def _judge(self, images: Tensor, alpha: Alpha) -> Tensor:
        verdict: Tensor = self.critic(images, self._resolution, alpha)
        return verdict.flatten()


def critic_loss(judge: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Loss, (), of a Wasserstein critic: distance, gradient penalty, squared verdicts.

    Parameters
    ----------
    judge
        Gives one number for each sample.
    real, fake : Tensor (N, ...)
        Samples to tell apart; `fake` without a gradient.
    """
    mix = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    gradient = torch.autograd.grad(judge(between).sum(), between, create_graph=True)[0]
    penalty = (torch.linalg.vector_norm(gradient.flatten(1), dim=1) - 1).square().mean()
    of_real, of_fake = judge(real), judge(fake)
    norm = of_real.square().mean() + of_fake.square().mean()
    loss: Tensor = GRADIENT_PENALTY * penalty + NORM_PENALTY * norm - of_real.mean()
    return loss + of_fake.mean()

"""Networks and terms that several compared systems share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.autoencoder.adversary import GRADIENT_PENALTY

DRIFT_PENALTY = 1e-3


def resized(images: Tensor, resolution: int) -> Tensor:
    """Images (N, C, S, S) brought to another side, without aliasing."""
    if images.shape[-1] == resolution:
        return images
    return F.interpolate(
        images, (resolution, resolution), mode="bilinear", align_corners=False, antialias=True
    )


def wasserstein_loss(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of a Wasserstein critic with gradient penalty (Gulrajani et al. 2017).

    A faint penalty keeps its answers near zero (Karras et al. 2018).

    Parameters
    ----------
    critic
        Gives one number for each sample.
    real, fake : Tensor (N, ...)
        Samples to tell apart; `fake` without a gradient.
    """
    mix = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    gradient = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
    penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    of_real = critic(real)
    distance = critic(fake).mean() - of_real.mean()
    loss: Tensor = distance + GRADIENT_PENALTY * penalty + DRIFT_PENALTY * of_real.square().mean()
    return loss

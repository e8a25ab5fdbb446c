"""Networks and terms that several compared systems share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.autoencoder.adversary import GRADIENT_PENALTY
from wsi_anomaly.learning.distributed import mean_over_processes

DRIFT_PENALTY = 1e-3
REMEMBERED = 100
_SMALLEST = 4  # side of the image inside a network before it becomes a vector


class ConvEncoder(nn.Module):
    """Images to a vector, after DCGAN (Radford et al. 2016); also the body of its discriminator.

    Parameters
    ----------
    resolution : int
        Side of the images, px.
    width : int
        Channels of the first layer; they double whenever the side halves.
    outputs : int
    """

    def __init__(self, resolution: int, width: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        side = resolution // 2
        while side > _SMALLEST:
            layers += [
                nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(2 * width),
                nn.LeakyReLU(0.2),
            ]
            side, width = side // 2, 2 * width
        self.body = nn.Sequential(*layers)
        self.last = nn.Conv2d(width, outputs, _SMALLEST, bias=False)
        as_in_dcgan(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, R, R) to (N, outputs, 1, 1)."""
        y: Tensor = self.last(self.body(images))
        return y


class ConvDecoder(nn.Sequential):
    """A vector (N, latent, 1, 1) to images in [-1, 1]: the mirror of :class:`ConvEncoder`."""

    def __init__(self, resolution: int, width: int, latent: int) -> None:
        width = width * resolution // (2 * _SMALLEST)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent, width, _SMALLEST, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        side = _SMALLEST
        while 2 * side < resolution:
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width // 2),
                nn.ReLU(),
            ]
            side, width = 2 * side, width // 2
        layers += [nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()]
        super().__init__(*layers)
        as_in_dcgan(self)


def as_in_dcgan(network: nn.Module) -> None:
    """Draw a network's weights anew: normal, sd 0.02, around 0 or, for scales, around 1."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def discriminator_loss(of_real: Tensor, of_fake: Tensor) -> Tensor:
    """Mean cross-entropy, (), of logits (N,) for real and for generated images."""
    real = F.binary_cross_entropy_with_logits(of_real, torch.ones_like(of_real))
    fake = F.binary_cross_entropy_with_logits(of_fake, torch.zeros_like(of_fake))
    return (real + fake) / 2


def fooling_loss(of_fake: Tensor) -> Tensor:
    """Cross-entropy, (), of logits (N,) of generated images that want to be taken for real."""
    return F.binary_cross_entropy_with_logits(of_fake, torch.ones_like(of_fake))


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


class GradientScale(nn.Module):
    """Weight of the reconstruction term: median of |g_adversarial| / |g_reconstruction|.

    Parameters
    ----------
    remembered : int
        Over so many measurements.
    """

    ratios: Tensor
    count: Tensor

    def __init__(self, remembered: int = REMEMBERED) -> None:
        super().__init__()
        self.register_buffer("ratios", torch.ones(remembered))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def weight(self) -> Tensor:
        """The median, (); 1 before anything was measured."""
        known = min(int(self.count), len(self.ratios))
        return self.ratios[:known].median() if known else torch.ones_like(self.ratios[0])

    def note(self, adversarial: Tensor, reconstruction: Tensor, through: nn.Module) -> None:
        """Compare the gradients that both losses, (), send into a module's parameters."""
        parameters = list(through.parameters())
        lengths = []
        for loss in (adversarial, reconstruction):
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            parts = [g.flatten() for g in gradients if g is not None]
            lengths.append(torch.cat(parts).norm())
        ratio = mean_over_processes(lengths[0] / lengths[1].clamp_min(1e-12))
        self.ratios[int(self.count) % len(self.ratios)] = ratio
        self.count += 1


def resized(images: Tensor, resolution: int) -> Tensor:
    """Images (N, C, S, S) brought to another side, without aliasing."""
    if images.shape[-1] == resolution:
        return images
    return F.interpolate(
        images, (resolution, resolution), mode="bilinear", align_corners=False, antialias=True
    )

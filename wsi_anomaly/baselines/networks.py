"""Networks and terms that several compared systems share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.learning.distributed import mean_over_processes

REMEMBERED, SMOOTHING = 200, 0.05
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


class GradientScale(nn.Module):
    """Weight of the reconstruction term: median of |g_adversarial| / |g_reconstruction|.

    Over every weight tensor of a network and the last looks; the lengths of the gradients are
    smoothed over the looks first.

    Parameters
    ----------
    network : nn.Module
        Whose gradients are compared.
    remembered : int
        Looks.

    Attributes
    ----------
    weight : Tensor ()
        1 before the first look.
    """

    lengths: Tensor
    count: Tensor
    weight: Tensor

    def __init__(self, network: nn.Module, remembered: int = REMEMBERED) -> None:
        super().__init__()
        number = len(_weights(network))
        self.register_buffer("lengths", torch.ones(2, number, remembered))  # the newest last
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("weight", torch.ones(()))

    def note(self, adversarial: Tensor, reconstruction: Tensor, through: nn.Module) -> None:
        """Compare the gradients that both losses, (), send into a network's weights."""
        rows = []
        for loss in (adversarial, reconstruction):
            gradients = torch.autograd.grad(loss, _weights(through), retain_graph=True)
            rows.append(torch.stack([gradient.norm() for gradient in gradients]))
        found = mean_over_processes(torch.stack(rows))
        self.lengths = torch.cat((self.lengths[..., 1:], found[..., None]), 2)
        self.count += 1
        known = min(int(self.count), self.lengths.shape[2])
        smooth = [self.lengths[..., -known]]
        for k in range(1, known):
            smooth.append(smooth[-1].lerp(self.lengths[..., k - known], SMOOTHING))
        of_adversary, of_distance = torch.stack(smooth, 2)
        self.weight = (of_adversary / of_distance.clamp_min(1e-12)).quantile(0.5)


def _weights(network: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in network.named_parameters() if name.endswith("weight")]


def resized(images: Tensor, resolution: int) -> Tensor:
    """Images (N, C, S, S) brought to another side, without aliasing."""
    if images.shape[-1] == resolution:
        return images
    return F.interpolate(
        images, (resolution, resolution), mode="bilinear", align_corners=False, antialias=True
    )

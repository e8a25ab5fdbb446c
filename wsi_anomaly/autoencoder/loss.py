"""The relative perceptual L1 loss, which is also the anomaly score, and its map."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_anomaly.autoencoder.blocks import Alpha, blends, double, halve


def relative_l1(truth: Tensor, found: Tensor) -> Tensor:
    """L(x, x') = mean|f(x) - f(x')| / mean|f(x)|, per image, over channels and positions.

    The denominator is detached: the loss cannot fall by making it larger (Shvetsova et al. 2021,
    equation 4).

    Parameters
    ----------
    truth, found : Tensor (N, C, h, w)
        Normalised activations of the images and of their reconstructions.

    Returns
    -------
    Tensor (N,)

    Examples
    --------
    Half of a feature lost is half an error, however strong the feature is:

    >>> relative_l1(torch.full((1, 8, 4, 4), 6.0), torch.full((1, 8, 4, 4), 3.0))
    tensor([0.5000])
    """
    difference = (truth - found).abs().mean((1, 2, 3))
    return difference / truth.detach().abs().mean((1, 2, 3)).clamp_min(1e-8)


def weighted_l1(
    truth: Mapping[str, Tensor], found: Mapping[str, Tensor], layers: Mapping[str, float]
) -> Tensor:
    """Weighted mean of :func:`relative_l1` over several layers, (N,)."""
    terms = [weight * relative_l1(truth[name], found[name]) for name, weight in layers.items()]
    return torch.stack(terms).sum(0) / sum(layers.values())


def pixel_l1(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean absolute difference of pixels in [-1, 1], per image (N,)."""
    return (images - rebuilt).abs().mean((1, 2, 3))


def pixel_map(truth: Tensor, found: Tensor, size: int) -> Tensor:
    """Where the error lies: |f(x) - f(x')| over the image's mean |f(x)|, mean over channels.

    Its mean before the bilinear enlargement is :func:`relative_l1`.

    Parameters
    ----------
    truth, found : Tensor (N, C, h, w)
    size : int
        Side of the result in px.

    Returns
    -------
    Tensor (N, size, size)
    """
    scale = truth.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-8)
    error = ((truth - found).abs() / scale).mean(1, keepdim=True)
    return F.interpolate(error, (size, size), mode="bilinear", align_corners=False)[:, 0]


def shrink(images: Tensor, resolution: int) -> Tensor:
    """Images (N, C, S, S) averaged down to side `resolution` px, a divisor of S."""
    factor = images.shape[-1] // resolution
    return F.avg_pool2d(images, factor) if factor > 1 else images


def mix_resolutions(images: Tensor, resolution: int, alpha: Alpha) -> Tensor:
    """Input of a stage: images of side `resolution`, in transition blended with R/2.

    (1 - alpha) * up2(down(x, R/2)) + alpha * down(x, R).
    """
    high = shrink(images, resolution)
    if not blends(alpha):
        return high
    return (1 - alpha) * double(halve(high)) + alpha * high

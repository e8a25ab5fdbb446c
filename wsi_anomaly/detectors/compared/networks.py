"""Networks and terms that several compared systems share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized(images: Tensor, resolution: int) -> Tensor:
    """Images (N, C, S, S) brought to another side, without aliasing."""
    if images.shape[-1] == resolution:
        return images
    return F.interpolate(
        images, (resolution, resolution), mode="bilinear", align_corners=False, antialias=True
    )

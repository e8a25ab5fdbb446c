"""How a network wants its input, whatever it was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InputScaling:
    """What a network wants instead of RGB in [-1, 1].

    The image is brought to [0, 1], its channels put in order (`bgr` or RGB), then
    ``(image - mean) / std`` with the three values in that order.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


def scaling_from(values: Mapping[str, Any]) -> InputScaling:
    """Read what ``dataclasses.asdict`` made of an :class:`InputScaling`, checked.

    Raises
    ------
    ValueError
        Not three finite numbers each, or a std that is not positive.
    """
    mean, std = (tuple(float(v) for v in values[key]) for key in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise ValueError("the input scaling is damaged")
    return InputScaling((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), bool(values["bgr"]))


SYMMETRIC = InputScaling((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""The image as it is, in [-1, 1]."""

CLIP = InputScaling((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""The scaling of OpenAI's CLIP, and of what builds on it."""

H_OPTIMUS = InputScaling((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
"""The scaling of Bioptimus' networks: colours of stained slides."""

IMAGENET = InputScaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""The scaling of torchvision's and most of timm's networks."""

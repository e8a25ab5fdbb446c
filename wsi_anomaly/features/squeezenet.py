"""SqueezeNet v1.0 (Iandola et al. 2016): torchvision's weights, or the original Caffe ones.

``fireK`` is the concatenated output of fire module K, before any pooling that follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.network import IMAGENET, InputScaling, PerceptualNetwork, Stage

CAFFE = InputScaling((104 / 255, 117 / 255, 123 / 255), (1 / 255, 1 / 255, 1 / 255), bgr=True)
"""BGR in 0..255, minus the mean colour: what the original weights expect."""


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, 2 expand, h, w)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


_FIRES = {2: (96, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128)} | {
    6: (256, 48, 192),
    7: (384, 48, 192),
    8: (384, 64, 256),
    9: (512, 64, 256),
}


def build_squeezenet(scaling: InputScaling = IMAGENET) -> PerceptualNetwork:
    """SqueezeNet v1.0 up to fire9, with random weights."""
    stages = []
    for number, sizes in _FIRES.items():
        modules: list[nn.Module] = []
        if number == 2:
            modules += [nn.Conv2d(3, 96, 7, stride=2), nn.ReLU()]
        if number in (2, 5, 9):
            modules.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
        modules.append(Fire(*sizes))
        stages.append(Stage(f"fire{number}", nn.Sequential(*modules)))
    return PerceptualNetwork("squeezenet", stages, scaling, default_layer="fire7")


def caffe_squeezenet(path: Path) -> PerceptualNetwork:
    """SqueezeNet v1.0 from the original weights as ``.npz`` (``fire2/expand3x3.weight``, ...).

    Raises
    ------
    ModelError
        The file is missing, damaged or holds another network.
    """
    network = build_squeezenet(CAFFE)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: torch.from_numpy(archive[key].astype(np.float32)) for key in archive}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no readable .npz file of SqueezeNet weights.") from error
    network.load_state(_renamed(arrays), str(path))
    return network


def _renamed(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of the original release to ours; the classifier is left out."""
    renamed = {}
    for key, value in arrays.items():
        module, _, kind = key.rpartition(".")
        if module == "conv1":
            renamed[f"fire2.0.{kind}"] = value
        elif module.startswith("fire"):
            fire, _, part = module.partition("/")
            position = {2: 3, 5: 1, 9: 1}.get(int(fire.removeprefix("fire")), 0)
            renamed[f"{fire}.{position}.{part.replace('squeeze1x1', 'squeeze')}.{kind}"] = value
    return renamed

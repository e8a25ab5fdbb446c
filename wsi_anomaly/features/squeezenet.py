"""SqueezeNet v1.0 (Iandola et al. 2016): torchvision's weights, or the original Caffe ones.

``fireK`` is the concatenated output of fire module K, before any pooling that follows it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import IMAGENET, InputScaling
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec
from wsi_anomaly.features.weights import download

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


_FIRES = {
    2: (96, 16, 64),
    3: (128, 16, 64),
    4: (128, 32, 128),
    5: (256, 32, 128),
    6: (256, 48, 192),
    7: (384, 48, 192),
    8: (384, 64, 256),
    9: (512, 64, 256),
}
"""Fire module: channels in, squeezed, and of each expansion."""

_TORCHVISION = dict(zip(("3", "4", "5", "7", "8", "9", "10", "12"), _FIRES, strict=True))
"""Position in torchvision's ``features`` to the number of the fire module."""


def squeezenet_stages() -> list[Stage]:
    """Layers fire2 to fire9, with random weights."""
    stages = []
    for number, sizes in _FIRES.items():
        modules: list[nn.Module] = []
        if number == 2:
            modules += [nn.Conv2d(3, 96, 7, stride=2), nn.ReLU()]
        if number in (2, 5, 9):
            modules.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
        modules.append(Fire(*sizes))
        stages.append(Stage(f"fire{number}", nn.Sequential(*modules)))
    return stages


def is_caffe(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the original release's, which want :data:`CAFFE` input."""
    return any("/" in key for key in weights)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of the original release or of torchvision to ours; the classifier is left out."""
    found = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition(".")
        if module in ("conv1", "features.0"):
            found[f"fire2.0.{kind}"] = value
            continue
        if module.startswith("features."):
            _, number, part = (*module.split("."), "")[:3]
            fire = f"fire{_TORCHVISION.get(number, number)}"
        else:
            fire, _, part = module.partition("/")
            part = part.replace("squeeze1x1", "squeeze")
        if fire.startswith("fire"):
            position = {"fire2": 3, "fire5": 1, "fire9": 1}.get(fire, 0)
            found[f"{fire}.{position}.{part}.{kind}"] = value
    return found


def _published() -> dict[str, Tensor]:
    import torchvision  # heavy: only these networks pay for it

    return download("squeezenet", torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1)


@NETWORKS.register("squeezenet")
def squeezenet() -> NetworkSpec:
    """Say what ``squeezenet`` is."""
    return NetworkSpec(
        squeezenet_stages,
        IMAGENET,
        default_layer="fire7",
        published=_published,
        convert=lambda weights, _: renamed(weights),
        scaling_of=lambda weights: CAFFE if is_caffe(weights) else IMAGENET,
        loss_layers={
            8: "fire2", 16: "fire3", 32: "fire5", 64: "fire7", 128: "fire7", 256: "fire7",
        },
        pooled_layers=("fire7", "fire8"),
    )  # fmt: skip

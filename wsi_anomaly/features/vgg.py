"""VGG19 (Simonyan and Zisserman 2015) with torchvision's weights: the paper's network.

``rIJ`` is the ReLU after convolution J of block I: ``r32`` ends at torchvision's ``features[13]``,
``r42`` at ``features[22]``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import IMAGENET
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec
from wsi_anomaly.features.weights import download

_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


def vgg19_stages() -> list[Stage]:
    """Layers r11 to r54, with random weights."""
    stages: list[Stage] = []
    inputs = 3
    for block, (width, convolutions) in enumerate(_BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            modules: list[nn.Module] = []
            if number == 1 and block > 1:
                modules.append(nn.MaxPool2d(2))
            modules += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            stages.append(Stage(f"r{block}{number}", nn.Sequential(*modules)))
            inputs = width
    return stages


def from_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of torchvision's ``vgg19``; the classifier is left out."""
    names = {}
    index = 0
    for stage in vgg19_stages():
        assert isinstance(stage.modules, nn.Sequential)
        for position, module in enumerate(stage.modules):
            if isinstance(module, nn.Conv2d):
                names[f"features.{index}"] = f"{stage.name}.{position}"
            index += 1
    return _rename(weights, names)


def _rename(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition(".")
        if module in names:
            renamed[f"{names[module]}.{kind}"] = value
        elif module.startswith("features."):
            # A deeper or another VGG: kept, so that it is refused and not half used.
            renamed[key] = value
    return renamed


def _published() -> dict[str, Tensor]:
    import torchvision  # heavy: only these networks pay for it

    return download("vgg19", torchvision.models.VGG19_Weights.IMAGENET1K_V1)


@NETWORKS.register("vgg19")
def vgg19() -> NetworkSpec:
    """Say what ``vgg19`` is; the layers of the loss are the published ones."""
    return NetworkSpec(
        vgg19_stages,
        IMAGENET,
        default_layer="r42",
        published=_published,
        convert=lambda weights, _: from_torchvision(weights),
        loss_layers={8: "r12", 16: "r32", 32: "r32", 64: "r42", 128: "r42", 256: "r42"},
    )

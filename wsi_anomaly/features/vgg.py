"""VGG19 and VGG16 (Simonyan and Zisserman 2015); VGG19 with torchvision's weights is the paper's.

``rIJ`` is the ReLU after convolution J of block I: in VGG19 ``r32`` ends at torchvision's
``features[13]``, ``r42`` at ``features[22]``. VGG16 also takes the weights that Oxford published,
by the names ``conv1_1`` to ``conv4_3``; they want another input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import IMAGENET, InputScaling
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec
from wsi_anomaly.features.weights import download

_WIDTHS = (64, 128, 256, 512, 512)

OXFORD = InputScaling((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3, bgr=True)
"""BGR in 0..255, minus the mean colour: what Oxford's weights expect."""


def vgg19_stages() -> list[Stage]:
    """Layers r11 to r54, with random weights."""
    return _stages((2, 2, 4, 4, 4))


def vgg16_stages() -> list[Stage]:
    """Layers r11 to r53, with random weights."""
    return _stages((2, 2, 3, 3, 3))


def _stages(depths: Sequence[int]) -> list[Stage]:
    stages: list[Stage] = []
    inputs = 3
    for block, (width, convolutions) in enumerate(zip(_WIDTHS, depths, strict=True), start=1):
        for number in range(1, convolutions + 1):
            modules: list[nn.Module] = []
            if number == 1 and block > 1:
                modules.append(nn.MaxPool2d(2))
            modules += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            stages.append(Stage(f"r{block}{number}", nn.Sequential(*modules)))
            inputs = width
    return stages


def from_torchvision(weights: Mapping[str, Tensor], stages: list[Stage]) -> dict[str, Tensor]:
    """Rename the keys of torchvision's network of these stages; the classifier is left out."""
    names = {}
    index = 0
    for stage in stages:
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


def is_oxford(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are Oxford's, which want :data:`OXFORD` input."""
    return "conv1_1.weight" in weights


def from_oxford(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Oxford's keys; what is no convolution is kept, so that it is refused."""
    first = {f"conv{b}_1": f"r{b}1.1" for b in range(2, 6)}  # a pooling stands before these
    renamed = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition(".")
        ours = first.get(module, module.replace("conv", "r").replace("_", "") + ".0")
        renamed[f"{ours}.{kind}"] = value
    return renamed


_LOSS_LAYERS = {8: "r12", 16: "r32", 32: "r32", 64: "r42", 128: "r42", 256: "r42"}
"""The published ones; both networks have them."""


def _published_19() -> dict[str, Tensor]:
    import torchvision  # heavy: only these networks pay for it

    return download("vgg19", torchvision.models.VGG19_Weights.IMAGENET1K_V1)


def _published_16() -> dict[str, Tensor]:
    import torchvision  # heavy: only these networks pay for it

    return download("vgg16", torchvision.models.VGG16_Weights.IMAGENET1K_V1)


@NETWORKS.register("vgg19")
def vgg19() -> NetworkSpec:
    """Say what ``vgg19`` is."""
    return NetworkSpec(
        vgg19_stages,
        IMAGENET,
        default_layer="r42",
        published=_published_19,
        convert=lambda weights, _: from_torchvision(weights, vgg19_stages()),
        loss_layers=_LOSS_LAYERS,
    )


@NETWORKS.register("vgg16")
def vgg16() -> NetworkSpec:
    """Say what ``vgg16`` is: torchvision's weights, or Oxford's own, as far as they go."""
    return NetworkSpec(
        vgg16_stages,
        IMAGENET,
        default_layer="r42",
        published=_published_16,
        convert=lambda weights, _: (
            from_oxford(weights)
            if is_oxford(weights)
            else from_torchvision(weights, vgg16_stages())
        ),
        scaling_of=lambda weights: OXFORD if is_oxford(weights) else IMAGENET,
        depth_of=lambda weights: (
            sum(key.endswith(".weight") for key in weights)
            if is_oxford(weights)
            else len(vgg16_stages())
        ),
        loss_layers=_LOSS_LAYERS,
    )

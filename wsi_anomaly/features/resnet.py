"""ResNet-18 (He et al. 2016) with torchvision's weights and layer names (``layer1`` to ``layer4``).

The normalisation layers are folded into the convolutions: a frozen network needs none. Of the
family, 18 is what anomaly detectors commonly use; ``timm:resnet50`` and the like give the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.folding import fold
from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import IMAGENET
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec
from wsi_anomaly.features.weights import download


def resnet_stages() -> list[Stage]:
    """Layers ``layer1`` to ``layer4``, with random weights."""
    return _cut(_network())


def from_torchvision(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Fold torchvision's ``resnet18`` weights into ours; the classifier is left out.

    Raises
    ------
    ModelError
        They belong to another network.
    """
    network = _network()
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ModelError(
            f"{source} does not fit the network resnet; give torchvision's file for resnet18."
        ) from error
    return {
        f"{stage.name}.{key}": value
        for stage in _cut(network)
        for key, value in stage.modules.state_dict().items()
    }


def _network() -> nn.Module:
    import torchvision  # heavy: only this network pays for it

    network: nn.Module = torchvision.models.resnet18().eval()
    return network


def _cut(network: nn.Module) -> list[Stage]:
    fold(network)
    parts = dict(network.named_children())
    first = nn.Sequential(parts["conv1"], parts["relu"], parts["maxpool"], parts["layer1"])
    return [Stage("layer1", first), *(Stage(f"layer{i}", parts[f"layer{i}"]) for i in (2, 3, 4))]


def _published() -> dict[str, Tensor]:
    import torchvision  # heavy: only these networks pay for it

    return download("resnet", torchvision.models.ResNet18_Weights.IMAGENET1K_V1)


@NETWORKS.register("resnet")
def resnet() -> NetworkSpec:
    """Say what ``resnet`` is."""
    return NetworkSpec(
        resnet_stages,
        IMAGENET,
        default_layer="layer2",
        published=_published,
        convert=from_torchvision,
    )

"""Networks by name: with their published weights, with weights from a file, or random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.features import lite0, resnet, squeezenet, vgg
from wsi_anomaly.features.compact import DEFAULT_LAYER, compact_stages
from wsi_anomaly.features.network import PerceptualNetwork, Stage
from wsi_anomaly.features.scaling import IMAGENET, SYMMETRIC, InputScaling, scaling_from
from wsi_anomaly.features.timm_models import PREFIX, timm_network
from wsi_anomaly.features.weights import download, read_weights


@dataclass(frozen=True)
class _Architecture:
    """A network without weights, and where its published ones are."""

    stages: Callable[[], list[Stage]]
    scaling: InputScaling
    default_layer: str
    published: Callable[[], object] | None = None
    convert: Callable[[dict[str, Tensor], str], dict[str, Tensor]] | None = None


_ARCHITECTURES = {
    "compact": _Architecture(compact_stages, SYMMETRIC, DEFAULT_LAYER),
    "lite0": _Architecture(
        lite0.lite0_stages,
        lite0.SCALING,
        lite0.DEFAULT_LAYER,
        lite0.published,
        lite0.from_published,
    ),
    "vgg19": _Architecture(
        vgg.vgg19_stages,
        IMAGENET,
        "r42",
        vgg.published_19,
        lambda w, _: vgg.from_torchvision(w, vgg.vgg19_stages()),
    ),
    "vgg16": _Architecture(
        vgg.vgg16_stages,
        IMAGENET,
        "r42",
        vgg.published_16,
        lambda w, _: (
            vgg.from_oxford(w) if vgg.is_oxford(w) else vgg.from_torchvision(w, vgg.vgg16_stages())
        ),
    ),
    "squeezenet": _Architecture(
        squeezenet.squeezenet_stages,
        IMAGENET,
        "fire7",
        squeezenet.published,
        lambda w, _: squeezenet.renamed(w),
    ),
    "resnet": _Architecture(
        resnet.resnet_stages, IMAGENET, "layer2", resnet.published, resnet.from_torchvision
    ),
}

FEATURES = (*_ARCHITECTURES, f"{PREFIX}<model>")
"""Names that :func:`load_features` knows, for help texts and messages."""


def load_features(
    name: str, *, weights: Path | None = None, random_seed: int | None = None
) -> PerceptualNetwork:
    """Build a frozen perceptual network.

    Parameters
    ----------
    name : str
        One of :data:`FEATURES`. ``compact`` ships with the package, the weights of ``lite0`` are
        installed with it; the others take the weights that torchvision or timm downloads, unless
        `weights` says where they are.
    weights : Path, optional
        The published weights (a state_dict as ``.pth`` or ``.safetensors``; for squeezenet also
        the original ``.npz``), or a file of this project, such as a ``compact`` trained anew.
    random_seed : int, optional
        Take random weights instead (Kaiming normal, the same for the same seed). They come
        without per-filter statistics: fit those before use. This is the control that shows what
        trained features are worth.

    Raises
    ------
    UsageError
        The name is unknown, or both weights and a random seed were given.
    ModelError
        The weights are missing, damaged, or another network's.
    """
    if name not in _ARCHITECTURES and not name.startswith(PREFIX):
        raise UsageError(f"There is no network {name!r}; choose one of {', '.join(FEATURES)}.")
    if random_seed is not None:
        if weights is not None:
            raise UsageError("Random weights and a file of weights exclude each other.")
        network = _untrained(name)
        _randomise(network, random_seed)
        return network
    if name == "compact":
        weights = weights or models_folder() / "compact.safetensors"
    if weights is not None and _is_ours(weights):
        tensors, config = load_tensors(weights)
        if config.get("network") != name:
            raise ModelError(f"{weights} does not hold the network {name}; give its own file.")
        return features_from_state(tensors, config, str(weights))
    return _published(name, weights)


def features_from_state(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> PerceptualNetwork:
    """Rebuild what :meth:`PerceptualNetwork.to_state` gave, up to the deepest stored layer.

    Parameters
    ----------
    tensors, config
        The two parts of the state; neither is trusted.
    source : str
        The file, for the error message.

    Raises
    ------
    ModelError
        They do not describe a network of ours, or contradict each other.
    """
    try:
        name, layers = str(config["network"]), tuple(map(str, config["layers"]))
        scaling, default = scaling_from(config["scaling"]), str(config["default_layer"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{source} does not describe a perceptual network; copy it again."
        ) from error
    if name not in _ARCHITECTURES and not name.startswith(PREFIX):
        raise ModelError(
            f"{source} uses the network {name!r}, which this version of wsi-anomaly does not know; "
            "install the version that made it."
        )
    network = _untrained(name, scaling=scaling, layers=layers, default=default, source=source)
    network.load_state(tensors, source)
    return network


def _untrained(
    name: str,
    *,
    scaling: InputScaling | None = None,
    layers: tuple[str, ...] | None = None,
    default: str | None = None,
    source: str = "",
) -> PerceptualNetwork:
    # The weights drawn here are overwritten; the caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]):
        if name.startswith(PREFIX):
            stages, own = timm_network(name)
            own_default = _middle(stages)
        else:
            architecture = _ARCHITECTURES[name]
            stages, own = architecture.stages(), architecture.scaling
            own_default = architecture.default_layer
    if layers is not None:
        known = tuple(stage.name for stage in stages[: len(layers)])
        if not layers or layers != known or default not in layers:
            raise ModelError(f"{source} does not fit the network {name}: it has other layers.")
        stages = stages[: len(layers)]
    return PerceptualNetwork(name, stages, scaling or own, default or own_default)


def _middle(stages: list[Stage]) -> str:
    return stages[len(stages) // 2].name


def _randomise(network: PerceptualNetwork, seed: int) -> None:
    """Draw all convolutions anew, so that activations keep their size from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _is_ours(path: Path) -> bool:
    """Whether the file was written by this project (then its metadata describe the network)."""
    if path.suffix != ".safetensors":
        return False
    if not path.is_file():
        raise ModelError(f"There are no weights in {path}; check the path, or install again.")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return "json" in (file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged; copy it again.") from error


def _published(name: str, path: Path | None) -> PerceptualNetwork:
    """Build the network with weights as others publish them."""
    if name.startswith(PREFIX):
        weights = read_weights(path) if path else None
        with torch.random.fork_rng(devices=[]):
            stages, scaling = timm_network(name, pretrained=True, weights=weights)
        return PerceptualNetwork(name, stages, scaling, _middle(stages))
    architecture = _ARCHITECTURES[name]
    if architecture.convert is None or architecture.published is None:
        raise ModelError(f"{path} is no file of the network {name}; give one that distill wrote.")
    if path is None:
        origin = architecture.published()
        path = origin if isinstance(origin, Path) else None
    if path is None:
        source = "The download"
        weights = download(name, origin)
    else:
        source = str(path)
        weights = read_weights(path)
    scaling, layers, default = architecture.scaling, None, architecture.default_layer
    if name == "squeezenet" and squeezenet.is_caffe(weights):
        scaling = squeezenet.CAFFE
    if name == "vgg16" and vgg.is_oxford(weights):
        # A file that ends early gives a network that does.
        scaling, count = vgg.OXFORD, sum(key.endswith(".weight") for key in weights)
        layers = tuple(stage.name for stage in vgg.vgg16_stages()[:count])
    network = _untrained(name, scaling=scaling, layers=layers, default=default, source=source)
    with torch.random.fork_rng(devices=[]):
        tensors = architecture.convert(weights, source)
    network.load_state(tensors, source)
    return network

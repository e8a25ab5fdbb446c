"""Networks by name: with their published weights, with weights from a file, or random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.reading import why_unreadable
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.features.external import EXTERNAL, external_spec
from wsi_anomaly.features.network import PerceptualNetwork, Stage
from wsi_anomaly.features.precision import fast_precision
from wsi_anomaly.features.scaling import InputScaling, scaling_from
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec
from wsi_anomaly.features.timm_models import PREFIX, has_layer_scale, timm_network
from wsi_anomaly.features.weights import read_weights, shipped_statistics

FEATURES = (*NETWORKS.names(), f"{PREFIX}<model>")
"""Names of ours that :func:`load_features` knows, for help texts."""


def load_features(
    name: str, *, weights: Path | None = None, random_seed: int | None = None
) -> PerceptualNetwork:
    """Build a frozen perceptual network.

    Parameters
    ----------
    name : str
        One of :data:`FEATURES`, or what another package brings. ``compact`` ships with the package,
        the weights of ``lite0`` are installed with it; others of ours take the weights that
        torchvision or timm downloads, unless `weights` says where they are.
    weights : Path, optional
        The published weights (a state_dict as ``.pth`` or ``.safetensors``; for squeezenet also
        the original ``.npz``), or a file of this project, such as a ``compact`` trained anew.
    random_seed : int, optional
        Take random weights instead (Kaiming normal, the same for the same seed). This is the
        control that shows what trained features are worth. They come without per-filter
        statistics, as other weights do for which none ship: a detector measures those before use.

    Raises
    ------
    UsageError
        The name is unknown, or both weights and a random seed were given.
    ModelError
        The weights are missing, damaged, or another network's.
    PluginError
        The package that brings the network is broken.
    """
    spec = network_spec(name)
    if random_seed is not None:
        if weights is not None:
            raise UsageError("Random weights and a file of weights exclude each other.")
        network = _untrained(name)
        _randomise(network, random_seed)
        return network
    if weights is None and spec is not None and spec.own_file is not None:
        weights = spec.own_file()
    if weights is not None and _is_ours(weights):
        tensors, config = load_tensors(weights)
        if config.get("network") != name:
            raise ModelError(f"{weights} does not hold the network {name}; give its own file.")
        return features_from_state(tensors, config, str(weights))
    with NETWORKS.blaming(name):
        return _published(name, spec, weights)


def network_spec(name: str) -> NetworkSpec | None:
    """Say what a network is; None for ``timm:<model>``, which only timm knows.

    Raises
    ------
    UsageError
        The name is unknown.
    PluginError
        The package that brings the network is broken.
    """
    if name.startswith(PREFIX):
        return None
    if name.startswith(EXTERNAL):
        return external_spec()
    if name not in NETWORKS:
        known = dict.fromkeys((*FEATURES, *NETWORKS.foreign()))
        raise UsageError(f"There is no network {name!r}; choose one of {', '.join(known)}.")
    with NETWORKS.blaming(name):
        return NETWORKS.get(name)()


def working_precision(name: str, device: torch.device | str) -> torch.dtype:
    """Choose the number format in which a network trains, calibrates and scores on a device."""
    spec = network_spec(name)
    if spec is not None and spec.float32:
        return torch.float32
    return fast_precision(device)


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
    if not name.startswith((PREFIX, EXTERNAL)) and name not in NETWORKS:
        raise ModelError(
            f"{source} uses the network {name!r}, which neither this version of wsi-anomaly nor an "
            "installed package brings; install what made it."
        )
    network = _untrained(
        name,
        scaling=scaling,
        layers=layers,
        default=default,
        source=source,
        layer_scale=has_layer_scale(tensors),
    )
    network.load_state(tensors, source)
    return network


def _untrained(
    name: str,
    *,
    scaling: InputScaling | None = None,
    layers: tuple[str, ...] | None = None,
    default: str | None = None,
    source: str = "",
    layer_scale: bool = False,
) -> PerceptualNetwork:
    # The weights drawn here are overwritten; the caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]):
        spec = network_spec(name)
        if spec is None:
            stages, own = timm_network(name, layer_scale=layer_scale)
            own_default = _middle(stages)
        else:
            with NETWORKS.blaming(name):
                stages, own, own_default = spec.stages(), spec.scaling, spec.default_layer
        of_tissue = spec is not None and spec.of_tissue
    if layers is not None:
        known = tuple(stage.name for stage in stages[: len(layers)])
        if not layers or layers != known or default not in layers:
            raise ModelError(f"{source} does not fit the network {name}: it has other layers.")
        stages = stages[: len(layers)]
    return PerceptualNetwork(
        name, stages, scaling or own, default or own_default, of_tissue=of_tissue
    )


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
        if reason := why_unreadable(path):
            raise ModelError(f"{path} cannot be read ({reason}); look at its disk.") from error
        raise ModelError(f"{path} is damaged; copy it again.") from error


def published_weights(name: str, spec: NetworkSpec, path: Path | None) -> Mapping[str, Tensor]:
    """Weights of a network of ours as others publish them, under their names.

    Raises
    ------
    ModelError
        None are published, or they cannot be had.
    """
    if path is not None:
        return read_weights(path)
    if spec.published is None:
        raise ModelError(
            f"No weights of the network {name} are published; give a file with --feature-weights."
        )
    return spec.published()


def _published(name: str, spec: NetworkSpec | None, path: Path | None) -> PerceptualNetwork:
    """Build the network with weights as others publish them."""
    if spec is None:
        weights = read_weights(path) if path else None
        with torch.random.fork_rng(devices=[]):
            stages, scaling = timm_network(name, pretrained=True, weights=weights)
        return PerceptualNetwork(name, stages, scaling, _middle(stages))
    source = "What is published" if path is None else str(path)
    found = published_weights(name, spec, path)
    scaling = spec.scaling if spec.scaling_of is None else spec.scaling_of(found)
    statistics = shipped_statistics(name, found)
    layers = None
    if spec.depth_of is not None:  # a file that ends early gives a network that does
        layers = tuple(stage.name for stage in spec.stages()[: spec.depth_of(found)])
    network = _untrained(name, scaling=scaling, layers=layers, default=spec.default_layer)
    if spec.convert is not None:
        with torch.random.fork_rng(devices=[]):
            found = spec.convert(found, source)
    network.load_state({**found, **statistics}, source)
    return network

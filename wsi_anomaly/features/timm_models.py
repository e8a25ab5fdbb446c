"""Any network of timm (an extra) that gives feature maps: ``timm:resnet50`` and the like.

Layers carry the names of timm's modules, with ``_`` for ``.``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import InputScaling
from wsi_anomaly.features.weights import no_download

PREFIX = "timm:"


def import_timm(name: str) -> Any:
    """Import timm, which the network `name` needs.

    Raises
    ------
    ModelError
        It is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f'{name} needs the extra package timm: pip install "wsi-anomaly[timm]".'
        ) from error
    return timm


def has_layer_scale(keys: Iterable[str]) -> bool:
    """Whether tensors of these names scale the branches of a transformer's blocks (LayerScale)."""
    return any(key.endswith("ls1.gamma") for key in keys)


def timm_network(
    name: str,
    *,
    pretrained: bool = False,
    weights: Mapping[str, Tensor] | None = None,
    layer_scale: bool = False,
) -> tuple[list[Stage], InputScaling]:
    """Layers and input scaling of ``timm:<model>``.

    Parameters
    ----------
    name : str
        ``timm:`` and timm's name of the model.
    pretrained : bool
        Take `weights`, or without them timm's own download; otherwise they are random.
    weights : mapping, optional
        A state_dict of the model: all of it is used but the classifier, and nothing is missing.
    layer_scale : bool
        Give the blocks LayerScale, where the model has none; on with weights that hold it.

    Raises
    ------
    ModelError
        timm is not installed, does not know the model, cannot cut it into layers, or the weights
        are missing or another model's.
    """
    timm = import_timm(name)
    model = name.removeprefix(PREFIX)
    if not timm.is_model(model.split(".")[0]):
        raise ModelError(f"timm knows no model {model!r}; timm.list_models() lists those it has.")
    network = _create(model)
    layer_scale = layer_scale or has_layer_scale(weights or ())
    options: dict[str, Any] = {}
    if layer_scale and not has_layer_scale(network.state_dict()):
        options["init_values"] = 1.0
        network = _create(model, **options)
    if pretrained and weights is None:
        try:
            network = _create(model, pretrained=True)
        except Exception as error:  # the hub's client raises errors of several libraries
            raise no_download(name, error) from error
    elif weights is not None:
        network = _filled(name, weights, options)
    config: Any = network.pretrained_cfg
    return _stages(network), InputScaling(tuple(config["mean"]), tuple(config["std"]))


def _filled(name: str, weights: Mapping[str, Tensor], options: dict[str, Any]) -> nn.Module:
    """Build the network with these weights, or refuse them."""
    model = name.removeprefix(PREFIX)
    damaged = [k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if damaged:
        raise ModelError(f"The weights of {name} are damaged: {damaged[0]} holds NaN or infinity.")
    reason: Exception | None = None
    found = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(weights)}}
    try:
        _load_whole(model, weights, options)
        network = _create(model, **found, **options)
        if _same(network, _create(model, **found, **options)):
            return network
    except Exception as error:  # noqa: BLE001 - timm's filters fail on other models' files in many ways
        reason = error
    raise ModelError(
        f"The weights do not fit the network {name}; give the file of this very model."
    ) from reason


def _load_whole(model: str, weights: Mapping[str, Tensor], options: dict[str, Any]) -> None:
    """Raise an error unless every tensor but the classifier's has its place in the whole model.

    What gives the layers is a part of the model, and timm passes over tensors that it lacks.
    """
    import timm

    config: Any = timm.get_pretrained_cfg(model)
    heads = (config.classifier,) if isinstance(config.classifier, str) else config.classifier or ()
    body = {
        key: value
        for key, value in weights.items()
        if not any(key.startswith(f"{head}.") for head in heads)
    }
    overlay = {"state_dict": body, "num_classes": 0}
    timm.create_model(
        model, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options
    )


def _create(model: str, **options: Any) -> nn.Module:
    import timm

    reason: Exception | None = None
    # Transformers take tiles of another size than they were trained on only when asked to.
    sizes: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for size in sizes:
        try:
            network: nn.Module = timm.create_model(model, features_only=True, **size, **options)
            if str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC"):
                # timm's getter turns channels-last activations round.
                return _create(model, feature_cls="getter", **options)
        except TypeError as error:
            reason = error
            continue
        except (RuntimeError, AssertionError, AttributeError) as error:
            if options.get("pretrained"):
                raise
            reason = error
            break
        return network
    raise ModelError(
        f"timm cannot cut {model} into layers; choose one that supports features_only."
    ) from reason


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks agree everywhere.

    timm passes over weights that are missing from a file. What the file did not give is drawn at
    random, and differs between two loads.
    """
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


def _stages(network: Any) -> list[Stage]:
    from timm.models._features import FeatureDictNet

    network.eval()
    if not isinstance(network, FeatureDictNet):
        # One module gives all layers at once; the others only pass them on.
        names = [str(name).replace(".", "_") for name in network.feature_info.module_name()]
        return [Stage(name, network if i == 0 else nn.Identity()) for i, name in enumerate(names)]
    stages, modules = [], nn.Sequential()
    for name, module in network.items():
        modules.append(module)
        if name in network.return_layers:
            stages.append(Stage(name, modules))
            modules = nn.Sequential()
    return stages

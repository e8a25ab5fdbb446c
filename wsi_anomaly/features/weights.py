"""Weights of published networks, from a file or a download; nothing in them is ever executed."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.core.tensors import load_tensors

_LARGEST_BYTES = 8 << 30  # a zip of zeros can be a thousandth of what it unpacks to


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a ``.safetensors``, an ``.npz`` or a PyTorch file (``.pth``, ``.pt``).

    A PyTorch file is a pickle: it is opened in PyTorch's restricted mode, in which tensors and
    plain containers exist and nothing else.

    Raises
    ------
    ModelError
        The file is missing, damaged, or holds something other than tensors.
    """
    try:
        found = _read(path)
    except Exception as error:  # a damaged file fails in as many ways as there are readers
        if not path.is_file():
            raise ModelError(f"There are no weights in {path}; check the path.") from error
        raise ModelError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors; give "
            "the file that torchvision or timm publishes, or a .safetensors file."
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ModelError(
            f"{path} holds something other than a network's tensors by name; give a state_dict."
        )
    return {str(name): value.detach() for name, value in found.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            if sum(entry.file_size for entry in archive.zip.infolist()) > _LARGEST_BYTES:
                raise ValueError("it unpacks to more than any network has")
            return {name: torch.from_numpy(archive[name].astype(np.float32)) for name in archive}
    return torch.load(path, map_location="cpu", weights_only=True)


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of a network's convolutions, whatever format their numbers are stored in."""
    found = hashlib.sha256()
    for key in sorted(key for key, value in weights.items() if value.ndim == 4):
        found.update(weights[key].float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def shipped_statistics(network: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Per-filter statistics that ship for these very weights, by ``<layer>.filter_mean`` and so on.

    None for others: statistics belong to the weights that they were measured with.
    """
    path = models_folder() / f"{network}-statistics.safetensors"
    if not path.is_file():
        return {}
    tensors, about = load_tensors(path)
    return dict(tensors) if about.get("weights") == digest_of(weights) else {}


def download(network: str, weights: Any) -> dict[str, Tensor]:
    """Weights that torchvision publishes, by its own download into its own cache.

    Parameters
    ----------
    network : str
        Our name of the network, for the message.
    weights : torchvision.models.WeightsEnum
        Member that says which file.

    Raises
    ------
    ModelError
        No connection, or the file that came is not the published one.
    """
    try:
        found: dict[str, Tensor] = weights.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise no_download(network, error) from error
    return found


def no_download(network: str, error: Exception) -> ModelError:
    """Return the error that names both ways to get weights."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return ModelError(
        f"The weights of {network} could not be downloaded ({reason}): connect this machine to "
        "the internet, or give the published file with --feature-weights FILE."
    )

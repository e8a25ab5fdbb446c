"""Tensors with JSON metadata in one safetensors file: nothing in it can execute.

Models, checkpoints and weights are all stored this way. This module alone of ``core`` needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.files import atomic_file, canonical_json
from wsi_anomaly.core.reading import why_unreadable


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser (Adam's moments and step counts) as flat tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{key}": torch.as_tensor(value)
        for index, entry in state.items()
        for key, value in entry.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave; other keys are ignored."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors with JSON metadata to one safetensors file, atomically."""
    ready = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_file(path) as partial:
        # Not save_file: what it makes is readable for its owner alone, whatever the umask.
        partial.write_bytes(save(ready, metadata={"json": canonical_json(metadata)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises
    ------
    ModelError
        The file is missing, damaged, or cannot be read.
    """
    import json

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["json"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (
        OSError, KeyError, ValueError, RecursionError, safetensors.SafetensorError,
    ) as error:  # fmt: skip
        if path.exists() and (reason := why_unreadable(path)):
            raise ModelError(
                f"{path} cannot be read ({reason}); look at its permissions and its disk."
            ) from error
        raise ModelError(
            f"{path} is missing or damaged; copy it again, or delete it and train again."
        ) from error

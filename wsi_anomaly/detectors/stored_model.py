"""The files of a model folder: what they are called, and whether they belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.files import remove_left_behind
from wsi_anomaly.core.registry import Registry
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.detectors.base import DETECTORS
from wsi_anomaly.features import NETWORKS
from wsi_anomaly.features.external import EXTERNAL

FORMAT = "wsi-anomaly-model"
VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Models of version 1 judge tiles only."""
DESCRIPTION, NUMBERS, CARD = "model.json", "model.safetensors", "README.md"


def read_stored(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the description of a model and its tensors by name.

    Raises
    ------
    ModelError
        The folder is missing, incomplete, damaged, or of another version.
    """
    if not folder.is_dir():
        # Killed in the instant between the old model and the new: the old one comes back.
        remove_left_behind(folder.parent, folder.name)
    if not folder.is_dir():
        raise ModelError(
            f"There is no model in {folder}; train one with wsi-anomaly train, or give another "
            "folder with --model."
        )
    for name in (DESCRIPTION, NUMBERS):
        if not (folder / name).is_file():
            raise ModelError(f"The model in {folder} lacks {name}; copy the whole folder again.")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise ValueError("it has another format")
        version = int(description["version"])
        if version not in READABLE_VERSIONS:
            raise ModelError(
                f"The model in {folder} has version {version}, this program reads {VERSION}; "
                "train it again, or install the version of wsi-anomaly that made it."
            )
        expected = str(description["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{folder / DESCRIPTION} describes no model of wsi-anomaly ({error}); copy the whole "
            "folder again."
        ) from error
    if hashlib.sha256((folder / NUMBERS).read_bytes()).hexdigest() != expected:
        raise ModelError(
            f"{folder / NUMBERS} does not belong to its {DESCRIPTION}, or is damaged; copy the "
            "whole folder again."
        )
    tensors, _ = load_tensors(folder / NUMBERS)
    return description, tensors


def packages_of(network: str, detectors: Iterable[str]) -> dict[str, str]:
    """Name the packages that bring a network and detectors, by their names; ours need none."""
    return {
        name: package
        for registry, names in ((NETWORKS, [network]), (DETECTORS, detectors))
        for name in names
        if (package := registry.package(name))
    }


def refuse_missing(description: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model that needs a network or detector that nothing here brings."""
    network = str(description["features"]["network"])
    needed: list[tuple[Registry[Any], str]] = [(NETWORKS, network)]
    needed += [(DETECTORS, str(name)) for name in description["detectors"]]
    for registry, name in needed:
        if name not in registry and not name.startswith(("timm:", EXTERNAL)):
            package = dict(description.get("packages", {})).get(name)
            remedy = (
                f"install the package {str(package)[:80]!r}"
                if package
                else "install the version of wsi-anomaly or the package that made it"
            )
            raise ModelError(
                f"The model in {folder} needs the {registry.kind} {name!r}, which is not installed "
                f"here; {remedy}."
            )

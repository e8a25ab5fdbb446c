"""Files that ship with the package."""

from __future__ import annotations

from pathlib import Path

from wsi_anomaly.core.errors import ModelError


def models_folder() -> Path:
    """Folder of the shipped models: inside an installed wheel, or beside the package in a clone.

    Raises
    ------
    ModelError
        The installation lacks it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_models", package.parent / "models"):
        if folder.is_dir():
            return folder
    raise ModelError("The shipped models are missing from this installation; install it again.")

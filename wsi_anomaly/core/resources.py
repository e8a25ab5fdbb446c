"""Files that ship with the package, and the model that is meant where none is named."""

from __future__ import annotations

from pathlib import Path

from wsi_anomaly.core.errors import ModelError

DEFAULT_MODEL = Path("model")
NO_MODEL = "none"
"""In place of a model's folder: none, though there is ``model/``."""


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


def trained_model(folder: str | Path | None) -> Path | None:
    """Folder of the model to score with: the one asked for, or ``model/``; None: there is none.

    Nor is there where :data:`NO_MODEL` is asked for, and no folder has that name.
    """
    if folder is not None:
        return None if str(folder) == NO_MODEL and not Path(folder).exists() else Path(folder)
    return DEFAULT_MODEL if DEFAULT_MODEL.is_dir() else None


def find_model(folder: str | Path | None) -> Path:
    """Folder of the model to calibrate: the one asked for, ``model/``, or a shipped one.

    Raises
    ------
    ModelError
        There is none.
    """
    if folder is not None:
        return Path(folder)
    if DEFAULT_MODEL.is_dir():
        return DEFAULT_MODEL
    shipped = sorted(file.parent for file in models_folder().glob("*/model.json"))
    if shipped:
        return shipped[0]
    raise ModelError(
        "There is no model: train one with 'wsi-anomaly train' (it writes model/), or give its "
        "folder with --model."
    )


def own_folder(model: Path) -> Path:
    """Folder to write a changed model to: its own, but ``model/`` for a shipped one."""
    return DEFAULT_MODEL if models_folder() in model.resolve().parents else model

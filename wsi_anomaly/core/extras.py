"""Packages that only some installations have: the extras of ``pyproject.toml``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from wsi_anomaly.core.errors import UsageError


def import_extra(module: str, extra: str, what: str) -> Any:
    """Import a package of an extra.

    Raises
    ------
    UsageError
        It is not installed; the sentence says that `what` needs it, and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{what} needs {module.partition('.')[0]}, which is not installed: pip install "
            f'"wsi-anomaly[{extra}]".'
        ) from error

"""A place for what libraries keep from one start to the next (numba, matplotlib, PyTorch)."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_PLACES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")


def provide_caches() -> bool:
    """See that libraries have a place; without a home that can be written, until we end.

    matplotlib refuses to start when there is no home. Processes of ours share the place.

    Returns
    -------
    bool
        Whether it stays.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return "wsi-anomaly-caches-" not in folder.name
    except (OSError, RuntimeError):  # no such user, or not to be written
        pass
    try:
        made = tempfile.mkdtemp(prefix="wsi-anomaly-caches-")
    except OSError:
        return False  # they do without, as far as they can
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    os.environ.update(dict.fromkeys(_PLACES, made))
    return False

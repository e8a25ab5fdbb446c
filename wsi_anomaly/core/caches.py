"""A place for what libraries keep from one start to the next (numba, matplotlib, PyTorch)."""

from __future__ import annotations

# pathlib, shutil and tempfile would double the time of `import wsi_anomaly`.
# ruff: noqa: PTH103, PTH108, PTH111, PTH117, PTH118, PTH119
import os

_PLACES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")


def provide_caches() -> bool:
    """See that libraries have a place; without a home that can be written, until we end.

    matplotlib refuses to start when there is no home. Processes of ours share the place.

    Returns
    -------
    bool
        Whether it stays.
    """
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    probe = os.path.join(folder, f".wsi-anomaly-{os.getpid()}")
    try:
        if not os.path.isabs(folder):
            raise OSError("no such user")
        os.makedirs(folder, exist_ok=True)
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY))
        os.unlink(probe)
        return "wsi-anomaly-caches-" not in os.path.basename(folder)
    except OSError:  # no such user, or not to be written
        pass
    import atexit
    import shutil
    import tempfile

    try:
        made = tempfile.mkdtemp(prefix="wsi-anomaly-caches-")
    except OSError:
        return False  # they do without, as far as they can
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    os.environ.update(dict.fromkeys(_PLACES, made))
    return False

"""Whether a file can be read at all: only then may its content be called damaged."""

from __future__ import annotations

import os
from pathlib import Path


def why_unreadable(path: str | os.PathLike[str]) -> str | None:
    """Say in the system's words why a file, or one below a folder, cannot be read; None: it can.

    Reads every byte, so it is for files that something has already failed on.
    """
    try:
        if not Path(path).is_dir():
            _read(path)
            return None
        for folder, _, names in os.walk(path, onerror=_raise):
            for name in names:
                _read(Path(folder, name))
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _read(path: str | os.PathLike[str]) -> None:
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def _raise(error: OSError) -> None:
    raise error

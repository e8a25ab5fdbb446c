"""Whether a file can be read at all: only then may its content be called damaged."""

from __future__ import annotations

import os
from pathlib import Path

_MOST_FILES, _FIRST_BYTES = 1000, 1 << 16


def why_unreadable(path: str | os.PathLike[str]) -> str | None:
    """Say in the system's words why a file, or one below a folder, cannot be read; None: it can.

    The first bytes of each file are tried, of so many files at most: a stranger's folder may claim
    any number of files of any size.
    """
    try:
        if not Path(path).is_dir():
            _read(path)
            return None
        tried = 0
        for folder, _, names in os.walk(path, onerror=_raise):
            for name in names[: _MOST_FILES - tried]:
                _read(Path(folder, name))
            tried += len(names)
            if tried >= _MOST_FILES:
                break
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _read(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        return  # a pipe would be waited for
    with open(path, "rb") as file:
        file.read(_FIRST_BYTES)


def _raise(error: OSError) -> None:
    raise error

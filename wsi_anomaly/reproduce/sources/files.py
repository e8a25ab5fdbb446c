"""Finding files below a folder."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path


def files_below(folder: Path, suffixes: Container[str]) -> list[Path]:
    """Files with one of the suffixes (lower case), sorted; linked folders are followed.

    Hidden files and folders are passed over; so is a link back to a folder that it lies in.
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        above = {here.resolve(), *here.resolve().parents}
        folders[:] = [
            f for f in folders if not f.startswith(".") and (here / f).resolve() not in above
        ]
        found += [
            here / name
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes
        ]
    return sorted(found)

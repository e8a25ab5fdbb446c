"""Finding and opening files of a data set."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

from PIL import Image

from wsi_anomaly.core.errors import UsageError


def open_image(path: Path, mode: str, remedy: str) -> Image.Image:
    """Decode an image whole, "RGB" or "L".

    Raises
    ------
    UsageError
        It is no readable image; the sentence ends with the remedy.
    """
    try:
        with Image.open(path) as opened:
            return opened.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is no readable image; {remedy}.") from error


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

"""Names of files: as text, and as names of the outputs of a slide."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

# A disk takes 255 bytes; suffixes, and what a partial name adds, need some of them.
_LONGEST_NAME = 190
_OF_A_FOLDER = (".html", ".csv")  # names of what stands beside the outputs of slides


def as_text(name: str) -> str:
    """Name of a file as text that can be written anywhere.

    Disks keep names as bytes. Those of other encodings than UTF-8 (an old Latin-1 archive) are
    shown by their number, as in addresses: ``Pr%E4parat``.
    """
    if name.isascii():
        return name
    return "".join(f"%{ord(c) & 0xFF:02X}" if "\ud800" <= c <= "\udfff" else c for c in name)


def output_name(path: str | os.PathLike[str]) -> str:
    """Name for the outputs of a slide: its file name without suffix and without leading dots.

    A slide may be called ``..tif``: its outputs must neither be hidden nor climb out of their
    folder, nor take the place of a table or a page there. A DeepZoom tree is often called
    ``HE.dzi`` in a folder of its case, which then is part of the name. A name so long that no file
    could be called after it is cut short, and marked.
    """
    path = Path(path)
    name = as_text(path.stem).lstrip(".") or "slide"
    above = as_text(path.absolute().parent.name).lstrip(".")
    if path.suffix.lower() == ".dzi" and above:
        name = f"{above}-{name}"
    if name.lower().endswith(_OF_A_FOLDER):
        name += "-slide"
    if len(name.encode()) > _LONGEST_NAME:
        mark = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore") + "-" + mark
    return name


def same_on_disk(name: str) -> str:
    """Give what two names have in common that some disks take for one: case and accents' form."""
    return unicodedata.normalize("NFC", name).casefold()

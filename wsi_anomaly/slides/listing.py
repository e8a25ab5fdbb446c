"""Which slides lie in folders, and what else does: every file of an archive is accounted for.

The pieces of a slide of several files are the slide: its line is theirs.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import PluginError, UsageError
from wsi_anomaly.core.remote import is_remote
from wsi_anomaly.slides.dicom import is_dicom_slide, parts_of_slides
from wsi_anomaly.slides.manifest import is_manifest, read_manifest
from wsi_anomaly.slides.opening import SLIDE_SUFFIXES, may_be_dicom, reader_by_suffix

PART = "part of another slide"
NO_SLIDE = "not a slide"
NOT_READ = "not read"

_DICOM_SUFFIXES = ("", ".dicom", ".ima")
_MOST_OF_A_FOLDER = 1000  # files that are no slides; more of them share a line


@dataclass(frozen=True)
class Other:
    """A file or folder that is no slide of its own.

    Attributes
    ----------
    path
        Where it lies.
    status
        :data:`PART` (a second file of a slide, or a piece that is not read with it),
        :data:`NO_SLIDE`, or :data:`NOT_READ`: there may be slides in it.
    reason
        Why, for people; "" where the status says all.
    """

    path: Path
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Listing:
    """All that lies among files and folders.

    Attributes
    ----------
    slides
        Sorted, each once.
    others
        Everything else in the folders, sorted.
    """

    slides: tuple[Path, ...]
    others: tuple[Other, ...]

    def missed(self) -> list[str]:
        """Sentences about what may hold slides and could not be looked at."""
        return [
            f"{other.path} was not searched for slides: {other.reason}."
            for other in self.others
            if other.status == NOT_READ
        ]


def find_slides(paths: Iterable[str | Path]) -> list[Path]:
    """Slides among files and folders: folders are searched, a file or address is taken as it is.

    A table (``.csv``, ``.tsv``) gives the slides that it names.

    A slide of several files (DICOM) is one slide, named by the file of its finest level.

    Returns
    -------
    Sorted, each once.

    Raises
    ------
    UsageError
        A path does not exist, or there is no slide at all.
    """
    return list(list_slides(paths).slides)


def list_slides(paths: Iterable[str | Path]) -> Listing:
    """Find slides as :func:`find_slides` does, and say of every other file what it is.

    Links to folders are followed, each folder is searched once.

    Raises
    ------
    UsageError
        A path does not exist, or there is no slide at all.
    """
    places = [slide for path in paths for slide in _named_by(Path(path))]
    found: dict[Path, Path] = {}
    others: list[Other] = []
    searched: set[tuple[int, int]] = set()
    for place in places:
        if is_remote(place):
            found.setdefault(place, place)
        elif place.is_dir():
            for file in _search(place, searched):
                if isinstance(file, Other):
                    others.append(file)
                    continue
                first = found.setdefault(file.resolve(), file)
                if first != file:
                    others.append(Other(file, PART, f"the same file as {first}"))
        elif place.exists():
            found.setdefault(place.resolve(), place)
        else:
            raise UsageError(f"{place} does not exist; give slides or folders of slides.")
    parts = parts_of_slides(file for file in found.values() if may_be_dicom(file))
    others += [
        Other(file, PART, _not_read_with(whole))
        for file, whole in parts.items()
        if file.parent != whole.parent
    ]
    slides = tuple(sorted(file for file in found.values() if file not in parts))
    listing = Listing(slides, tuple(_in_lines(others)))
    if not found:
        names = ", ".join(str(path) for path in places) or "nothing"
        why = "; ".join(listing.missed()[:3]) or f"slides end in {' '.join(sorted(SLIDE_SUFFIXES))}"
        raise UsageError(f"No slide in {names}; {why.rstrip('.')}.")
    return listing


def _named_by(place: Path) -> Iterable[Path]:
    return read_manifest(place).rows if is_manifest(place) else [place]


def _not_read_with(whole: Path) -> str:
    return f"of {whole}, which is read without it: put all files of a series into one folder"


def _search(top: Path, searched: set[tuple[int, int]]) -> Iterator[Path | Other]:
    """Files of a folder that are slides by their name, and what else is there."""
    # Behind links comes last: a slide is named by where it lies, not by a link to it.
    folders, linked = deque([top]), deque[Path]()
    while folders or linked:
        folder = (folders or linked).popleft()
        try:
            is_now = folder.stat()
            if (is_now.st_dev, is_now.st_ino) in searched:
                continue  # links may lead in a circle
            searched.add((is_now.st_dev, is_now.st_ino))
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            yield Other(folder, NOT_READ, f"it cannot be opened ({error.strerror or error})")
            continue
        names = {entry.name for entry in entries}
        if {"summary.json", "scores.zarr"} <= names:
            yield Other(folder, NO_SLIDE, "results of wsi-anomaly")
            continue
        for entry in entries:
            if _is_of_slide_beside(folder / entry.name, names):
                continue
            found = _looked_at(entry, folder)
            if found is not None:
                yield found
            else:
                (linked if entry.is_symlink() else folders).append(folder / entry.name)


def _looked_at(entry: os.DirEntry[str], folder: Path) -> Path | Other | None:
    """Tell what an entry of a folder is; None for a folder to be searched."""
    path = folder / entry.name
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError:  # a link to itself, a disk that does not answer
        is_folder = is_file = False
    if entry.name.startswith("."):
        return Other(path, NO_SLIDE, "hidden")
    if is_folder:
        return None
    if is_file:
        return path if _is_slide(path) else Other(path, NO_SLIDE)
    if entry.is_symlink():
        return Other(path, NOT_READ, "the link leads nowhere")
    return Other(path, NO_SLIDE, "no file")


def _is_of_slide_beside(path: Path, beside: set[str]) -> bool:
    """Whether it is the folder with the pixels of a slide among the files beside it."""
    name = path.name
    if name.endswith("_files") and f"{name.removesuffix('_files')}.dzi" in beside:
        return path.is_dir()
    return f"{name}.mrxs" in beside and (path / "Slidedat.ini").exists()


def _is_slide(file: Path) -> bool:
    suffix = file.suffix.lower()
    try:
        if suffix in SLIDE_SUFFIXES or reader_by_suffix(file) is not None:
            return True
    except PluginError:  # a broken package does not keep folders from being searched
        return False
    # DICOM has no suffix of its own; archives name its files by numbers.
    return (suffix in _DICOM_SUFFIXES or suffix[1:].isdigit()) and is_dicom_slide(file)


def _in_lines(others: Iterable[Other]) -> list[Other]:
    """Sort them; of a folder with thousands that are no slides only their number is kept."""
    each = sorted(others, key=lambda other: other.path)
    counts = Counter(other.path.parent for other in each if other.status == NO_SLIDE)
    many = {folder: n for folder, n in counts.items() if n > _MOST_OF_A_FOLDER}
    kept = [o for o in each if o.status != NO_SLIDE or o.path.parent not in many]
    kept += [Other(folder, NO_SLIDE, f"{n:,} files in it") for folder, n in many.items()]
    return sorted(kept, key=lambda other: other.path)

"""A manifest: one table of a study's slides, with what is known of each.

Its column ``slide`` names files, relative to the table. Further columns may be there, and any
of their cells may be empty: ``case`` (or ``animal``), ``mpp``, ``label``, ``group``, ``organ``,
``mask``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import NotASlideError, UsageError
from wsi_anomaly.core.remote import check_may_connect, is_remote
from wsi_anomaly.core.slide_names import is_abnormal, mpp_of_row
from wsi_anomaly.core.tables import Row, read_table
from wsi_anomaly.core.wording import some

SUFFIXES = (".csv", ".tsv")
COLUMNS = ("case", "mpp", "label", "group", "organ", "mask")
"""What may be known of a slide, as the columns are called beside ``slide``."""

_FILES = ("slide", "mask")  # columns that name them


@dataclass(frozen=True)
class Manifest:
    """A table and the slides that it names.

    Attributes
    ----------
    path
        The table.
    rows
        Line of each slide, in the order of the table.
    """

    path: Path
    rows: Mapping[Path, Row]

    def has(self, column: str) -> bool:
        """Whether any slide has a cell of this column filled in."""
        return any(row.get(column) for row in self.rows.values())

    def texts(self, column: str) -> dict[Path, str]:
        """Cells of a column, of the slides that have one filled in."""
        return {slide: row[column] for slide, row in self.rows.items() if row.get(column)}

    def sizes(self) -> dict[Path, float]:
        """Micrometres per pixel."""
        return {slide: mpp_of_row(row) for slide, row in self.rows.items() if row.get("mpp")}

    def masks(self) -> dict[Path, Path]:
        """Files that say where the tissue is."""
        return {slide: beside(self.path, text) for slide, text in self.texts("mask").items()}

    def abnormal(self) -> set[Path]:
        """Slides whose label says so."""
        return {slide for slide in self.texts("label") if is_abnormal(self.rows[slide])}

    def unused_columns(self) -> list[str]:
        """Columns that no manifest has, misspelt ones among them."""
        columns = next(iter(self.rows.values())).layout.columns
        return [name for name in columns if name and name not in ("slide", *COLUMNS)]


def is_manifest(path: Path) -> bool:
    """Whether a path, given in place of slides, is a table of them."""
    return path.suffix.lower() in SUFFIXES and not is_remote(path) and not path.is_dir()


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and see that everything in it is whole, before any work.

    Raises
    ------
    UsageError
        It cannot be read; a slide stands in it twice; a slide or mask does not exist; a size of
        pixels or a label cannot be.
    """
    rows = read_table(path, ("slide",), may_be_empty=COLUMNS, rename=_animals_are_cases)
    _see_that_files_exist(path, rows)
    by_file: dict[Path, Row] = {}
    of_slide: dict[Path, Row] = {}
    for row in rows:
        slide = beside(path, row["slide"])
        former = by_file.setdefault(slide if is_remote(slide) else slide.resolve(), row)
        if former is not row:
            raise UsageError(
                f"{path}, lines {former.line} and {row.line}, name one slide, as "
                f"{former['slide']} and as {row['slide']}; keep one of them."
            )
        of_slide[slide] = row
    manifest = Manifest(path, of_slide)
    manifest.sizes()
    manifest.abnormal()
    return manifest


def _animals_are_cases(names: tuple[str, ...]) -> tuple[str, ...]:
    if "case" in names:
        return names
    return tuple("case" if name == "animal" else name for name in names)


def beside(table: Path, name: str) -> Path:
    """Tell which file a table names: relative to the table, whichever way its slashes lean."""
    if is_remote(name):
        return Path(name)
    path = Path(name)
    if not _exists(table.parent / path) and "\\" in name:
        path = Path(name.replace("\\", "/"))
    return table.parent / path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no disk takes, a folder that may not be looked into
        return False


def _see_that_files_exist(path: Path, rows: Sequence[Row]) -> None:
    for column in _FILES:
        named = [(row, beside(path, row[column])) for row in rows if row.get(column)]
        missing = [
            f"{row[column]} (line {row.line})"
            for row, file in named
            if not is_remote(file) and not _exists(file)
        ]
        if missing:
            raise UsageError(
                f"{path} names {column}s that do not exist: {some(missing)}; mend the paths, which "
                "are relative to the table, or remove the lines."
            )
        for row, file in named:
            if is_remote(file):
                _check_address(path, row, file)
            elif file.is_dir():
                raise row.error(f"names the folder {row[column]} as a {column}; name a file in it")


def _check_address(path: Path, row: Row, address: Path) -> None:
    """See that connections to an address may be made though a file alone names it."""
    try:
        check_may_connect(address, path)
    except NotASlideError as error:
        raise UsageError(f"{path}, line {row.line}: {error}") from error

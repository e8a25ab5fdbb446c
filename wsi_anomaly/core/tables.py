"""Tables of text: one reader of those that people write, one writer of those that they open."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.file_names import as_text

MOST_BYTES = 100_000_000
_DELIMITERS = ("\t", ";", ",")  # the comma last: it also stands in numbers and in names
_JUDGED_LINES = 100  # by so many the delimiter of a table without a header is told
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the lines of a table have in common.

    Attributes
    ----------
    path
        The file.
    columns
        Names of the columns, in lower case.
    delimiter
        Tab, semicolon or comma.
    """

    path: Path
    columns: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; ``row["slide"]`` is the text of a cell.

    Attributes
    ----------
    layout
        Of its table.
    line
        Its number in the file, from 1.
    cells
        Texts, one for each column.
    """

    layout: Layout
    line: int
    cells: tuple[str, ...]

    def __getitem__(self, column: str) -> str:
        return self.cells[self.layout.columns.index(column)]

    def get(self, column: str) -> str:
        """Text of a cell; "" in a table without this column."""
        return self[column] if column in self.layout.columns else ""

    def number(self, column: str) -> float:
        """Give the number in a cell, written with a point or a decimal comma; nan is one.

        Raises
        ------
        UsageError
            It is none or infinite, or it may be a thousand or one, as 1,000 between commas.
        """
        text = self[column]
        if text.lower() == "nan":
            return math.nan
        if self.layout.delimiter != ";" and _THOUSANDS.fullmatch(text):
            raise self.error(
                f"gives the {column} as {text!r}, whose comma may part thousands or decimals; "
                "write it without one"
            )
        value = parse_number(text)
        if value is None:
            raise self.error(f"gives the {column} as {text!r}, which is no number; mend it")
        return value

    def error(self, says: str) -> UsageError:
        """Make the error about this line that a caller raises."""
        return UsageError(f"{self.layout.path}, line {self.line}, {says}.")


def parse_number(text: str) -> float | None:
    """Read a number written with a point or a decimal comma; None for what is none, or infinite.

    >>> parse_number("0,2500"), parse_number("2.5e-1"), parse_number("40x")
    (0.25, 0.25, None)
    """
    value = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def read_table(
    path: str | Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    may_be_empty: Sequence[str] = (),
    is_data: Callable[[Sequence[str]], bool] = lambda _first: False,
    rename: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda names: names,
) -> list[Row]:
    """Read a table with commas, semicolons or tabs, as editors and spreadsheets save it.

    UTF-8 or UTF-16, with or without a byte order mark, else Windows-1252. Cells may stand in
    quotes. The first line names the columns, in any order and any case; spaces around cells, blank
    lines and further columns do no harm.

    Parameters
    ----------
    path
        The file.
    required
        Columns that stand in every line, in lower case.
    optional
        Columns that the table may have; if it has them, they stand in every line too.
    may_be_empty
        Further ones that it may have, whose cells may be empty.
    is_data
        Whether a first line that does not name the columns is data; told its cells in lower case.
        Its first columns are then the required ones.
    rename
        Told the cells of the first line in lower case, gives what they are called here.

    Returns
    -------
    The lines below the header, at least one.

    Raises
    ------
    UsageError
        The file cannot be read, or a line lacks a cell; the sentence says which and what to do.
    """
    path = Path(path)
    wanted, further = ",".join(required), (*optional, *may_be_empty)
    wanted += f" (and {','.join(further)}, if there are such)" if further else ""
    text = _text(path, wanted)
    delimiter = _delimiter(text, required, rename)
    rows: list[Row] = []
    layout: Layout | None = None
    try:
        for number, cells in _lines(text, delimiter):
            if layout is None:
                names = rename(tuple(cell.lower() for cell in cells))
                headed = set(required) <= set(names)
                if not headed and not (len(cells) >= len(required) and is_data(names)):
                    raise UsageError(
                        f"{path} should begin with the line {wanted}, not "
                        f"{delimiter.join(cells)!r}; add or rename columns."
                    )
                if not headed:
                    more = range(len(required), len(names))
                    names = (*required, *(f"column {k + 1}" for k in more))
                while not names[-1]:  # spreadsheets write empty columns at the end
                    names = names[:-1]
                layout = Layout(path, names, delimiter)
                _check_columns(layout, (*required, *further))
                places = [names.index(n) for n in (*required, *optional) if n in names]
                if headed:
                    continue
            rows.append(_row(layout, number, cells, places))
    except csv.Error as error:
        raise UsageError(
            f"{path} cannot be read as a table ({error}); mend the quotes there."
        ) from error
    if not rows:
        raise UsageError(f"{path} holds no lines of {wanted}; add them.")
    return rows


def table_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Write a table as CSV that spreadsheets open: None is an empty cell, text is no formula."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for row in rows:
        cells = [safe_cell(value) for value in row]
        # The module takes a lone return for the end of a line, but does not quote it by itself.
        (quoted if any("\r" in str(cell) for cell in cells) else plain).writerow(cells)
    return text.getvalue()


def own_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table back that :func:`table_text` has written; none where it is not such a table."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            if next(lines, None) != list(columns):
                return []
            return [dict(zip(columns, map(plain_cell, line), strict=True)) for line in lines]
    except (OSError, ValueError, csv.Error):
        return []


def safe_cell(value: Any) -> Any:
    """Guard a text cell against being run as a formula by a spreadsheet; it can be written."""
    if not isinstance(value, str):
        return value
    return as_text(f"'{value}" if _FORMULA.match(value) else value)


def plain_cell(text: str) -> str:
    """Take the guard of :func:`safe_cell` away."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _text(path: Path, wanted: str) -> str:
    """Text of a file of any usual encoding, not too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror or error}); it should be a table with the "
            f"columns {wanted}."
        ) from error
    if len(data) > MOST_BYTES:
        raise UsageError(
            f"{path} is larger than {MOST_BYTES // 1_000_000} MB, too large for a table of "
            f"{wanted}; give it in parts."
        )
    for encoding in _encodings(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise UsageError(
        f"{path} is no text, so it cannot be read; save the table as CSV (UTF-8), with the columns "
        f"{wanted}."
    )


def _encodings(data: bytes) -> tuple[str, ...]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ("utf-16",)
    return ("utf-8-sig", "cp1252", "latin-1")


def _lines(text: str, delimiter: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Lines that are not blank, each with the number at which it begins; cells without spaces."""
    # Line by line: a StringIO would hold four bytes for each character once more.
    lines = (match[0] for match in _LINE.finditer(text))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            line = next(reader, None)
        except csv.Error as error:
            raise csv.Error(f"{error} in line {number}") from error
        if line is None:
            return
        cells = tuple(plain_cell(cell.strip()) for cell in line)
        if any(cells):
            yield number, cells


def _delimiter(
    text: str, required: Sequence[str], rename: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> str:
    """Find the delimiter under which the first line names the columns, else most lines suffice."""
    suffices = {}
    for delimiter in _DELIMITERS:
        count = 0
        try:
            for k, (_, cells) in enumerate(islice(_lines(text, delimiter), _JUDGED_LINES)):
                if k == 0 and set(required) <= set(rename(tuple(c.lower() for c in cells))):
                    return delimiter
                count += len(cells) >= len(required)
        except csv.Error:
            pass  # quotes that fit another delimiter
        suffices[delimiter] = count
    most = max(suffices.values())
    return next(d for d in _DELIMITERS if suffices[d] == most) if most else ","


def _check_columns(layout: Layout, known: Sequence[str]) -> None:
    """See that none of the columns that are read stands there twice."""
    twice = [name for name in known if layout.columns.count(name) > 1]
    if twice:
        raise UsageError(f"{layout.path} has two columns {twice[0]}; keep one of them.")


def _row(layout: Layout, number: int, cells: tuple[str, ...], places: Sequence[int]) -> Row:
    width = len(layout.columns)
    full = cells[:width] + ("",) * (width - len(cells))
    row = Row(layout, number, full)
    empty = [layout.columns[place] for place in places if not full[place]]
    if empty and len(cells) == width:
        raise row.error(f"gives no {' and no '.join(empty)}; fill it in")
    if empty or any(cells[width:]):
        names = ",".join(layout.columns)
        raise row.error(
            f"should give {names}, not {layout.delimiter.join(cells)!r}; mend or quote its cells"
        )
    return row

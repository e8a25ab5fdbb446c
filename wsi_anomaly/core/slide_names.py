"""Which slide a name in a table means: one rule for every table.

A name is a slide's file name or the end of its path, with or without the suffix: ``s1``,
``s1.tif`` and ``a/s1.tif`` all mean ``study/a/s1.tif``. What could mean two slides is an error,
unless it is the very path or the very file name of just one of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.remote import from_anywhere, url_of
from wsi_anomaly.core.tables import Row, read_table
from wsi_anomaly.core.wording import some

K = TypeVar("K")
T = TypeVar("T")

NORMAL_WORDS = ("0", "0.0", "normal", "negative", "healthy", "benign", "false", "none")
ABNORMAL_WORDS = (
    "1", "1.0", "abnormal", "anomalous", "positive", "tumor", "tumour", "lesion", "malignant",
    "true", "macro", "micro", "itc",
)  # fmt: skip
"""What a label may be, in any case; the last three are Camelyon17's."""

OWN_CASE = "each of them is a case of its own"


@dataclass(frozen=True)
class Entry(Generic[T]):
    """What a table says of one slide.

    Attributes
    ----------
    name
        What it calls the slide.
    value
        What it says.
    line
        Where, from 1; 0 where there are no lines.
    """

    name: str
    value: T
    line: int = 0


@dataclass(frozen=True)
class Matched(Generic[T]):
    """The entries of a table, given to slides.

    Attributes
    ----------
    values
        For each slide in the order given; None where the table does not name it.
    unknown
        Names in the table that mean none of the slides.
    """

    values: tuple[T | None, ...]
    unknown: tuple[str, ...]

    def by(self, keys: Sequence[K]) -> dict[K, T]:
        """Values by the slides' own keys, one for each slide; without the slides not named."""
        pairs = zip(keys, self.values, strict=True)
        return {key: value for key, value in pairs if value is not None}

    def mismatches(self, table: str, slides: Sequence[str], without: str = "") -> list[str]:
        """Say what does not match, a sentence each: a wrong name has no other effect.

        Parameters
        ----------
        table
            What the sentences call the table.
        slides
            What they call the slides.
        without
            What becomes of a slide that the table does not name; "": that is as it should be.
        """
        left = [slide for slide, v in zip(slides, self.values, strict=True) if v is None]
        said = []
        if self.unknown:
            said.append(f"{table} names what is not among the slides: {some(self.unknown)}.")
        if left and without:
            said.append(
                f"{table} does not name {len(left)} of {len(slides)} slides ({some(left)}); "
                f"{without}."
            )
        elif len(left) == len(slides):
            said.append(f"{table} names none of the slides, so it has no effect.")
        return said


def match(
    table: str | Path,
    entries: Iterable[Entry[T]],
    slides: Sequence[Path],
    aliases: Sequence[str] = (),
) -> Matched[T]:
    """Give each entry to the slide that it means.

    Parameters
    ----------
    table
        What errors call the table.
    entries
        In the order of the table.
    slides
        All slides among which a name must be unique.
    aliases
        Another name of each slide, such as that of its results.

    Raises
    ------
    UsageError
        An entry could mean two slides, or two entries contradict each other.
    """
    index = _index(slides, aliases)
    found: dict[int, Entry[T]] = {}
    unknown: list[str] = []
    for entry in entries:
        fitting = _fitting(index, entry.name)
        if not fitting:
            unknown.append(entry.name)
            continue
        if len(fitting) > 1:
            one, other = (url_of(slides[place]) for place in fitting[:2])
            raise UsageError(
                f"{_where(table, entry)} names the slide {entry.name}, which could be {one} or "
                f"{other}; write its folder too."
            )
        former = found.setdefault(fitting[0], entry)
        if former.value != entry.value:
            raise UsageError(
                f"{_where(table, former, entry)} give {url_of(slides[fitting[0]])} two values, "
                f"as {former.name} and as {entry.name}; keep one of them."
            )
    values = (found[place].value if place in found else None for place in range(len(slides)))
    return Matched(tuple(values), tuple(dict.fromkeys(unknown)))


def read_pixel_sizes(path: Path, slides: Sequence[Path]) -> Matched[float]:
    """Read lines of ``slide,mpp``: micrometres per pixel of slides, with or without a header.

    Raises
    ------
    UsageError
        The table cannot be read, or does not fit the slides.
    """
    rows = read_pairs(path, "slide", "mpp")
    return match(path, [Entry(row["slide"], mpp_of_row(row), row.line) for row in rows], slides)


def read_cases(path: Path, slides: Sequence[Path], aliases: Sequence[str] = ()) -> Matched[str]:
    """Read lines of ``slide,case``: the patient or animal of slides, with or without a header.

    Raises
    ------
    UsageError
        The table cannot be read, or does not fit the slides.
    """
    entries = [
        Entry(row["slide"], row["case"], row.line) for row in read_pairs(path, "slide", "case")
    ]
    return match(path, entries, slides, aliases)


def read_pairs(path: Path, name: str, value: str) -> list[Row]:
    """Read a table of two columns, with or without a header.

    Raises
    ------
    UsageError
        It cannot be read.
    """
    return read_table(path, (name, value), is_data=lambda first: len(first) == 2)


def is_abnormal(row: Row) -> bool:
    """Tell what the label of a line says.

    Raises
    ------
    UsageError
        It is none of the words that a label may be.
    """
    word = row["label"].lower()
    if word in NORMAL_WORDS or word in ABNORMAL_WORDS:
        return word in ABNORMAL_WORDS
    raise row.error(
        f"gives the label {row['label']!r}; write normal or abnormal (or 0 or 1) in its place"
    )


def mpp_of_row(row: Row) -> float:
    """Give the micrometres per pixel in a line.

    Raises
    ------
    UsageError
        It is no number, or no slide has such pixels.
    """
    value = row.number("mpp")
    if not 0.01 <= value <= 20:
        raise row.error(
            f"gives {row['slide']} {row['mpp']!r} um per pixel, which is not plausible; 40x is "
            "about 0.25"
        )
    return value


def _index(slides: Sequence[Path], aliases: Sequence[str]) -> tuple[Mapping[str, set[int]], ...]:
    """Places of the slides by what they may be called, the surest names first."""
    whole: dict[str, set[int]] = {}
    ends: dict[str, set[int]] = {}
    without_suffix: dict[str, set[int]] = {}
    for place, slide in enumerate(slides):
        path = _plain(str(from_anywhere(slide)))
        for name in (_plain(str(slide)), path):
            whole.setdefault(name, set()).add(place)
        for name in aliases[place : place + 1]:
            without_suffix.setdefault(_plain(name), set()).add(place)
        parts = path.split("/")
        stem = Path(parts[-1]).stem
        for first in range(len(parts)):
            ends.setdefault("/".join(parts[first:]), set()).add(place)
            without_suffix.setdefault("/".join([*parts[first:-1], stem]), set()).add(place)
    return whole, ends, without_suffix


def _fitting(index: Iterable[Mapping[str, set[int]]], name: str) -> list[int]:
    plain = _plain(name)
    return next((sorted(names[plain]) for names in index if plain in names), [])


def _plain(name: str) -> str:
    """Write a path in one way: it may come from Windows, from macOS, or from beside the slides."""
    text = unicodedata.normalize("NFC", as_text(name)).replace("\\", "/")
    return "/".join(part for part in text.split("/") if part not in ("", ".", ".."))


def _where(table: str | Path, *entries: Entry[T]) -> str:
    if not entries[0].line:
        return str(table)
    lines = " and ".join(str(entry.line) for entry in entries)
    return f"{table}, line{'s' if len(entries) > 1 else ''} {lines},"

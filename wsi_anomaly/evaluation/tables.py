"""Truth and scores that somebody has in a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.evaluation.labels import ABNORMAL, NORMAL

NORMAL_WORDS = ("0", "0.0", "normal", "negative", "healthy", "benign", "false", "none")
ABNORMAL_WORDS = (
    "1", "1.0", "abnormal", "anomalous", "positive", "tumor", "tumour", "lesion", "malignant",
    "true", "macro", "micro", "itc",
)  # fmt: skip
"""What a label may be, in any case; the last three are Camelyon17's."""

_FIELDS = ("slide", "x", "y", "label")
_SLIDES = ("slide", "label")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of slides, or of fields; one of the two is empty.

    Attributes
    ----------
    path
        The file.
    slides
        0 or 1 by the name that the file uses for a slide.
    fields
        By that name: (n, 2) level-0 top left corners, and (n,) labels.
    """

    path: Path
    slides: Mapping[str, int]
    fields: Mapping[str, tuple[NDArray[np.float64], NDArray[np.int8]]]

    @property
    def names(self) -> list[str]:
        """Names of the slides."""
        return [*self.slides, *self.fields]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores and labels from anywhere: (N,) each; `slide` numbers the entries without such."""

    slide: NDArray[np.str_]
    score: NDArray[np.float64]
    label: NDArray[np.int8]
    has_slides: bool


def read_labels(path: str | Path) -> LabelTable:
    """Read labels of slides (``slide,label``) or of fields (``slide,x,y,label``).

    Camelyon's ``reference.csv`` and ``stage_labels.csv`` are read as labels of slides: without a
    header, with further columns, and with lines for patients (``.zip``), which are passed over.

    Raises
    ------
    UsageError
        The file cannot be read, or a line makes no sense.
    """
    path = Path(path)
    lines = _lines(path, f"{','.join(_SLIDES)} or {','.join(_FIELDS)}")
    header, rows = [cell.lower() for cell in lines[0]], lines[1:]
    if {"x", "y"} <= set(header):
        return LabelTable(path, {}, _field_labels(path, header, rows))
    if "label" not in header:
        # Camelyon: the name stands first, its label next, below no header or one of its own.
        if len(header) > 1 and header[1] in (*NORMAL_WORDS, *ABNORMAL_WORDS):
            rows = lines
        elif header != ["patient", "stage"]:
            raise UsageError(
                f"{path} should begin with the line {','.join(_SLIDES)} or {','.join(_FIELDS)}, "
                f"not {','.join(lines[0])!r}; rename its columns."
            )
        rows = [row for row in rows if not row[0].lower().endswith(".zip")]
        header = list(_SLIDES)
    place = _columns(path, header, _SLIDES)
    slides: dict[str, int] = {}
    for row in rows:
        name, label = (_cell(path, row, k) for k in place)
        value = _label(path, label)
        if slides.setdefault(name, value) != value:
            raise UsageError(f"{path} gives {name} two labels; keep one line for it.")
    if not slides:
        raise UsageError(f"{path} names patients only, no slide; add a line for each slide.")
    return LabelTable(path, slides, {})


def read_scores(path: str | Path) -> ScoreTable:
    """Read ``score,label`` and, if there is one, ``slide``, in any order.

    Raises
    ------
    UsageError
        The file cannot be read, or a line makes no sense.
    """
    path = Path(path)
    lines = _lines(path, "slide,score,label")
    header, rows = [cell.lower() for cell in lines[0]], lines[1:]
    score, label = _columns(path, header, ("score", "label"))
    slide = header.index("slide") if "slide" in header else None
    return ScoreTable(
        np.array([str(i) if slide is None else _cell(path, r, slide) for i, r in enumerate(rows)]),
        np.array([_number(path, _cell(path, row, score)) for row in rows]),
        np.array([_label(path, _cell(path, row, label)) for row in rows], np.int8),
        slide is not None,
    )


def _field_labels(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int8]]]:
    slide, *xy, label = _columns(path, header, _FIELDS)
    found: dict[str, tuple[list[list[float]], list[int]]] = {}
    for row in rows:
        corners, labels = found.setdefault(_cell(path, row, slide), ([], []))
        corners.append([_number(path, _cell(path, row, k)) for k in xy])
        labels.append(_label(path, _cell(path, row, label)))
    return {
        name: (np.array(corners, np.float64), np.array(labels, np.int8))
        for name, (corners, labels) in found.items()
    }


def _lines(path: Path, columns: str) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(
            f"{path} cannot be read ({reason}); it should be a CSV file with the columns {columns}."
        ) from error
    lines = [line for line in lines if any(line)]
    if len(lines) < 2:
        raise UsageError(f"{path} holds no lines below its header {columns}; add them.")
    return lines


def _columns(path: Path, header: Sequence[str], names: Sequence[str]) -> list[int]:
    missing = [name for name in names if name not in header]
    if missing:
        raise UsageError(
            f"{path} has no column {' and '.join(missing)}, only {','.join(header)}; it should "
            f"hold {','.join(names)}."
        )
    return [list(header).index(name) for name in names]


def _cell(path: Path, row: Sequence[str], place: int) -> str:
    if place >= len(row) or not row[place]:
        raise UsageError(f"{path} has a line that is cut short: {','.join(row)!r}; fill it in.")
    return row[place]


def _number(path: Path, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise UsageError(f"{path} holds {text!r} where a number should stand; mend that line.")
    return value


def _label(path: Path, text: str) -> int:
    word = text.lower()
    if word in NORMAL_WORDS or word in ABNORMAL_WORDS:
        return NORMAL if word in NORMAL_WORDS else ABNORMAL
    raise UsageError(
        f"{path} holds the label {text!r}; write normal or abnormal (or 0 or 1) in its place."
    )

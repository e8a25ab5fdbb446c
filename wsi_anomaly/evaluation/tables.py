"""Truth and scores that somebody has in a CSV file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.slide_names import (
    ABNORMAL_WORDS,
    NORMAL_WORDS,
    OWN_CASE,
    Entry,
    is_abnormal,
    match,
    read_cases,
)
from wsi_anomaly.core.tables import Row, read_table
from wsi_anomaly.evaluation.folders import Result


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of slides, or of fields; one of the two is empty.

    Attributes
    ----------
    path
        The file.
    slides
        0 or 1 by the name of a result.
    fields
        By that name: (n, 2) level-0 top left corners, and (n,) labels.
    unknown
        Names in the table that are of none of the results.
    """

    path: Path
    slides: Mapping[str, int]
    fields: Mapping[str, tuple[NDArray[np.float64], NDArray[np.int8]]]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores and labels from anywhere: (N,) each; `slide` numbers the entries without such."""

    slide: NDArray[np.str_]
    score: NDArray[np.float64]
    label: NDArray[np.int8]
    has_slides: bool


def read_labels(path: str | Path, results: Sequence[Result]) -> LabelTable:
    """Read labels of slides (``slide,label``) or of fields (``slide,x,y,label``).

    Camelyon's ``reference.csv`` and ``stage_labels.csv`` are read as labels of slides: without a
    header, with further columns, and with lines for patients (``.zip``), which are passed over.

    Parameters
    ----------
    path
        The table; its names mean slides as :mod:`~wsi_anomaly.core.slide_names` says, or are those
        of results.
    results
        Of the slides that it may name.

    Raises
    ------
    UsageError
        The file cannot be read, a line makes no sense, or it names none of the slides.
    """
    path = Path(path)
    words = (*NORMAL_WORDS, *ABNORMAL_WORDS)
    rows = read_table(
        path,
        ("slide", "label"),
        ("x", "y"),
        # Camelyon: the name stands first, its label next, below no header or one of its own.
        is_data=lambda first: first[1] in words,
        rename=lambda names: ("slide", "label") if names == ("patient", "stage") else names,
    )
    rows = [row for row in rows if not row["slide"].lower().endswith(".zip")]
    if not rows:
        raise UsageError(f"{path} names patients only, no slide; add a line for each slide.")
    slides, names = [result.slide_path for result in results], [result.name for result in results]
    fields: dict[str, tuple[NDArray[np.float64], NDArray[np.int8]]] = {}
    of_slides: dict[str, int] = {}
    if {"x", "y"} <= set(rows[0].layout.columns):
        grouped: dict[str, list[Row]] = {}
        for row in rows:
            grouped.setdefault(row["slide"], []).append(row)
        blocks = [Entry(name, tuple(block), block[0].line) for name, block in grouped.items()]
        found = match(path, blocks, slides, names)
        fields = {name: _field_labels(block) for name, block in found.by(names).items()}
        unknown = found.unknown
    else:
        entries = [Entry(row["slide"], int(is_abnormal(row)), row.line) for row in rows]
        matched = match(path, entries, slides, names)
        of_slides, unknown = matched.by(names), matched.unknown
    if not of_slides and not fields:
        raise UsageError(
            f"{path} names none of the slides (it has {unknown[0]}, the results have "
            f"{slides[0]}); write the slides' file names in it."
        )
    return LabelTable(path, of_slides, fields, unknown)


def cases_of(
    results: Sequence[Result], cases: str | Path | Mapping[str, str] | None
) -> tuple[dict[str, str], list[str]]:
    """Cases by the name of a result, and sentences about what does not match.

    Parameters
    ----------
    results
        Of the slides that may have a case.
    cases
        A table of ``slide,case``, or the case by what a slide is called; None: there are none.

    Raises
    ------
    UsageError
        The table cannot be read, or does not fit the slides.
    """
    if cases is None:
        return {}, []
    slides, names = [result.slide_path for result in results], [result.name for result in results]
    if isinstance(cases, str | Path):
        matched = read_cases(Path(cases), slides, names)
    else:
        matched = match("cases", [Entry(*item) for item in cases.items()], slides, names)
    return matched.by(names), matched.mismatches("--cases", names, OWN_CASE)


def read_scores(path: str | Path) -> ScoreTable:
    """Read ``score,label`` and, if there is one, ``slide``, in any order.

    Raises
    ------
    UsageError
        The file cannot be read, or a line makes no sense.
    """
    rows = read_table(path, ("score", "label"), ("slide",))
    has_slides = "slide" in rows[0].layout.columns
    return ScoreTable(
        np.array([row["slide"] if has_slides else str(k) for k, row in enumerate(rows)]),
        np.array([row.number("score") for row in rows]),
        np.array([int(is_abnormal(row)) for row in rows], np.int8),
        has_slides,
    )


def _field_labels(rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    corners = [[row.number("x"), row.number("y")] for row in rows]
    for row, corner in zip(rows, corners, strict=True):
        if any(map(math.isnan, corner)):
            raise row.error("gives no place of a field; write its x and y, or remove the line")
    return np.array(corners, np.float64), np.array([int(is_abnormal(row)) for row in rows], np.int8)

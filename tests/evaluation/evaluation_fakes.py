"""Results made up in memory: a grid of fields, scored by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from wsi_anomaly.annotations import Outline
from wsi_anomaly.evaluation.folders import Result
from wsi_anomaly.evaluation.results import ScoredSlide

FIELD = 128  # level-0 pixels; 64 um at 0.5 um
ROWS, COLUMNS = 10, 12


def grid(**at: float) -> np.ndarray:
    """Zeros (ROWS, COLUMNS) but for ``at_<row>_<column>=value``."""
    values = np.zeros((ROWS, COLUMNS), np.float32)
    for place, value in at.items():
        _, row, column = place.split("_")
        values[int(row), int(column)] = value
    return values


def scored(name: str, scores: np.ndarray, **others: np.ndarray) -> ScoredSlide:
    """Give a table its scores: of ``dpa``, which ranks, and of other methods."""
    row, col = np.divmod(np.arange(ROWS * COLUMNS, dtype=np.int32), COLUMNS)
    return ScoredSlide(
        name=name,
        coords=np.stack([col, row], 1).astype(np.int64) * FIELD,
        field=(FIELD, FIELD),
        stride=(FIELD, FIELD),
        mpp=(0.5, 0.5),
        scores={k: np.asarray(v, np.float32).ravel() for k, v in {"dpa": scores, **others}.items()},
        primary="dpa",
        row=row,
        col=col,
        flagged=np.zeros(ROWS * COLUMNS, bool),
    )


def result(
    name: str = "scan_01",
    scores: np.ndarray | None = None,
    *,
    bounds: tuple[int, int] = (0, 0),
    seen: str | None = None,
) -> Result:
    """Make a result of a slide whose scanned area lies at `bounds`."""
    table = scored(name, grid() if scores is None else scores)
    size = (COLUMNS * FIELD + 10, ROWS * FIELD + 10)
    return Result(
        table=table,
        slide_path=Path("slides") / f"{name}.svs",
        size=(bounds[0] + size[0], bounds[1] + size[1]),
        bounds=(*bounds, *size),
        qupath_origin="bounds",
        field_um=64.0,
        seen=seen,
        model=("made up", "feedface"),
    )


def lesion(
    column: float, row: float, columns: float = 1, rows: float = 1, label: str = "Lesion"
) -> Outline:
    """Outline over whole fields."""
    box = shapely.box(
        column * FIELD, row * FIELD, (column + columns) * FIELD, (row + rows) * FIELD
    )  # fmt: skip
    return Outline(label, box)

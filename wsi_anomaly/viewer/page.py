"""What the viewer's page of one slide shows: its figure, its scores and its regions, JSON-ready."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from wsi_anomaly.reports.charts import round_ticks
from wsi_anomaly.results.colors import NOT_ASSESSED, paint
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.scoring import AnomalousRegion
from wsi_anomaly.scoring.interpretation import own_color_range
from wsi_anomaly.viewer.figure import slide_figure
from wsi_anomaly.viewer.opened import OpenResult
from wsi_anomaly.viewer.world import World, grid_um

_COLORS = 256
_TICKS = 4


def page_data(
    name: str, folder: Path, summary: Mapping[str, Any], opened: OpenResult | None = None
) -> dict[str, Any]:
    """Everything that the page's script needs: figure, scores, colours, regions; JSON-ready.

    Parameters
    ----------
    name, folder, summary
        The slide's name in the address, its results folder and their summary.
    opened
        The folder's content, if it has been read already.

    Raises
    ------
    OutputError
        The scores cannot be read.
    """
    from urllib.parse import quote

    from bokeh.core.types import ID
    from bokeh.embed import json_item

    world, opened = World.of(summary), opened or OpenResult.read(folder)
    stored = opened.stored
    low, high = (float(v) for v in summary["color_range"])
    known = stored.score[np.isfinite(stored.score)]
    top = _rounded(float(known.max())) if len(known) else high
    grid = stored.grid()
    assessed = np.full(stored.fields.grid_shape, 0, np.uint8)  # 0: no field, 1: scored, 2: not
    assessed[stored.fields.row, stored.fields.col] = np.where(np.isfinite(stored.score), 1, 2)
    link = quote(name, safe="")
    figure = slide_figure(
        world, opened,
        *(f"../{kind}/{link}/{{Z}}/{{X}}/{{Y}}.jpg" for kind in ("tile", "grey")),
    )  # fmt: skip
    own = own_color_range(known)
    colors = paint(np.linspace(0, 1, _COLORS), 0.0, 1.0).tolist()
    return {
        "figure": json_item(figure, ID("figure")),
        "scores": [None if not np.isfinite(v) else _rounded(v) for v in grid.ravel().tolist()],
        "kind": assessed.ravel().tolist(),
        "color_range": [low, high],
        "own_range": list(own),
        "ticks": _ticks(low, high),
        "own_ticks": _ticks(*own),
        "percentiles": _percentiles(stored),
        "highest": max(top, high),
        "colors": colors,
        "not_assessed": [*NOT_ASSESSED.color, 150],
        "threshold": summary["flagged"]["threshold"],
        "result": summary["result_hash"],
        "regions": _regions(world, stored, opened.regions, summary.get("regions")),
        "taken_away": _regions(
            world, stored, opened.taken_away, (summary.get("taken_away") or {}).get("of")
        ),
        "cells": _cells(world, opened),
        "extent": [world.width_um, world.height_um, world.side_um],
    }


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    return round_ticks(low, high, _TICKS) if high > low else []


def _regions(
    world: World, stored: StoredScores, regions: Sequence[AnomalousRegion], told: Any
) -> list[dict[str, Any]]:
    """Say of each region where it is and, as far as the summary tells, what it is like."""
    half = np.asarray(stored.fields.field_level0) / 2
    made = []
    for region, entry in zip_longest(regions, (told or [])[: len(regions)], fillvalue=None):
        assert region is not None
        middle = stored.fields.coords[region.peak] + half
        made.append(
            {
                "qupath": np.rint(middle - world.origin).astype(int).tolist(),
                "um": world.um(middle).tolist(),
                "area_mm2": region.area_mm2,
                "score": region.highest,
                "like": str((entry or {}).get("like", "")),
            }
        )
    return made


def _percentiles(stored: StoredScores) -> list[float | None] | None:
    """Percentile of each cell of the grid among normal fields; None without a reference.

    They are cut, not rounded: 100 is above all normal fields.
    """
    percentile = stored.meaning.get("percentile")
    if percentile is None:
        return None
    grid = np.full(stored.fields.grid_shape, np.nan)
    grid[stored.fields.row, stored.fields.col] = percentile
    cut = np.floor(grid.ravel() * 10 + 1e-6) / 10
    return [None if math.isnan(value) else value for value in cut.tolist()]


def _cells(world: World, opened: OpenResult) -> dict[str, Any]:
    """Where the grid lies in the world, and which region each flagged field belongs to."""
    left, top, step = grid_um(world, opened.stored.fields)
    fields = opened.stored.fields
    columns = fields.grid_shape[1]
    region_of = [
        (int(cell), i)
        for i, region in enumerate(opened.regions)
        for cell in fields.row[region.fields].astype(int) * columns + fields.col[region.fields]
    ]
    return {
        "left": left, "top": top, "step": step, "shape": fields.grid_shape, "region_of": region_of,
    }  # fmt: skip


def _rounded(score: float) -> float:
    """Six digits: a float32 has no more, and the page is a third smaller."""
    return float(f"{score:.6g}")

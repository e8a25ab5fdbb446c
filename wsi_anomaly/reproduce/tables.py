"""The tables and the picture of a run, as files: our figures beside the paper's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_anomaly import __version__
from wsi_anomaly.core.files import write_json, write_text
from wsi_anomaly.reproduce.markdown import markdown, paper_figure, training_text
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.problems import Source
from wsi_anomaly.reproduce.scores import Place
from wsi_anomaly.reproduce.summary import RowSummary, best_against_best, summarise


def write_tables(
    source: Source, plan: Plan, places: Sequence[Place], output: Path, command: str
) -> list[RowSummary]:
    """Write ``table.md``, ``table.json``, ``cells.jsonl`` and ``table.png``; return the rows."""
    rows = summarise(places)
    problems = list(dict.fromkeys(place.problem for place in places))
    write_text(
        output / "table.md",
        markdown(source, plan, rows, problems, command, best_against_best(rows)),
    )
    cells = [place.read() for place in places if place.done]
    write_text(output / "cells.jsonl", "".join(json.dumps(cell) + "\n" for cell in cells))
    write_json(output / "table.json", _as_json(source, rows, problems, command))
    if rows:
        from wsi_anomaly.reproduce.picture import table_picture

        table_picture(output / "table.png", source, rows, problems)
    return rows


def _as_json(
    source: Source, rows: Sequence[RowSummary], problems: Sequence[str], command: str
) -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        return None if value is None or np.isnan(value) else round(value, 4)

    found = []
    for r in rows:
        default, tuned = paper_figure(source, r.row, problems)
        found.append(
            {
                "row": r.row, "auc": number(r.mean), "spread": number(r.spread),
                "interval": [number(r.low), number(r.high)], "by_problem": {
                    name: number(value) for name, value in r.auc.items()
                },
                "by_slide": number(r.slide_auc), "paper": {
                    "default": number(default), "tuned": number(tuned)
                },
                "training": training_text(r.settings, r.published), "seeds": r.seeds,
                "cells": list(r.cells), "precision": list(r.precision),
            }
        )  # fmt: skip
    verdict = best_against_best(rows)
    return {
        "set": source.key, "title": source.title, "command": command,
        "program": f"wsi-anomaly {__version__}", "notes": list(source.notes), "rows": found,
        "best_against_best": None if verdict is None else {
            "ours": verdict[0].row, "compared": verdict[1].row, "difference": number(verdict[2]),
            "interval": [number(verdict[3]), number(verdict[4])],
        },
    }  # fmt: skip

"""Cells become tables: our figure beside the paper's, mean and spread over seeds.

A figure is the mean ROC AUC over problems (classes) and seeds, its spread the standard deviation
over seeds, as in the paper. Its 95% interval comes from resampling what the judged images come
from (patients, slides; images where nothing more is known), the same draws for every row, so that
two rows can be compared draw by draw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly import __version__
from wsi_anomaly.core.files import write_json, write_text
from wsi_anomaly.detectors.compared import COMPARED
from wsi_anomaly.experiments.cells import weighted_aucs
from wsi_anomaly.experiments.reproduce.plan import Plan
from wsi_anomaly.experiments.reproduce.problems import Source
from wsi_anomaly.experiments.reproduce.published import ABLATION, FIGURES, Reported
from wsi_anomaly.experiments.reproduce.rows import CONTROLS
from wsi_anomaly.experiments.reproduce.scores import Place, Scores

DRAWS = 200


@dataclass(frozen=True)
class RowSummary:
    """What the cells of a row say together.

    Attributes
    ----------
    row
        Its name.
    auc
        Problem to the mean over seeds.
    mean, spread, low, high
        Over problems and seeds; spread over seeds is NaN with one.
    draws
        (draws,) mean ROC AUC in each draw of groups.
    seeds
        Number of seeds, the fewest of any problem.
    cells
        Finished and wanted.
    """

    row: str
    auc: Mapping[str, float]
    mean: float
    spread: float
    low: float
    high: float
    draws: NDArray[np.float64]
    seeds: int
    cells: tuple[int, int]
    settings: Mapping[str, Any]
    learned_from: int
    slide_auc: float | None

    @property
    def whole(self) -> bool:
        """Whether every cell is there."""
        return self.cells[0] == self.cells[1]


def summarise(places: Sequence[Place]) -> list[RowSummary]:
    """Summaries of the rows that have at least one finished cell, in the order given."""
    done = [place for place in places if place.done]
    most = max((int(Scores.load(p.scores).group.max()) for p in done), default=0)
    drawn = _draws(most + 1)
    return [
        _summary(row, [p for p in places if p.row == row], drawn)
        for row in dict.fromkeys(place.row for place in done)
    ]


def _mean_where_there(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the cells (C, draws) that had both classes in a draw; NaN where none had."""
    there = np.isfinite(draws)
    number = there.sum(0)
    total = np.where(there, draws, 0).sum(0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """95% of the draws lie in it; NaN where none had both classes."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _draws(groups: int) -> NDArray[np.uint8]:
    """How often each group is drawn, (draws, groups)."""
    rng = np.random.default_rng(0)
    rows = [np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(DRAWS)]
    return np.array(rows, np.uint8)


def _summary(row: str, places: Sequence[Place], drawn: NDArray[np.uint8]) -> RowSummary:
    done = [place for place in places if place.done]
    cells = [place.read() for place in done]
    by_problem: dict[str, list[float]] = {}
    by_seed: dict[int, list[float]] = {}
    draws = []
    for place, cell in zip(done, cells, strict=True):
        scores = Scores.load(place.scores)
        by_problem.setdefault(place.problem, []).append(cell["auc"])
        by_seed.setdefault(place.seed, []).append(cell["auc"])
        weights = drawn[:, scores.group].astype(np.float64)
        draws.append(weighted_aucs(scores.abnormal, scores.judge, weights))
    problems = len({place.problem for place in places})
    whole_seeds = [float(np.mean(v)) for v in by_seed.values() if len(v) == problems]
    means = _mean_where_there(np.array(draws))
    low, high = _interval(means)
    slides = [cell["slide_auc"] for cell in cells if cell["slide_auc"] is not None]
    return RowSummary(
        row,
        {name: float(np.mean(values)) for name, values in by_problem.items()},
        float(np.mean([cell["auc"] for cell in cells])),
        float(np.std(whole_seeds, ddof=1)) if len(whole_seeds) > 1 else float("nan"),
        low,
        high,
        means,
        min(map(len, by_problem.values())),
        (len(done), len(places)),
        done[0].settings,
        int(np.median([cell["learned_from"] for cell in cells if "learned_from" in cell] or [0])),
        float(np.mean(slides)) if slides else None,
    )


def best_against_best(
    rows: Sequence[RowSummary],
) -> tuple[RowSummary, RowSummary, float, float, float] | None:
    """Our best detector against the best compared system: the rows, difference, interval."""
    ours = [r for r in rows if r.row in ("dpa", "density", "fusion") and r.whole]
    theirs = [r for r in rows if r.row in COMPARED and r.whole]
    if not ours or not theirs:
        return None
    first = max(ours, key=lambda r: r.mean)
    second = max(theirs, key=lambda r: r.mean)
    return first, second, first.mean - second.mean, *_interval(first.draws - second.draws)


def write_tables(
    source: Source, plan: Plan, places: Sequence[Place], output: Path, command: str
) -> list[RowSummary]:
    """Write ``table.md``, ``table.json``, ``cells.jsonl`` and ``table.png``; return the rows."""
    rows = summarise(places)
    problems = list(dict.fromkeys(place.problem for place in places))
    write_text(output / "table.md", markdown(source, plan, rows, problems, command))
    cells = [place.read() for place in places if place.done]
    write_text(output / "cells.jsonl", "".join(json.dumps(cell) + "\n" for cell in cells))
    write_json(output / "table.json", _as_json(source, rows, problems, command))
    if rows:
        from wsi_anomaly.experiments.reproduce.picture import table_picture

        table_picture(output / "table.png", source, rows, problems)
    return rows


def markdown(
    source: Source, plan: Plan, rows: Sequence[RowSummary], problems: Sequence[str], command: str
) -> str:
    """Both tables, how they were made, and what our best detector is against the best other."""
    lines = [f"# {source.title}: ROC AUC, ours beside the paper's", "", f"    {command}", ""]
    lines += [f"- {note}" for note in source.notes]
    lines += [f"- {note}" for note in _how(plan, rows)]
    usual = [r for r in rows if r.row not in ABLATION]
    if usual:
        lines += ["", *_overall(source, usual, problems, "method")]
    if len(problems) > 1 and usual:
        lines += ["", *_by_problem(source, usual, problems)]
    ablation = [r for r in rows if r.row in ABLATION]
    if ablation:
        lines += ["", "## Ablation", "", *_overall(source, ablation, problems, "row")]
    verdict = best_against_best(rows)
    if verdict is not None:
        ours, theirs, difference, low, high = verdict
        lines += [
            "",
            (
                f"Our best, {ours.row}, against the best compared system, {theirs.row}: "
                f"{difference:+.3f}, 95% interval [{low:+.3f}, {high:+.3f}]."
            ),
        ]
    return "\n".join(lines) + "\n"


def _how(plan: Plan, rows: Sequence[RowSummary]) -> list[str]:
    found = [f"Perceptual network: {plan.features}."]
    judged = "all images are judged"
    if plan.judge is not None:
        judged = f"at most {plan.judge:,} normal and {plan.judge:,} abnormal images are judged"
    learned = "" if plan.learn is None else f" At most {plan.learn:,} images are learned from;"
    found.append(f"For every row {judged}, always the same ones.{learned.rstrip(';')}")
    if plan.options:
        changed = ", ".join(f"{option} = {value}" for option, value in plan.options.items())
        found.append(f"Smaller than in their papers: {changed}.")
    unfinished = [f"{r.row} ({r.cells[0]} of {r.cells[1]})" for r in rows if not r.whole]
    if unfinished:
        found.append(f"**Not all cells are there**: {', '.join(unfinished)}.")
    found.append(
        "In brackets: 95% interval over what the images come from; ±: standard deviation over "
        "seeds. The paper's figures are those with hyperparameters chosen by few anomalies; "
        "in parentheses those without."
    )
    return found


def _overall(
    source: Source, rows: Sequence[RowSummary], problems: Sequence[str], what: str
) -> list[str]:
    slides = any(r.slide_auc is not None for r in rows)
    head = [what, "ROC AUC", "95% interval", "paper", "training", "seeds"]
    head[4:4] = ["by slide"] if slides else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in rows:
        spread = "" if np.isnan(r.spread) else f" ± {r.spread:.3f}"
        values = [
            ABLATION.get(r.row, title_of(r.row)),
            f"{r.mean:.3f}{spread}",
            f"[{r.low:.3f}, {r.high:.3f}]",
            paper_text(source, r.row, problems),
            training_text(r.settings),
            str(r.seeds),
        ]
        values[4:4] = (["-" if r.slide_auc is None else f"{r.slide_auc:.3f}"]) if slides else []
        lines.append("| " + " | ".join(values) + " |")
    return lines


def _by_problem(source: Source, rows: Sequence[RowSummary], problems: Sequence[str]) -> list[str]:
    head = ["normal class", *(title_of(r.row) for r in rows)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in problems:
        values = []
        for r in rows:
            ours = f"{r.auc[name]:.3f}" if name in r.auc else "-"
            paper = paper_text(source, r.row, [name])
            values.append(ours if paper == "-" else f"{ours} / {paper}")
        lines.append("| " + " | ".join([name, *values]) + " |")
    return [*lines, "", "In a cell: ours / the paper's."]


def title_of(row: str) -> str:
    """Name of a row in a table."""
    return f"*{row}* (control)" if row in CONTROLS else row


def training_text(settings: Mapping[str, Any]) -> str:
    """Say how long a row was trained, beside the published length."""
    if "published" not in settings:
        return "none"
    steps = settings["steps"]
    done = steps if isinstance(steps, int) else sum(sum(pair) for pair in steps.values())
    length, batch = settings["published"]
    same = done == length and settings["batch_size"] == batch
    beside = "as published" if same else f"published: {length:,} of {batch}"
    return f"{done:,} steps of {settings['batch_size']} ({beside})"


def paper_figure(source: Source, row: str, problems: Sequence[str]) -> tuple[float, float]:
    """Figures of the paper, as fractions: default and tuned hyperparameters; NaN where none.

    Over several problems the mean of the paper, where these are all of them.
    """
    found = FIGURES.get(source.key, {}).get(row, Reported())
    values = []
    for k, table in enumerate((found.default, found.tuned)):
        mean = found.mean[k]
        if all(name in table for name in problems):
            values.append(float(np.mean([table[name] for name in problems])) / 100)
        elif mean is not None and len(problems) == len(source.classes):
            values.append(mean / 100)
        else:
            values.append(float("nan"))
    return values[0], values[1]


def paper_text(source: Source, row: str, problems: Sequence[str]) -> str:
    """Figures of the paper as text: tuned, and in parentheses default hyperparameters."""
    default, tuned = paper_figure(source, row, problems)
    texts = [] if np.isnan(tuned) else [f"{tuned:.3f}"]
    texts += [] if np.isnan(default) else [f"({default:.3f})"]
    return " ".join(texts) or "-"


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
                "training": training_text(r.settings), "seeds": r.seeds, "cells": list(r.cells),
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

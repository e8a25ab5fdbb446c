"""Summaries of rows as text: the tables that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsi_anomaly.features import network_spec
from wsi_anomaly.reproduce.plan import ASIDE, Plan
from wsi_anomaly.reproduce.problems import Source
from wsi_anomaly.reproduce.published import ABLATION, FIGURES, Reported
from wsi_anomaly.reproduce.rows import CONTROLS
from wsi_anomaly.reproduce.summary import RowSummary, Verdict


def markdown(
    source: Source,
    plan: Plan,
    rows: Sequence[RowSummary],
    problems: Sequence[str],
    command: str,
    verdict: Verdict | None,
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
    if verdict is not None:
        ours, theirs, difference, low, high = verdict
        lines += [
            "",
            (
                f"Our best, {ours.row}, against the best compared system, {theirs.row}: "
                f"{difference:+.3f}, "
                + (
                    "with too few groups for an interval."
                    if np.isnan(low)
                    else f"95% interval [{low:+.3f}, {high:+.3f}]."
                )
            ),
        ]
    return "\n".join(lines) + "\n"


def _how(plan: Plan, rows: Sequence[RowSummary]) -> list[str]:
    found = [f"Perceptual network: {plan.features}{_formats(rows)}."]
    spec = network_spec(plan.features)
    usual = "its usual one" if spec is None else spec.default_layer
    pooled = "; ".join(
        f"{r.row}: {', '.join(layer or usual for layer in r.settings['layers'])}"
        for r in rows
        if "layers" in r.settings
    )
    found += [f"Layers whose averages are pooled: {pooled}."] if pooled else []
    judged = "all images are judged"
    if plan.judge is not None:
        judged = f"at most {plan.judge:,} normal and {plan.judge:,} abnormal images are judged"
    learned = "" if plan.learn is None else f" At most {plan.learn:,} images are learned from;"
    found.append(f"For every row {judged}, always the same ones.{learned.rstrip(';')}")
    if plan.options:
        changed = ", ".join(f"{option} = {value}" for option, value in plan.options.items())
        found.append(f"Other than usual: {changed}.")
    unfinished = [f"{r.row} ({r.cells[0]} of {r.cells[1]})" for r in rows if not r.whole]
    if unfinished:
        found.append(f"**Not all cells are there**: {', '.join(unfinished)}.")
    if plan.aside:
        share = "A tenth" if plan.aside == ASIDE else f"{plan.aside:.0%}"
        found.append(
            f"{share} of the normal images to learn from (by what they come from, at most 200) is "
            "set aside to weigh the fusion."
        )
    found.append(
        "In brackets: 95% interval over what the images come from (-: too few of them); ±: "
        "standard deviation over seeds. The paper's figures are those with hyperparameters chosen "
        "by few anomalies; in parentheses those without."
    )
    return found


def _formats(rows: Sequence[RowSummary]) -> str:
    """Name the number format, of each row where they differ."""
    by_row = {r.row: " and ".join(r.precision) for r in rows if r.precision}
    if len(set(by_row.values())) == 1:
        return f", in {next(iter(by_row.values()))}"
    named = ", ".join(f"{row} in {formats}" for row, formats in by_row.items())
    return f" ({named})" if named else ""


def _overall(
    source: Source, rows: Sequence[RowSummary], problems: Sequence[str], what: str
) -> list[str]:
    slides = any(r.slide_auc is not None for r in rows)
    head = [what, "ROC AUC", "95% interval", "paper", "training", "seeds"]
    head[4:4] = ["by group"] if slides else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in rows:
        spread = "" if np.isnan(r.spread) else f" ± {r.spread:.3f}"
        values = [
            ABLATION.get(r.row, title_of(r.row)),
            f"{r.mean:.3f}{spread}",
            "-" if np.isnan(r.low) else f"[{r.low:.3f}, {r.high:.3f}]",
            paper_text(source, r.row, problems),
            training_text(r.settings, r.published),
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


def training_text(settings: Mapping[str, Any], published: tuple[int, int] | None = None) -> str:
    """Say how long a row was trained, beside what was published.

    Parameters
    ----------
    settings
        Of a cell.
    published
        Least and most published steps of all problems; None: those of the cell.
    """
    if "published" not in settings:
        return "none"
    steps = settings["steps"]
    done = steps if isinstance(steps, int) else sum(sum(pair) for pair in steps.values())
    length, batch = settings["published"]
    least, most = published or (length, length)
    same = done == least == most and settings["batch_size"] == batch
    span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    beside = "as published" if same else f"published: {span} of {batch}"
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

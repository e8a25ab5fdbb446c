"""Pictures of the tables: every row with its interval, the controls, and the paper's figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsi_anomaly.baselines import BASELINES
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.reproduce.published import ABLATION
from wsi_anomaly.reproduce.rows import CONTROLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wsi_anomaly.reproduce.choosing import Supervision
    from wsi_anomaly.reproduce.problems import Source
    from wsi_anomaly.reproduce.summary import RowSummary

OURS, THEIRS, CONTROL, PAPER = "#1d4f68", "#6aaecb", "#9a9a9a", "#c8503c"


def table_picture(
    path: Path, source: Source, rows: Sequence[RowSummary], problems: Sequence[str]
) -> None:
    """Draw a dot with its interval for each row, and a cross for the paper's figure."""
    from matplotlib.figure import Figure

    from wsi_anomaly.reproduce.markdown import paper_figure

    figure = Figure(figsize=(8.2, 1.3 + 0.34 * len(rows)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for k, r in enumerate(rows):
        colour = CONTROL if r.row in CONTROLS else THEIRS if r.row in BASELINES else OURS
        axes.plot([r.low, r.high], [k, k], color=colour, lw=2)
        axes.plot(r.mean, k, "o", color=colour, ms=7)
        default, tuned = paper_figure(source, r.row, problems)
        paper = tuned if np.isfinite(tuned) else default
        if np.isfinite(paper):
            axes.plot(paper, k, "x", color=PAPER, ms=8, mew=2)
    for colour, text in ((OURS, "this project"), (THEIRS, "compared system"), (CONTROL, "control")):
        axes.plot([], [], "o-", color=colour, label=text)
    axes.plot([], [], "x", color=PAPER, mew=2, ls="", label="the paper's figure")
    axes.axvline(0.5, color="#bbb", lw=1, ls=":")
    axes.set_yticks(range(len(rows)), [ABLATION.get(r.row, r.row) for r in rows])
    axes.invert_yaxis()
    axes.set_xlabel("ROC AUC")
    over = f", mean of {len(problems)} classes" if len(problems) > 1 else ""
    axes.set_title(f"{source.title}{over}", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with atomic_file(path) as partial, open(partial, "wb") as file:
        canvas.print_figure(file, format="png")


def curve_picture(path: Path, source: Source, found: Supervision) -> None:
    """Draw the quality of the choice against the number of anomalies, a line for each of types."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    figure = Figure(figsize=(7.5, 4.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    shades = ("#9bc4d9", "#4f93b5", "#1d4f68")
    for curve, colour in zip(found.curves, shades[-len(found.curves) :], strict=False):
        plural = "" if curve.types == 1 else "s"
        axes.plot(curve.counts, curve.mean, "o-", color=colour, label=f"{curve.types} type{plural}")
    last = found.curves[-1]
    axes.fill_between(
        last.counts, last.low, last.high, color=shades[-1], alpha=0.12, lw=0,
        label=f"10% to 90% of draws, {last.types} type{'' if last.types == 1 else 's'}",
    )  # fmt: skip
    for value, text, style in (
        (found.oracle, "best of the grid", "-"),
        (found.average, "any at random", ":"),
        (found.unsupervised, "chosen by reconstruction", "--"),
    ):
        axes.axhline(value, color=PAPER, lw=1.2, ls=style, label=f"{text}: {value:.3f}")
    counts = sorted({count for curve in found.curves for count in curve.counts})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(count) for count in counts])
    axes.set_xlabel("known anomalies to choose by")
    axes.set_ylabel("ROC AUC of the chosen configuration")
    axes.set_title(f"{source.title}: choosing by few anomalies", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)

"""What ``wsi-anomaly reproduce`` shows while it works, and at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsi_anomaly.cli.common import NORMAL
from wsi_anomaly.cli.display import Display, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.learning.loop import Report
    from wsi_anomaly.reproduce.problems import Source
    from wsi_anomaly.reproduce.run import Watch
    from wsi_anomaly.reproduce.scores import Place
    from wsi_anomaly.reproduce.summary import RowSummary
    from wsi_anomaly.tiles.tiling import TileOutcome

_MEASURED_SLIDES = 8


class CellDisplay(Display):
    """A bar over all cells with the time left, and a line for each finished one."""

    def __init__(self, console: Console) -> None:
        from rich.progress import MofNCompleteColumn, TextColumn

        facts = TextColumn("{task.fields[facts]}", markup=False)
        self._progress = progress_bar(console, MofNCompleteColumn(), facts)
        super().__init__(console, NORMAL, self._progress)
        self._task = self._progress.add_task("reading", total=None, facts="")
        self._started = time.perf_counter()

    def watch(self) -> Watch:
        """Return what the run tells its news to."""
        from wsi_anomaly.reproduce.run import Watch

        return Watch(self._starts, self._ended, self._report)

    def _starts(self, done: int, total: int, place: Place) -> None:
        self._progress.update(
            self._task, completed=done, total=total, facts="",
            description=f"{place.row}, {place.problem}, seed {place.seed}",
        )  # fmt: skip
        self._started = time.perf_counter()

    def _ended(self, place: Place, cell: dict[str, Any] | None) -> None:
        name = f"{place.row}, {place.problem}, seed {place.seed}"
        seconds = time.perf_counter() - self._started
        text = "failed" if cell is None else f"ROC AUC {cell['auc']:.3f}"
        self._print(f"{name}: {text} ({seconds:,.0f} s)")

    def _report(self, report: Report) -> None:
        self._progress.update(
            self._task, facts=f"step {report.step:,} of {report.steps:,}, loss {report.loss:.4f}"
        )


class SourceDisplay(Display):
    """A line for each slide that is tiled; nothing for sets of images."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, NORMAL)
        self._done = self._cut = self._expected = 0
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if self._done:
            self._print(f"{self._done} slides looked at for tiles")

    def expect(self, note: str, slides: int) -> None:
        """Show what is to come."""
        self._print(note)
        self._expected, self._since = slides, time.perf_counter()

    def tiled(self, outcome: TileOutcome) -> None:
        """Show a finished slide, and after a few how long the others take."""
        self._done += 1
        result = outcome.result
        if result is None or result.skipped:
            return
        self._cut += 1
        name = outcome.job.slide.stem
        self._print(f"{name}: {result.tiles} tiles ({outcome.seconds:,.0f} s)")
        left = self._expected - self._done
        if self._cut == _MEASURED_SLIDES and left > 0:
            hours = (time.perf_counter() - self._since) / self._cut * left / 3600
            self._print(f"The other {left} slides take about {hours:.1f} h.")


def show(source: Source, rows: Sequence[RowSummary], out: Console) -> None:
    """Print the rows as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from wsi_anomaly.reproduce.markdown import paper_text, training_text
    from wsi_anomaly.reproduce.published import ABLATION

    table = Table(title=f"{source.title}: ROC AUC", title_justify="left", box=SIMPLE_HEAD)
    for name in ("Row", "Here", "95% interval", "Paper", "Training", "Seeds"):
        table.add_column(name, justify="left" if name in ("Row", "Training") else "right")
    for r in rows:
        spread = "" if r.spread != r.spread else f" ± {r.spread:.3f}"
        table.add_row(
            ABLATION.get(r.row, r.row), f"{r.mean:.3f}{spread}",
            "-" if r.low != r.low else f"{r.low:.3f} to {r.high:.3f}",
            paper_text(source, r.row, list(r.auc)), training_text(r.settings, r.published),
            str(r.seeds),
        )  # fmt: skip
    out.print(table)

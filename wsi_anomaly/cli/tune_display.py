"""What ``wsi-anomaly tune`` shows while it works."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_anomaly.cli.common import VERBOSE
from wsi_anomaly.cli.display import Display, duration, progress_bar
from wsi_anomaly.core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.learning.loop import Report
    from wsi_anomaly.options import TuneOptions
    from wsi_anomaly.tuning import Found, Watch
    from wsi_anomaly.tuning.records import Tried


class TuneDisplay(Display):
    """A progress bar over the trials, and a line for each that ends.

    Parameters
    ----------
    console
    verbosity
        Above 0: a line for each fold, too.
    options
        What the search was asked for.
    """

    def __init__(self, console: Console, verbosity: int, options: TuneOptions) -> None:
        from rich.progress import TextColumn

        self._trials, self._folds = options.trials, options.folds
        self._maximize = options.criterion == "roc-auc"  # or lower is better
        # The bar's own guess would take the folds of one trial for a steady pace.
        facts = TextColumn("{task.fields[facts]}", markup=False)
        self._progress = progress_bar(console, facts, time_left=False)
        super().__init__(console, verbosity, self._progress)
        self._task = self._progress.add_task("reading tiles", total=self._trials, facts="")
        self._began = time.perf_counter()
        self._first: int | None = None
        self._ended = 0
        self._fold = 0
        self._best = ""

    def watch(self) -> Watch:
        """Return what a search tells its news to."""
        from wsi_anomaly.tuning import Watch

        return Watch(self.trial, self.fold, self.ended, self.report, self.note)

    def trial(self, number: int, choices: Mapping[str, Any]) -> None:
        """Show which trial begins."""
        from wsi_anomaly.tuning.files import described

        self._fold = 0
        self._show(f"trial {number}")
        if self._verbosity >= VERBOSE:
            self._print(f"trial {number}: {described(choices)}")

    def fold(self, k: int, value: float) -> None:
        """Show that a fold has been judged."""
        self._fold = k + 1
        self._show(f"fold {k + 1} {value:.3f}")
        if self._verbosity >= VERBOSE:
            self._print(f"  fold {k + 1}: {value:.4f}")

    def report(self, report: Report) -> None:
        """Show how far the training of a fold is."""
        share = report.step / max(report.steps, 1)
        self._show(f"fold {self._fold + 1}, {report.stage}", share)

    def ended(self, tried: tuple[Tried, ...], latest: int) -> None:
        """Print a line for the trial that has just ended."""
        last = next(t for t in tried if t.number == latest)
        if self._first is None:
            self._first = len(tried) - 1
        self._ended, self._fold = len(tried), 0
        how = f"{last.value:.3f}" if last.folds else "no value"
        if last.state != "complete":
            how += " (stopped early)"
        sign = 1 if self._maximize else -1
        complete = [t for t in tried if t.state == "complete"]
        best = max(complete, key=lambda t: sign * t.value, default=None)
        self._best = "" if best is None else f"best {best.value:.3f} (trial {best.number})"
        self._print(
            f"[{len(tried)}/{self._trials}] trial {latest}: {how}; {self._best}"
            + (f"; about {self._left()} left" if len(tried) < self._trials else "")
        )
        if last.reason:
            self.note(f"Trial {last.number} has no value: {last.reason}")
        self._show("")

    def summary(self, found: Found, tiles: Sequence[Path], output: Path) -> None:
        """Say what came out, and what to do with it."""
        from wsi_anomaly.tuning.files import sentences

        for sentence in sentences(found):
            self._print(sentence)
        self._print(
            f"Configuration in {output / 'config.toml'}; next: wsi-anomaly train "
            f"{' '.join(map(str, tiles))} --config {output / 'config.toml'}"
        )

    def _show(self, what: str, share: float = 0.0) -> None:
        within = (self._fold + share) / self._folds
        facts = "  ".join(part for part in (what, self._best, f"{self._left()} left") if part)
        self._progress.update(
            self._task,
            description=f"{min(self._ended + 1, self._trials)} of {counted(self._trials, 'trial')}",
            completed=self._ended + min(within, 1.0),
            facts=facts,
        )

    def _left(self) -> str:
        """Time left, from the trials that this process has seen end."""
        done = self._ended - (self._first or 0)
        if not done:
            return "unknown time"
        return duration((time.perf_counter() - self._began) / done * (self._trials - self._ended))

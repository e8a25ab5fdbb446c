"""What ``wsi-anomaly train`` and ``calibrate`` show while they work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_anomaly.cli.common import VERBOSE
from wsi_anomaly.cli.display import Display, progress_bar
from wsi_anomaly.core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.detectors import Model
    from wsi_anomaly.learning.loop import Report
    from wsi_anomaly.training.run import Watch

_LINES_EVERY_S = 30.0


class TrainDisplay(Display):
    """A progress bar with stage, loss, speed and time left.

    Without a terminal (a log file, a cluster job) a line every half minute is printed instead.
    """

    def __init__(self, console: Console, verbosity: int) -> None:
        from rich.progress import TextColumn

        self._progress = progress_bar(console, TextColumn("{task.fields[facts]}", markup=False))
        super().__init__(console, verbosity, self._progress)
        self._task = self._progress.add_task("reading tiles", total=None, facts="")
        self._printed = 0.0
        self._stage = ""

    def watch(self) -> Watch:
        """Return what training tells its news to."""
        from wsi_anomaly.training.run import Watch

        return Watch(self.report, self.stage, self.slide, self.note)

    def report(self, report: Report) -> None:
        """Show a report of the training loop."""
        facts = f"alpha {report.alpha:.2f}  loss {report.loss:.4f}"
        if report.validation is not None:
            facts += f"  validation {report.validation:.4f}"
        facts += f"  {report.tiles_per_second:,.0f} tiles/s"
        self._progress.update(
            self._task, description=report.stage, completed=report.step, total=report.steps,
            facts=facts,
        )  # fmt: skip
        now = time.perf_counter()
        new_stage = report.stage != self._stage
        due = not self._console.is_terminal and now - self._printed > _LINES_EVERY_S
        if new_stage or due or self._verbosity >= VERBOSE:
            self._stage, self._printed = report.stage, now
            self._print(f"step {report.step:,} of {report.steps:,}, {report.stage}: {facts}")

    def stage(self, text: str) -> None:
        """Say what is done next."""
        self._progress.reset(self._task, description=text, total=None, facts="")
        if self._verbosity >= VERBOSE:
            self._print(text)

    def slide(self, path: Path, done: int, total: int) -> None:
        """Show how far a slide is."""
        del path
        self._progress.update(self._task, completed=done, total=total)

    def summary(self, model: Model, output: Path) -> None:
        """Say what came out, and what to do with it."""
        facts = model.provenance
        tiles, cases = (counted(facts[f"training_{noun}s"], noun) for noun in ("tile", "case"))
        self._print(f"Trained on {tiles} of {cases}.")
        self.calibration(model)
        self._print(f"Model in {output}/; next: wsi-anomaly score slide.tif --heatmap")

    def calibration(self, model: Model) -> None:
        """Say what the model's scores can be compared with."""
        from wsi_anomaly.detectors.encoder import learned_from_embeddings
        from wsi_anomaly.training.card import promise_of
        from wsi_anomaly.training.self_check import PICTURE, self_check

        if model.primary not in model.calibration:
            self._print("No calibration: scores are raw, nothing will be flagged.")
        else:
            self._print(promise_of(model))
            for line in self_check(model):
                self._print(line)
            if not learned_from_embeddings(model):  # whose slides need not be at hand
                self._print(
                    f"{PICTURE} in the model folder shows the most anomalous normal places: where "
                    "they are artefacts, leave those slides out and calibrate again."
                )

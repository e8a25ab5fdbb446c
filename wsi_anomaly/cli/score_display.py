"""What ``wsi-anomaly score`` shows while it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wsi_anomaly.cli.common import VERBOSE, progress_bar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from wsi_anomaly.jobs import Running
    from wsi_anomaly.screening import ScoreJob, ScoreOutcome


def shown_name(job: ScoreJob) -> str:
    """Name of a slide, or its code in a blinded reading."""
    return job.shown_as or job.slide.name


def regions_in_words(count: int, mm2: float) -> str:
    """Say how many regions are flagged, and their area."""
    from wsi_anomaly.reports.report import area_text

    if not count:
        return "no flagged region"
    return f"{count} flagged region{'' if count == 1 else 's'} ({area_text(mm2)} mm2)"


class ScoreDisplay:
    """A progress bar for each slide under way and for all, and a line for each that is finished.

    Without a terminal (a log file, a cluster job) only the lines are printed.
    """

    def __init__(self, console: Console, count: int, verbosity: int) -> None:
        self._console, self._count, self._verbosity = console, count, verbosity
        self._number = 0
        self._progress = progress_bar(console)
        # Only worth a bar of its own when there is more than one slide.
        self._all = self._progress.add_task("all slides", total=count, visible=count > 1)
        self._under_way: dict[ScoreJob, tuple[TaskID, float]] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def running(self, slides: Sequence[Running[ScoreJob]]) -> None:
        """Show the slides under way, by fields done and fields in all."""
        for slide in slides:
            if slide.job not in self._under_way:
                task = self._progress.add_task(shown_name(slide.job), total=None)
            else:
                task, _ = self._under_way[slide.job]
            self._under_way[slide.job] = task, slide.done / max(1, slide.total)
            self._progress.update(task, completed=slide.done, total=slide.total or None)
        self._move()

    def finished(self, outcome: ScoreOutcome) -> None:
        """Say what became of a slide; the reason of a failure comes at the end."""
        task, _ = self._under_way.pop(outcome.job, (None, 0.0))
        if task is not None:
            self._progress.remove_task(task)
        self._number += 1
        self._move()
        if outcome.result is None:
            self._print(outcome, "not done", style="red")
            return
        if outcome.result.kept:
            self._print(outcome, "kept, scored before with the same model and settings")
        else:
            self._found(outcome, outcome.result.summary)
        if self._verbosity >= VERBOSE:
            self._console.print(f"    -> {outcome.job.folder}", markup=False, soft_wrap=True)

    def _found(self, outcome: ScoreOutcome, summary: Mapping[str, Any]) -> None:
        flagged, score = summary["flagged"], summary["slide_score"]
        text = f"{summary['fields']['total']:,} fields"
        text += "" if score is None else f", slide score {score:.4g}"
        if flagged["possible"]:
            text += f", {regions_in_words(flagged['regions'], flagged['area_mm2'])}"
        if summary["not_assessed_mm2"]:
            text += f", {summary['not_assessed_mm2']:.2f} mm2 not assessed"
        self._print(outcome, f"{text}, {outcome.seconds:.0f} s")
        if flagged["fdr"] is not None:
            self._console.print(f"    {flagged['reason']}", markup=False, soft_wrap=True)
        for warning in summary["warnings"]:
            self._console.print(f"    {warning}", style="yellow", markup=False, soft_wrap=True)

    def _move(self) -> None:
        parts = sum(share for _, share in self._under_way.values())
        self._progress.update(self._all, completed=self._number + parts)

    def _print(self, outcome: ScoreOutcome, text: str, style: str | None = None) -> None:
        self._console.print(
            f"[{self._number}/{self._count}] {shown_name(outcome.job)}: {text}",
            style=style,
            markup=False,
            soft_wrap=True,
        )


class ControlDisplay(ScoreDisplay):
    """The same for control slides that are scored to be the reference."""

    def _found(self, outcome: ScoreOutcome, summary: Mapping[str, Any]) -> None:
        fields = summary["fields"]
        self._print(outcome, f"control, {fields:,} fields, {outcome.seconds:.0f} s")

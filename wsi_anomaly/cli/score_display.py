"""What ``wsi-anomaly score`` shows while it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsi_anomaly.cli.common import VERBOSE
from wsi_anomaly.cli.display import Display, progress_bar
from wsi_anomaly.core.wording import area_text, counted

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
    if not count:
        return "no flagged region"
    return f"{counted(count, 'flagged region')} ({area_text(mm2)} mm2)"


def found_in_words(summary: Mapping[str, Any]) -> str:
    """Say in a line what was found on a slide."""
    flagged, score = summary["flagged"], summary["slide_score"]
    text = counted(summary["fields"]["total"], "field")
    text += "" if score is None else f", slide score {score:.4g}"
    if flagged["possible"]:
        text += f", {regions_in_words(flagged['regions'], flagged['area_mm2'])}"
    if summary["not_assessed_mm2"]:
        text += f", {area_text(summary['not_assessed_mm2'])} mm2 not assessed"
    return text


class ScoreDisplay(Display):
    """A progress bar for each slide under way and for all, and a line for each that is finished."""

    def _name(self, job: ScoreJob) -> str:
        return shown_name(job)

    def __init__(self, console: Console, count: int, verbosity: int) -> None:
        self._count = count
        self._number = 0
        self._progress = progress_bar(console)
        super().__init__(console, verbosity, self._progress)
        # Only worth a bar of its own when there is more than one slide.
        self._all = self._progress.add_task("all slides", total=count, visible=count > 1)
        self._under_way: dict[ScoreJob, tuple[TaskID, float]] = {}

    def running(self, slides: Sequence[Running[ScoreJob]]) -> None:
        """Show the slides under way, by fields done and fields in all."""
        for slide in slides:
            if slide.job not in self._under_way:
                task = self._progress.add_task(self._name(slide.job), total=None)
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
            self._say(outcome, "not done", style="red")
            return
        if outcome.result.kept:
            self._say(outcome, "kept, scored before with the same model and settings")
        else:
            self._found(outcome, outcome.result.summary)
        if self._verbosity >= VERBOSE:
            self._print(f"    -> {outcome.job.folder}")

    def _found(self, outcome: ScoreOutcome, summary: Mapping[str, Any]) -> None:
        self._say(outcome, f"{found_in_words(summary)}, {outcome.seconds:.0f} s")
        flagged = summary["flagged"]
        if flagged["fdr"] is not None:
            self._print(f"    {flagged['reason']}")
        for warning in summary["warnings"]:
            self.note(f"    {warning}")

    def _move(self) -> None:
        parts = sum(share for _, share in self._under_way.values())
        self._progress.update(self._all, completed=self._number + parts)

    def _say(self, outcome: ScoreOutcome, text: str, style: str | None = None) -> None:
        self._print(f"[{self._number}/{self._count}] {self._name(outcome.job)}: {text}", style)


class ControlDisplay(ScoreDisplay):
    """The same for control slides that are scored to be the reference."""

    def _found(self, outcome: ScoreOutcome, summary: Mapping[str, Any]) -> None:
        fields = summary["fields"]
        self._say(outcome, f"control, {counted(fields, 'field')}, {outcome.seconds:.0f} s")


class BlindControlDisplay(ScoreDisplay):
    """The same in a blinded reading: neither names nor figures, by which a report tells a code."""

    def _name(self, job: ScoreJob) -> str:
        return "a control slide"

    def _found(self, outcome: ScoreOutcome, summary: Mapping[str, Any]) -> None:
        self._say(outcome, "done")

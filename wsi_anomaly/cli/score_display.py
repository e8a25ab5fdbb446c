"""What ``wsi-anomaly score`` shows while it works."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wsi_anomaly.cli.common import VERBOSE

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from wsi_anomaly.scoring import ScoreMap


class ScoreDisplay:
    """A progress bar for the slide and for all of them, and a line for each that is finished.

    Without a terminal (a log file, a cluster job) only the lines are printed.
    """

    def __init__(self, console: Console, count: int, verbosity: int) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console, self._count, self._verbosity = console, count, verbosity
        self._number = 0
        self._started = 0.0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._slide = self._progress.add_task("", total=None)
        # Only worth a second bar when there is more than one slide.
        self._all = self._progress.add_task("all slides", total=count, visible=count > 1)

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

    def start(self, path: Path) -> None:
        """Begin a slide."""
        self._started = time.perf_counter()
        self._progress.reset(self._slide, description=path.name, total=None)

    def progress(self, done: int, total: int) -> None:
        """Fields done and fields in all of the slide under way."""
        self._progress.update(self._slide, completed=done, total=total)
        self._progress.update(self._all, completed=self._number + done / max(1, total))

    def kept(self, path: Path) -> None:
        """Say that a result was there already."""
        self._print(path, "kept, scored before with the same model and settings")

    def failed(self, path: Path) -> None:
        """Say that a slide could not be scored; the reason comes at the end."""
        self._print(path, "not done", style="red")

    def finished(self, path: Path, score_map: ScoreMap, folder: Path) -> None:
        """Say what was found."""
        found = score_map.interpretation
        seconds = time.perf_counter() - self._started
        text = f"{len(score_map.fields):,} fields, slide score {found.slide_score:.4g}"
        if found.can_flag:
            area = sum(region.area_mm2 for region in found.regions)
            text += f", {len(found.regions)} flagged regions ({area:.2f} mm2)"
        unknown = sum(score_map.not_assessed_mm2().values())
        if unknown:
            text += f", {unknown:.2f} mm2 not assessed"
        self._print(path, f"{text}, {seconds:.0f} s")
        if found.fdr is not None:
            self._console.print(f"    {found.fdr.sentence}", markup=False, soft_wrap=True)
        for warning in found.warnings:
            self._console.print(f"    {warning}", style="yellow", markup=False, soft_wrap=True)
        if self._verbosity >= VERBOSE:
            self._console.print(f"    -> {folder}", markup=False, soft_wrap=True)

    def _print(self, path: Path, text: str, style: str | None = None) -> None:
        self._number += 1
        self._progress.update(self._all, completed=self._number)
        self._console.print(
            f"[{self._number}/{self._count}] {path.name}: {text}",
            style=style,
            markup=False,
            soft_wrap=True,
        )

"""What ``wsi-anomaly tile`` shows while it works."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsi_anomaly.cli.common import NORMAL, VERBOSE
from wsi_anomaly.cli.display import Display, duration
from wsi_anomaly.core.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from wsi_anomaly.jobs import Running
    from wsi_anomaly.tiles.jobs import Job
    from wsi_anomaly.tiles.tiling import TileOutcome


class TileDisplay(Display):
    """A live table of the slides under way, and a line for each that is finished."""

    def __init__(self, console: Console, count: int, verbosity: int) -> None:
        from rich.live import Live

        self._count = count
        self._finished = 0
        self._kept = 0
        self._started = time.perf_counter()
        self._first_tile: dict[Path, tuple[float, int]] = {}
        self._table = (
            Live(console=console, refresh_per_second=4, transient=True)
            if console.is_terminal
            else None
        )
        super().__init__(console, verbosity, self._table)

    def finished(self, outcome: TileOutcome) -> None:
        """Print what became of a slide."""
        self._finished += 1
        result = outcome.result
        place = f"[{self._finished}/{self._count}]"
        if result is None:
            self._print(f"{place} {outcome.job.slide.name}: not done", style="red")
        elif result.skipped:
            self._kept += 1
            if self._verbosity >= NORMAL:
                self._print(
                    f"{place} {outcome.job.slide.name}: kept, {counted(result.tiles, 'tile')}"
                )
        else:
            powers = " ".join(f"{m}x" for m in result.magnifications)
            text = (
                f"{place} {outcome.job.slide.name}: {counted(result.tiles, 'tile')} at {powers}, "
                f"{outcome.seconds:.0f} s"
            )
            unusable = [f"{n:,} {name}" for name, n in result.counts.items() if n and name != "ok"]
            notes = [*result.notes, *([f"not usable: {', '.join(unusable)}"] if unusable else [])]
            self._print(text + (f" ({'; '.join(notes)})" if notes else ""))
            if self._verbosity >= VERBOSE:
                self._print(f"    -> {result.path}")

    def running(self, slides: Sequence[Running[Job]]) -> None:
        """Show the slides under way."""
        if self._table:
            self._table.update(self._rows(slides))

    def _rows(self, slides: Sequence[Running[Job]]) -> Table:
        from rich.table import Table

        from wsi_anomaly.tiles.extraction import Stage

        now = time.perf_counter()
        table = Table(box=None, pad_edge=False, title_justify="left")
        for name, justify in (
            ("slide", "left"), ("stage", "left"), ("tiles", "right"), ("tiles/s", "right"),
        ):  # fmt: skip
            table.add_column(name, justify=justify, style="dim", no_wrap=True)  # type: ignore[arg-type]
        parts = 0.0
        for slide in slides:
            rate = ""
            if slide.stage == Stage.TILES and slide.done:
                start, before = self._first_tile.setdefault(slide.job.slide, (now, slide.done))
                if now - start > 1:
                    rate = f"{(slide.done - before) / (now - start):,.0f}"
                parts += slide.done / max(1, slide.total)
            tiles = f"{slide.done:,} / {slide.total:,}" if slide.total else ""
            table.add_row(slide.job.slide.name, Stage(slide.stage).name.lower(), tiles, rate)
        done = self._finished - self._kept + parts
        left = self._count - self._finished - parts
        status = f"{self._finished} of {counted(self._count, 'slide')}"
        if done > 0.05:
            status += f", about {duration((now - self._started) / done * left)} left"
        table.title = status
        return table

"""What every command's display has: something live while it works, and lines that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from wsi_anomaly.cli.common import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress, ProgressColumn


class Display:
    """Something live on a terminal, and lines.

    Without a terminal (a log file, a cluster job) only the lines are printed.

    Parameters
    ----------
    console
    verbosity
    live
        A bar or a table, there while the command works.
    """

    def __init__(
        self, console: Console, verbosity: int, live: Progress | Live | None = None
    ) -> None:
        self._console, self._verbosity, self._live = console, verbosity, live

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print a sentence that the user should read."""
        self._print(text, style="yellow")

    def _print(self, text: str, style: str | None = None) -> None:
        say(self._console, text, style)


def progress_bar(console: Console, *facts: ProgressColumn, time_left: bool = True) -> Progress:
    """Bar with what is done, the share, `facts` and the time left; only on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        *facts,
        *((TimeRemainingColumn(), TextColumn("left")) if time_left else ()),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def duration(seconds: float) -> str:
    """Say a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

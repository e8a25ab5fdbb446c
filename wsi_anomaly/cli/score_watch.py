"""``wsi-anomaly score --watch``: slides are scored as they arrive, a line and a time for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import VERBOSE, console, say

if TYPE_CHECKING:
    from wsi_anomaly.options import ScoreOptions
    from wsi_anomaly.screening import ScoreOutcome


def run_watch(
    folders: Sequence[Path],
    model: Sequence[str],
    output: Path,
    options: ScoreOptions,
    settle_s: float | None,
    *,
    verbosity: int,
) -> int:
    """Watch folders until somebody ends it; what is done stays.

    Parameters
    ----------
    folders, model, output, options, verbosity
        As the command takes them.
    settle_s
        Seconds without a change after which a slide has arrived; None: the usual.

    Raises
    ------
    UsageError
        What is to be watched is no folder.
    """
    from contextlib import closing

    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.jobs import available_cores
    from wsi_anomaly.screening import ScoreRun, score_arrivals
    from wsi_anomaly.screening.watching import SETTLE_S

    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder; give --watch folders in which slides arrive.")
    out = console(verbosity)

    def line(text: str, style: str | None = None) -> None:
        say(out, f"{_now()} {text}", style)

    def note(text: str) -> None:
        line(text, "yellow")

    settle_s = SETTLE_S if settle_s is None else settle_s
    run = ScoreRun.ready(model[0] if model else None, output, options, available_cores(), note=note)
    watched = ", ".join(str(folder) for folder in folders)
    line(
        f"Watching {watched}: a slide is scored when its files have not changed for {settle_s:g} "
        f"s; Ctrl-C ends it, the same command goes on. Open {run.output / 'index.html'}"
    )
    with closing(score_arrivals(run, folders, settle_s=settle_s, note=note)) as outcomes:
        for outcome in outcomes:
            _say(outcome, line, verbosity)
    return 0


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _say(outcome: ScoreOutcome, line: Callable[[str], None], verbosity: int) -> None:
    """Say what became of a slide in a line; of one that was done before only if asked."""
    from wsi_anomaly.cli.score_display import found_in_words, shown_name

    name = shown_name(outcome.job)
    if outcome.result is None:
        click.echo(f"{_now()} Error: {outcome.error}", err=True)
    elif not outcome.result.kept:
        found = found_in_words(outcome.result.summary)
        line(f"{name}: {found}, {outcome.seconds:.0f} s")
    elif verbosity >= VERBOSE:
        line(f"{name}: kept, scored before with the same model and settings")

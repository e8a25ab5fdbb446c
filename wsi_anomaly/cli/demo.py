"""``wsi-anomaly demo``: the whole path, from slides to reports, on slides that it makes itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import QUIET, VERBOSE, common_options, console, output_option, say
from wsi_anomaly.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from wsi_anomaly.demo.run import DemoFigures
    from wsi_anomaly.demo.slides import DemoSlide


@click.command()
@output_option("demo", "Folder for everything that the demo makes (about 620 MB).")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes.  [default: one for each core]"
)
@common_options
def command(*, output: Path, workers: int | None, verbosity: int = 0) -> int:
    r"""Make slides, learn from the normal ones, and find the lesions of the others.

    The slides are synthetic: drawn by the program, with lesions of enlarged, irregular nuclei
    whose outlines are known. The demo then runs the same commands that you would type, shows
    each, and holds the result against the truth. About four minutes on two cores. Run it again
    after an interruption: what is done is kept.

    \b
    Examples:
      wsi-anomaly demo
      wsi-anomaly demo -o /tmp/trial --workers 8

    \b
    Exit code: 0 done; 1 a step failed; 2 wrong usage; 130 interrupted.
    """
    from wsi_anomaly.core.files import make_folder, write_json
    from wsi_anomaly.demo import slides as demo_slides
    from wsi_anomaly.demo.run import (
        commands,
        evaluate,
        figures_as_json,
        model_is_current,
    )
    from wsi_anomaly.jobs import available_cores

    out = console(verbosity)
    workers = workers or available_cores()
    make_folder(output)
    slides = demo_slides.SLIDES
    _make_slides(slides, output, workers, out)
    for arguments in commands(output, workers):
        if arguments[0] == "train" and model_is_current(output):
            out.print("\n[dim]The model is up to date: nothing to train.[/]")
            continue
        code = _run(arguments, out, verbosity)
        if code:
            return code
    figures = evaluate(slides, output)
    write_json(output / "evaluation.json", figures_as_json(figures))
    if verbosity > QUIET:
        _show(figures, out)
        say(out, f"Open {output / 'results' / 'index.html'}")
    return 0


def _make_slides(slides: Sequence[DemoSlide], output: Path, workers: int, out: Console) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from wsi_anomaly.demo.slides import count_missing, make_slides

    missing = count_missing(slides, output)
    if missing < len(slides):
        out.print(f"{len(slides) - missing} of {counted(len(slides), 'slide')} there already.")
    if not missing:
        return
    with Progress(
        TextColumn("making slides"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=out, transient=True, disable=not out.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("slides", total=missing)
        for _ in make_slides(slides, output, workers=workers):
            progress.advance(task)
    folder = output / "slides"
    say(out, f"Made {missing} synthetic slides in {folder}/")


def _run(arguments: list[str], out: Console, verbosity: int) -> int:
    """Run one command in this very process, as the user would have typed it."""
    from wsi_anomaly.cli.main import main

    say(out, f"\n$ wsi-anomaly {shlex.join(arguments)}", "bold")
    tone = {QUIET: ["--quiet"], VERBOSE: ["--verbose"]}.get(verbosity, [])
    return main([*arguments, *tone])


def _show(figures: DemoFigures, out: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from wsi_anomaly.demo.run import LARGE_LESION_MM2, SMALLEST_LESION_MM2

    table = Table(
        title="Unseen slides against their known lesions", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("What")
    table.add_column("Result", justify="right")
    table.add_column("[dim]Meaning[/]", style="dim")
    for name, tiles in figures.tiles.items():
        ranks = name == figures.primary
        table.add_row(
            f"Tile ROC AUC, {name}",
            str(tiles.roc_auc),
            "the method that ranks; 95% interval over slides" if ranks else "fitted beside it",
            style="bold" if ranks else "",
        )
        if ranks:
            table.add_row(
                "  over 3 x 3 tiles",
                str(figures.smoothed.roc_auc),
                "smoothed, as flags and rank use it",
            )
    table.add_row(
        "Tile ROC AUC, mean colour", str(figures.colour.roc_auc), "control: no detector at all"
    )
    table.add_row(
        "  over 3 x 3 tiles", str(figures.colour_smoothed.roc_auc), "smoothed the same way"
    )
    flags = figures.flags
    for found, smallest in ((figures.large, LARGE_LESION_MM2), (flags, SMALLEST_LESION_MM2)):
        table.add_row(
            "Lesions flagged",
            f"{found.found} of {found.lesions}",
            f"of at least {smallest:g} mm², touched by a flagged region",
        )
    table.add_row(
        "False regions",
        f"{figures.false_on_normal:.2g} per slide",
        f"on {len(figures.normal_slides)} unseen normal slides; promised: at most 1 on average",
    )
    out.print()
    out.print(table)
    out.print(
        "Drawn slides show that everything works together, not how good it is on real tissue.",
        style="dim",
    )

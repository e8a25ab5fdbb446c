"""Options and output that every command shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

    from wsi_anomaly.jobs import Outcome

F = TypeVar("F", bound=Callable[..., Any])

NORMAL, QUIET, VERBOSE = 0, -1, 1
_DEBUG = "wsi_anomaly.debug"


def common_options(function: F) -> F:
    """Add ``-v/--verbose``, ``-q/--quiet`` (as `verbosity`: 1, 0, -1) and ``--debug``."""

    def set_verbosity(ctx: click.Context, _param: click.Parameter, value: int | None) -> None:
        if value is not None:
            ctx.params["verbosity"] = value
        ctx.params.setdefault("verbosity", NORMAL)

    for flag, level, text in (
        (("-q", "--quiet"), QUIET, "Print errors only."),
        (("-v", "--verbose"), VERBOSE, "Print more of what is done."),
    ):
        function = click.option(
            *flag,
            flag_value=level,
            default=None,
            type=int,
            expose_value=False,
            callback=set_verbosity,
            help=text,
        )(function)

    def set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        ctx.meta[_DEBUG] = value

    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=set_debug,
        help="Show the traceback of an error.",
    )(function)


def say_what_failed(outcomes: Sequence[Outcome[Any, Any]]) -> None:
    """Print the sentence of each failure; with ``--debug`` where it arose, in any process."""
    debug = click.get_current_context().meta[_DEBUG]
    for outcome in outcomes:
        if debug and outcome.traceback:
            click.echo(outcome.traceback, err=True)
        click.echo(f"Error: {outcome.error}", err=True)
    if not debug and any(outcome.unexpected for outcome in outcomes):
        click.echo("Run the same command with --debug for the details.", err=True)


backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "openslide", "tiff"]),
    default="auto",
    show_default=True,
    help="Reader of the slides: auto decodes TIFF files directly, which is faster, and takes "
    "OpenSlide for the rest; the pixels are the same.",
)

mpp_csv_option = click.option(
    "--mpp-csv",
    type=click.Path(path_type=Path),
    help="Lines of slide,mpp: micrometres per pixel of single slides.",
)

device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, or auto: a GPU if there is one."
)


def progress_bar(console: Console, *facts: ProgressColumn) -> Progress:
    """Bar with what is done, the share, `facts` and the time left; only on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        *facts,
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def console(verbosity: int = NORMAL) -> Console:
    """Console for people: progress, tables, warnings on stderr; silent with ``--quiet``."""
    from rich.console import Console

    return Console(stderr=True, quiet=verbosity == QUIET, highlight=False)


def say_which_are_not_named(
    slides: Sequence[Path], cases: Mapping[str, str], verbosity: int
) -> None:
    """Say which slides a table of cases does not name: a wrong name there has no other effect."""
    from wsi_anomaly.tiles.jobs import look_up

    left = [slide.name for slide in slides if look_up(cases, slide) is None]
    if not left:
        return
    some = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
    console(verbosity).print(
        f"--cases does not name {len(left)} of {len(slides)} slides ({some}); each of them is a "
        "case of its own.",
        style="yellow", markup=False, soft_wrap=True,
    )  # fmt: skip

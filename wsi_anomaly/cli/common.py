"""Options and output that every command shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wsi_anomaly.core.plugins import READERS
from wsi_anomaly.core.registry import Registry

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

F = TypeVar("F", bound=Callable[..., Any])

NORMAL, QUIET, VERBOSE = 0, -1, 1


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
    return click.option(
        "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
    )(function)


class Registered(click.Choice[str]):
    """One of ours, which the help lists, or what another installed package has registered."""

    def __init__(self, registry: Registry[Any], *further: str) -> None:
        super().__init__([*further, *registry.names()])
        self._registry = registry

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Let a name pass that is known."""
        if value not in self.choices and value in self._registry:
            return str(value)
        return super().convert(value, param, ctx)


backend_option = click.option(
    "--backend",
    type=Registered(READERS, "auto"),
    default="auto",
    show_default=True,
    help="Reader of the slides: auto decodes TIFF files directly, which is faster, and takes "
    "OpenSlide for the rest; the pixels are the same. Or the name of a plug-in.",
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

"""Options and output that every command shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wsi_anomaly.core.plugins import READERS
from wsi_anomaly.core.registry import Registry

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.jobs import Outcome

F = TypeVar("F", bound=Callable[..., Any])

NORMAL, QUIET, VERBOSE = 0, -1, 1
_DEBUG = "wsi_anomaly.debug"

PATH = click.Path(path_type=Path)
"""Of an option that takes a path, there or not."""


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


def say_what_failed(outcomes: Sequence[Outcome[Any, Any]], missed: Sequence[str] = ()) -> None:
    """Print the sentence of each failure; with ``--debug`` where it arose, in any process.

    Further sentences, of what was missed, come after them.
    """
    debug = click.get_current_context().meta[_DEBUG]
    for outcome in outcomes:
        if debug and outcome.traceback:
            click.echo(outcome.traceback, err=True)
        click.echo(f"Error: {outcome.error}", err=True)
    for text in missed:
        click.echo(f"Error: {text}", err=True)
    if not debug and any(outcome.unexpected for outcome in outcomes):
        click.echo("Run the same command with --debug for the details.", err=True)


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


def option_of(options: type) -> Callable[..., Callable[[F], F]]:
    """Make ``click.option``s of the fields of an options object: same name, same default."""

    def option(*flags: str, **settings: Any) -> Callable[[F], F]:
        name = str(click.Option(flags, multiple=settings.get("multiple", False)).name)
        return click.option(*flags, **{"default": getattr(options, name), **settings})

    return option


def output_option(default: str, meaning: str) -> Callable[[F], F]:
    """Add ``--output``."""
    return click.option(
        "-o", "--output", type=PATH, default=Path(default), show_default=True, help=meaning
    )


model_option = click.option(
    "--model",
    type=PATH,
    help="Folder of the model.  [default: model/, else the shipped model]",
)


def embeddings_option(options: type, text: str) -> Callable[[F], F]:
    """Add ``--embeddings``."""
    return option_of(options)("--embeddings", type=PATH, metavar="FOLDER", help=text)


def resume_option(options: type, text: str) -> Callable[[F], F]:
    """Add ``--resume/--overwrite``."""
    return option_of(options)("--resume/--overwrite", show_default=True, help=text)


def backend_option(options: type) -> Callable[[F], F]:
    """Add ``--backend``."""
    return option_of(options)(
        "--backend",
        type=Registered(READERS, "auto"),
        show_default=True,
        help="Reader of the slides: auto decodes TIFF files directly, which is faster, and takes "
        "OpenSlide for the rest; the pixels are the same. Or the name of a plug-in.",
    )


def scene_option(function: F) -> F:
    """Add ``--scene``."""
    return click.option(
        "--scene",
        type=click.IntRange(min=1),
        help="Which of several images in a file is the slide, counted from 1.  [default: the "
        "largest]",
    )(function)


def origin_option(options: type, text: str) -> Callable[[F], F]:
    """Add ``--qupath-origin``."""
    return option_of(options)(
        "--qupath-origin",
        "origin",
        type=click.Choice(["bounds", "level0"]),
        show_default=True,
        help=text,
    )


def mpp_options(options: type) -> Callable[[F], F]:
    """Add ``--mpp`` and ``--mpp-csv``."""
    option = option_of(options)

    def decorate(function: F) -> F:
        function = option(
            "--mpp-csv",
            type=PATH,
            help="Lines of slide,mpp: micrometres per pixel of single slides.",
        )(function)
        return option(
            "--mpp",
            type=float,
            help="Micrometres per pixel of all these slides, over what they say.",
        )(function)

    return decorate


def cache_option(options: type) -> Callable[[F], F]:
    """Add ``--cache``."""
    return option_of(options)(
        "--cache",
        type=PATH,
        metavar="FOLDER",
        help="Copy slides of a slow disk to this folder, a few ahead, and remove the copies after.",
    )


def device_option(options: type) -> Callable[[F], F]:
    """Add ``--device``."""
    return option_of(options)(
        "--device", show_default=True, help="cpu, cuda, or auto: a GPU if there is one."
    )


def console(verbosity: int = NORMAL) -> Console:
    """Console for people: progress, tables, warnings on stderr; silent with ``--quiet``."""
    from rich.console import Console

    return Console(stderr=True, quiet=verbosity == QUIET, highlight=False)


def say(out: Console, text: str, style: str | None = None) -> None:
    """Print a line as it is: nothing in it is markup, and no path is broken in two."""
    out.print(text, style=style, markup=False, soft_wrap=True)


def noting(out: Console) -> Callable[[str], None]:
    """Return what prints a sentence that the user should read."""
    return lambda text: say(out, text, "yellow")

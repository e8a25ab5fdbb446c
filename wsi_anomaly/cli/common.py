"""Options and output that every command shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

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


def read_slide_tables(
    slides: Sequence[Path], mpp_csv: Path | None, cases: Path | None, verbosity: int
) -> tuple[dict[Path, float], dict[Path, str]]:
    """Pixel sizes and cases that the tables of ``--mpp-csv`` and ``--cases`` give to slides.

    What does not match is said: a wrong name in a table has no other effect.

    Raises
    ------
    UsageError
        A table cannot be read, or does not fit the slides.
    """
    from wsi_anomaly.core.slide_names import OWN_CASE, read_cases, read_pixel_sizes

    names = [slide.name for slide in slides]
    size_of: dict[Path, float] = {}
    case_of: dict[Path, str] = {}
    said: list[str] = []
    if mpp_csv is not None:
        sizes = read_pixel_sizes(mpp_csv, slides)
        size_of, said = sizes.by(slides), sizes.mismatches("--mpp-csv", names)
    if cases is not None:
        matched = read_cases(cases, slides)
        case_of, said = matched.by(slides), said + matched.mismatches("--cases", names, OWN_CASE)
    for sentence in said:
        console(verbosity).print(sentence, style="yellow", markup=False, soft_wrap=True)
    return size_of, case_of

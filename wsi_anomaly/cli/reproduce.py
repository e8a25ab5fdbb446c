"""``wsi-anomaly reproduce``: the paper's tables, ours beside theirs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsi_anomaly.cli.common import PATH, QUIET, common_options, console, say
from wsi_anomaly.cli.reproduce_options import SETS, reproduce_options

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.cli.reproduce_display import SourceDisplay
    from wsi_anomaly.reproduce.plan import Plan
    from wsi_anomaly.reproduce.problems import Source


@click.command()
@click.argument("what", type=click.Choice([*SETS, "supervision"]))
@click.argument("data", type=PATH)
@reproduce_options
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    what: str,
    data: Path,
    output: Path,
    rows: tuple[str, ...],
    ablation: bool,
    classes: tuple[str, ...],
    seeds: int,
    splits: Path | None,
    on: str,
    workers: int | None,
    device: str,
    verbosity: int = 0,
    **settings: Any,
) -> int:
    r"""Run the paper's experiments: ROC AUC, ours beside the paper's.

    DATA is the folder of a download (or a zip file of images for cifar10 and svhn). Its layout is
    checked first, and what is missing is listed. Everything runs as published unless an option
    says otherwise; the tables state what was. Each cell (row, class, seed) is kept: run the same
    command again to go on.

    \b
    WHAT:
      camelyon16   the challenge's folders: slides, lesion annotations, reference.csv
      nih          ChestX-ray14: images and Data_Entry_2017.csv
      cifar10      torchvision's files, or train/<class>/ and test/<class>/, or a zip of these
      svhn         the same; digits without colour
      chest, oral, glas, synthetic
                   the labelled sets of docs/results.md, each divided in a way of its own
      folder       any normal/ and abnormal/; groups.csv (image,group) keeps patients together
      supervision  how good is the configuration that few known anomalies choose?

    \b
    Examples:
      wsi-anomaly reproduce camelyon16 CAMELYON16/
      wsi-anomaly reproduce cifar10 data/ --rows dpa,deep-if --fraction 0.1
      wsi-anomaly reproduce nih CXR8/ --splits folds/ --ablation
      wsi-anomaly reproduce supervision mine/ --features compact --steps 500

    \b
    Exit code: 0 done; 1 some cells could not be computed, the others are done; 2 wrong usage, or
    data with pieces missing; 130 interrupted.
    """
    from wsi_anomaly.cli.reproduce_display import SourceDisplay
    from wsi_anomaly.core.devices import choose_device
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.reproduce.plan import Plan
    from wsi_anomaly.reproduce.published import ABLATION
    from wsi_anomaly.reproduce.rows import DEFAULT_ROWS

    plan = Plan(device=choose_device(device), **settings)
    if ablation and rows:
        raise UsageError("--ablation has rows of its own; leave --rows away.")
    out = console(verbosity)
    key = on if what == "supervision" else what
    wanted = tuple(ABLATION) if ablation else rows or DEFAULT_ROWS
    with SourceDisplay(out) as display:

        def first(note: str, slides: int) -> None:
            if what == "camelyon16" and not (output / key / "cells").exists():
                _say_hours(plan, wanted, seeds, out)
            display.expect(note, slides)

        source = open_source(key, data, plan, output / key, splits, workers, display, first)
    for text in source.errors:
        click.echo(f"Error: {text}", err=True)
    typed = shlex.join(["wsi-anomaly", "reproduce", *_typed(ctx)])
    if what == "supervision":
        return _supervision(
            source, plan, output / source.key, classes, seeds, typed, out, rows or ablation
        )
    return _tables(source, plan, wanted, output / source.key, classes, seeds, typed, out, verbosity)


def _say_hours(plan: Plan, rows: tuple[str, ...], seeds: int, out: Console) -> None:
    """Say what the trainings take before the slides are tiled."""
    from wsi_anomaly.reproduce.estimate import training_hours
    from wsi_anomaly.reproduce.rows import check_rows
    from wsi_anomaly.reproduce.sources.camelyon import HEALTHY, Camelyon16

    check_rows(rows, Camelyon16.key, plan.aside)
    hours = training_hours(rows, Camelyon16.key, HEALTHY, plan, seeds)
    if hours:
        named = ", ".join(f"{row} {value:,.1f} h" for row, value in hours.items())
        say(out, f"Trainings on this machine, {seeds} seeds, by a few steps of each: {named}.")


def open_source(
    key: str,
    data: Path,
    plan: Plan,
    output: Path,
    splits: Path | None,
    workers: int | None,
    display: SourceDisplay,
    first: Callable[[str, int], None],
) -> Source:
    """Check the data and open them; before slides are tiled, `first` is told what that takes."""
    from wsi_anomaly.core.errors import UsageError

    if not data.exists():
        raise UsageError(f"{data} does not exist; give the folder of the data.")
    if splits is not None and key not in ("camelyon16", "nih"):
        raise UsageError(f"--splits is for camelyon16 and nih; {key} has a division of its own.")
    limits: dict[str, Any] = {"learn": plan.learn, "judge": plan.judge}
    if key in ("cifar10", "svhn"):
        from wsi_anomaly.reproduce.sources.natural import NaturalImages

        return NaturalImages(key, data, **limits)
    if key == "nih":
        from wsi_anomaly.reproduce.sources.xrays import ChestXRays

        return ChestXRays(data, splits=splits, **limits)
    if key == "camelyon16":
        from wsi_anomaly.jobs import available_cores
        from wsi_anomaly.reproduce.sources.camelyon import Camelyon16

        return Camelyon16(
            data, output, splits=splits, workers=workers or available_cores(),
            progress=display.tiled, note=first, **limits,
        )  # fmt: skip
    from wsi_anomaly.reproduce.sources.folders import Folder
    from wsi_anomaly.reproduce.sources.labelled import LABELLED, LabelledImages

    if key in LABELLED:
        return LabelledImages(key, data, **limits)
    return Folder(data, **limits)


def _typed(ctx: click.Context) -> list[str]:
    """Give what the user typed, from what click made of it; defaults left out."""
    found = [str(ctx.params["what"]), str(ctx.params["data"])]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if not isinstance(parameter, click.Option) or parameter.opts[-1] == "--output":
            continue
        source = ctx.get_parameter_source(name)
        if source != click.core.ParameterSource.COMMANDLINE or name not in ctx.params:
            continue
        value = ctx.params[name]
        if isinstance(value, dict):
            value = tuple(f"{key}={one}" for key, one in value.items())
        if parameter.is_flag:
            found.append(parameter.opts[-1])
            continue
        for one in value if isinstance(value, tuple) else (value,):
            found += [parameter.opts[-1], str(one)]
    return found


def _supervision(
    source: Source,
    plan: Plan,
    output: Path,
    classes: tuple[str, ...],
    seeds: int,
    typed: str,
    out: Console,
    other: object,
) -> int:
    from wsi_anomaly.cli.reproduce_display import CellDisplay
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.reproduce.supervision import supervision

    if other:
        raise UsageError("supervision has a grid of its own; leave --rows and --ablation away.")
    with CellDisplay(out) as display:
        found = supervision(
            source, plan, output, classes=classes, seeds=seeds, command=typed,
            watch=display.watch(),
        )  # fmt: skip
    for curve in found.curves:
        shown = ", ".join(
            f"{n}: {auc:.3f}" for n, auc in zip(curve.counts, curve.mean, strict=True)
        )
        out.print(f"Anomalies of {curve.types} type(s), ROC AUC of the choice: {shown}")
    out.print(
        f"Best of the grid {found.oracle:.3f}, chosen by reconstruction "
        f"{found.unsupervised:.3f}, any at random {found.average:.3f}"
    )
    say(out, f"Curve in {output}/supervision.md and .png")
    return 1 if source.errors else 0


def _tables(
    source: Source,
    plan: Plan,
    rows: tuple[str, ...],
    output: Path,
    classes: tuple[str, ...],
    seeds: int,
    typed: str,
    out: Console,
    verbosity: int,
) -> int:
    from wsi_anomaly.cli.reproduce_display import CellDisplay, show
    from wsi_anomaly.reproduce.run import reproduce

    for note in source.notes:
        say(out, note, "dim")
    with CellDisplay(out) as display:
        outcome = reproduce(
            source, plan, rows, output, classes=classes, seeds=seeds, command=typed,
            watch=display.watch(),
        )  # fmt: skip
    if verbosity > QUIET:
        show(source, outcome.rows, out)
        say(out, f"Tables in {output}/table.md and table.png")
    for text in outcome.errors:
        click.echo(f"Error: {text}", err=True)
    return 1 if outcome.errors or source.errors else 0

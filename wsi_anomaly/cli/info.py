"""``wsi-anomaly info``: what is known of a slide, a tile file, a model or a result."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import PATH, QUIET, VERBOSE, common_options, scene_option


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option(
    "--mpp",
    type=click.FloatRange(min=0.01, max=20.0),
    help="Micrometres per pixel of these slides, over what they say.",
)
@scene_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list with one entry a path.")
@common_options
def command(
    *,
    paths: tuple[Path, ...],
    mpp: float | None,
    scene: int | None,
    as_json: bool,
    verbosity: int = 0,
) -> int:
    r"""Show what is known of slides, tile files, models and results.

    Of a slide: its size, pixel size and where that comes from, the magnifications it serves, its
    levels and scanned area; with -v everything that its file says. Nothing is changed.

    \b
    Examples:
      wsi-anomaly info slide.svs
      wsi-anomaly info tiles/slide.h5 model/ results/
      wsi-anomaly info slides/*.svs --json > slides.json

    \b
    Exit code: 0 all shown; 1 some could not be read, the others are shown; 2 wrong usage.
    """
    import json

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from wsi_anomaly.cli.info_facts import facts_of
    from wsi_anomaly.core.errors import WsiAnomalyError

    out = Console(highlight=False)
    found, errors = [], []
    for path in paths:
        try:
            found.append(facts_of(path, mpp, scene))
        except WsiAnomalyError as error:
            errors.append(error)
    # All of it at the end: where a slide ends this process, none is shown twice.
    for number, facts in enumerate([] if as_json or verbosity == QUIET else found):
        if number:
            out.print()
        path = facts.path
        out.print(Text.assemble((facts.kind, "dim"), " ", (str(path), "bold")), soft_wrap=True)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        details = facts.details if verbosity == VERBOSE else []
        for name, text in [*facts.rows, *details]:
            table.add_row(Text(name), Text(text))
        out.print(table)
    if as_json:
        shown = [facts.to_dict() for facts in found]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    for failure in errors:
        click.echo(f"Error: {failure}", err=True)
    if not errors:
        return 0
    return 1 if found else max(failure.exit_code for failure in errors)

"""``wsi-anomaly qupath``: a QuPath project of scored slides."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import PATH, common_options, console, say
from wsi_anomaly.core.wording import counted


@click.command()
@click.argument("results", type=PATH, default=Path("results"))
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("project"),
    show_default=True,
    help="Folder of the project; one that is there is brought up to date.",
)
@click.option(
    "--slides",
    type=click.Path(path_type=Path, exists=True),
    help="Folder in which the slides lie now, if they are not where they were scored.",
)
@common_options
def command(*, results: Path, output: Path, slides: Path | None, verbosity: int = 0) -> int:
    r"""Make a QuPath project of scored slides, most abnormal first.

    RESULTS is the folder that score has written (default: results/). Open the project in QuPath
    0.4 or later, run its script 1_add_overlays for the project, and look: percentiles from 90 to
    100 are coloured, normal tissue is as it is. What was drawn in the project before stays.

    \b
    Examples:
      wsi-anomaly qupath results/ -o project/
      wsi-anomaly qupath results/ --slides /media/slides
    """
    from wsi_anomaly.reports.worklist_rows import collect
    from wsi_anomaly.results.qupath_project import write_project

    out = console(verbosity)
    order = [row.folder for row in collect(results) if row.folder] if results.is_dir() else []
    made = write_project(results, output, slides, order)
    for problem in made.problems:
        click.echo(f"Error: {problem}", err=True)
    say(out, f"{len(made.images)} of {counted(len(order), 'slide')} in the project.")
    if made.images:
        say(out, f"Open {made.path} in QuPath; then Automate > Project scripts > 1_add_overlays,")
        say(out, "Run > Run for project.")
    return 1 if made.problems else 0

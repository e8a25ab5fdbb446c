"""``wsi-anomaly init``: a table of slides, for the other commands."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import PATH, common_options, console, noting, say


@click.command()
@click.argument("slides", nargs=-1, required=True, type=PATH)
@click.option(
    "-o", "--output", type=PATH, default=Path("study.csv"), show_default=True, help="The table."
)
@click.option("--overwrite", is_flag=True, help="Replace a table that is there.")
@common_options
def command(*, slides: tuple[Path, ...], output: Path, overwrite: bool, verbosity: int = 0) -> int:
    r"""Write a manifest: one table of slides that the other commands take in their place.

    SLIDES are files, or folders that are searched. Each has a line: slide (its path from the
    table), mpp (what the file says of its pixels), and case, label, group, mask, which no file
    says: they are left empty for you to fill in. Then give the table wherever slides are asked for.

    \b
    Examples:
      wsi-anomaly init slides/ -o study.csv
      wsi-anomaly tile study.csv

    \b
    Exit code: 0 done; 1 some slides cannot be opened, they stand in the table without mpp; 2 wrong
    usage, such as a table that is there already; 130 interrupted.
    """
    from wsi_anomaly.core.wording import counted, some
    from wsi_anomaly.slides.survey import write_manifest

    out = console(verbosity)
    made = write_manifest(slides, output, overwrite=overwrite)
    if made.without_mpp:
        noting(out)(
            f"{len(made.without_mpp)} of {counted(made.slides, 'slide')} without micrometres per "
            f"pixel; fill in mpp: {some(made.without_mpp)}."
        )
    for sentence in made.unreadable:
        click.echo(f"Error: {sentence}", err=True)
    say(
        out, f"{counted(made.slides, 'slide')} in {made.path}; fill in case, label, group and mask."
    )
    return 1 if made.unreadable else 0

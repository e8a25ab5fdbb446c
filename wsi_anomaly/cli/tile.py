"""``wsi-anomaly tile``: slides in, tile files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import common_options, console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsi_anomaly.tiles import TileConfig
    from wsi_anomaly.tiles.jobs import Job


def _magnifications(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part.strip().rstrip("xX")) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give magnifications such as 10,20,40") from error


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("tiles"),
    show_default=True,
    help="Folder of tile files.",
)
@click.option(
    "--magnifications",
    default="10,20,40",
    show_default=True,
    callback=_magnifications,
    help="Copies of each field to store: 10x = 1, 20x = 0.5, 40x = 0.25 um per pixel.",
)
@click.option(
    "--tile-size",
    type=int,
    default=64,
    show_default=True,
    help="Side of a field: pixels at 10x, which is micrometres.",
)
@click.option(
    "--stride",
    type=int,
    help="From one field to the next, pixels at 10x; less than --tile-size overlaps.  "
    "[default: --tile-size]",
)
@click.option(
    "--max-tiles",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Fields a slide, drawn at random (always the same ones); 0: all.",
)
@click.option(
    "--min-tissue",
    type=float,
    default=0.5,
    show_default=True,
    help="Least share of tissue in a field.",
)
@click.option(
    "--stain",
    type=click.Choice(["vahadane", "none"]),
    default="vahadane",
    show_default=True,
    help="Stain normalisation, fitted once per slide.",
)
@click.option(
    "--mpp", type=float, help="Micrometres per pixel of all these slides, over what they say."
)
@click.option(
    "--mpp-csv",
    type=click.Path(path_type=Path),
    help="Lines of slide,mpp: micrometres per pixel of single slides.",
)
@click.option(
    "--cases",
    type=click.Path(path_type=Path),
    help="Lines of slide,case: slides of one patient or animal are never split between training "
    "and calibration. Without it every slide is a case of its own.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the fields.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes.  [default: one for each core]"
)
@click.option(
    "--resume/--overwrite",
    default=True,
    show_default=True,
    help="Keep tile files that are whole and were made the same way, or make all anew.",
)
@common_options
def command(
    *,
    slides: tuple[Path, ...],
    output: Path,
    magnifications: tuple[int, ...],
    tile_size: int,
    stride: int | None,
    max_tiles: int,
    min_tissue: float,
    stain: str,
    mpp: float | None,
    mpp_csv: Path | None,
    cases: Path | None,
    seed: int,
    workers: int | None,
    resume: bool,
    verbosity: int = 0,
) -> int:
    r"""Cut slides into stain-normalised tiles: tiles/<slide>.h5.

    SLIDES are files, or folders that are searched. Each field is stored at 10x, 20x and 40x, as
    far as the slide's pixels are fine enough (40x: 0.3 um or finer; 20x: 0.6; 10x: 1.2). Run the
    same command again after an interruption: finished slides are kept. What became of every
    slide stands in tiles/slides.csv.

    \b
    Examples:
      wsi-anomaly tile slides/
      wsi-anomaly tile controls/ --cases animals.csv --workers 8
      wsi-anomaly tile scan.svs --mpp 0.2527     a slide that does not say its pixel size
      wsi-anomaly tile slides/ --magnifications 10 --max-tiles 0     every field, 10x only

    \b
    Exit code: 0 all done; 1 some slides could not be tiled, the others are done; 2 wrong
    usage; 130 interrupted.
    """
    from wsi_anomaly.core.files import make_folder
    from wsi_anomaly.slides import find_slides
    from wsi_anomaly.slides.physical import find_mpp
    from wsi_anomaly.tiles import TileConfig
    from wsi_anomaly.tiles.jobs import plan_jobs, read_cases_csv, read_mpp_csv
    from wsi_anomaly.tiles.pool import default_workers

    config = TileConfig(
        magnifications=magnifications,
        tile_size=tile_size,
        stride=stride,
        max_tiles=max_tiles or None,
        min_tissue=min_tissue,
        stain=stain,
        seed=seed,
    )
    if mpp is not None:
        find_mpp({}, mpp)  # an implausible figure is wrong usage, not a fault of every slide
    found = find_slides(slides)
    make_folder(output)
    jobs = plan_jobs(
        found,
        output,
        mpp=mpp,
        mpp_of=read_mpp_csv(mpp_csv) if mpp_csv else None,
        cases=read_cases_csv(cases) if cases else None,
    )
    return _run(jobs, output, config, workers or default_workers(), resume, verbosity)


def _run(
    jobs: Sequence[Job],
    output: Path,
    config: TileConfig,
    workers: int,
    resume: bool,
    verbosity: int,
) -> int:
    """Tile, show progress, write the table of slides; errors come last, one sentence each."""
    from contextlib import closing

    from wsi_anomaly.cli.tile_display import TileDisplay
    from wsi_anomaly.tiles.ledger import write_ledger
    from wsi_anomaly.tiles.pool import Outcome, tile_slides

    out = console(verbosity)
    outcomes: list[Outcome] = []
    events = tile_slides(jobs, output, config, workers=workers, resume=resume)
    try:
        with closing(events), TileDisplay(out, len(jobs), verbosity) as display:
            for event in events:
                if isinstance(event, Outcome):
                    outcomes.append(event)
                    display.finished(event)
                else:
                    display.running(event)
    finally:
        write_ledger(output / "slides.csv", outcomes)
    errors = [outcome.error for outcome in outcomes if outcome.result is None]
    tiles = sum(outcome.result.tiles for outcome in outcomes if outcome.result)
    out.print(
        f"{len(outcomes) - len(errors)} of {len(jobs)} slides done, {tiles:,} tiles in {output}/",
        markup=False,
        soft_wrap=True,
    )
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    return 1 if errors else 0

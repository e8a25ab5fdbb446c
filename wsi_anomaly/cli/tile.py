"""``wsi-anomaly tile``: slides in, tile files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from wsi_anomaly.cli.common import PATH, common_options, console, noting, say, say_what_failed
from wsi_anomaly.cli.tile_options import tile_options
from wsi_anomaly.core.wording import counted
from wsi_anomaly.options import TileKeywords, TileOptions

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.tiles.run import TileRun
    from wsi_anomaly.tiles.tiling import TileOutcome


@click.command()
@click.argument("slides", nargs=-1, required=True, type=PATH)
@tile_options
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    slides: tuple[Path, ...],
    output: Path,
    preset: str | None,
    verbosity: int = 0,
    **flags: Unpack[TileKeywords],
) -> int:
    r"""Cut slides into stain-normalised tiles: tiles/<slide>.h5.

    SLIDES are files, folders that are searched, or a manifest: a table of slides, with their sizes
    of pixels, cases and masks (wsi-anomaly init). Each field is stored at the magnifications that
    are asked for, as far as the slide's pixels are fine enough (40x: 0.3 um or finer; 20x: 0.6;
    10x: 1.2). Run the same command again after an interruption: finished slides are kept. Beside
    each tile file, tiles/<slide>.png shows where the slide was cut; what became of every slide
    stands in tiles/slides.csv.

    \b
    Examples:
      wsi-anomaly tile slides/
      wsi-anomaly tile controls/ --cases animals.csv --workers 8
      wsi-anomaly tile study.csv     the slides of a manifest that it does not call abnormal
      wsi-anomaly tile scan.svs --mpp 0.2527     a slide that does not say its pixel size
      wsi-anomaly tile slides/ --magnifications 10 --max-tiles 0     every field, 10x only
      wsi-anomaly tile known/ --annotations outlines/ --label Tumour -o few     for tune
      wsi-anomaly tile slides/ --shard slurm     one task of a Slurm job array

    \b
    Exit code: 0 all done; 1 some slides could not be tiled, the others are done; 2 wrong
    usage; 130 interrupted.
    """
    from wsi_anomaly.jobs import kept_apart
    from wsi_anomaly.tiles.disk import about_room, room_needed
    from wsi_anomaly.tiles.run import TileRun

    out = console(verbosity)
    default = click.core.ParameterSource.DEFAULT
    given = {k: v for k, v in flags.items() if ctx.get_parameter_source(k) != default}
    options = TileOptions.of(preset, **given)  # type: ignore[arg-type]
    run = TileRun.plan(slides, output, options, note=noting(out))
    # (it opens slides, in this process)
    if not kept_apart() and (needed := room_needed(run.jobs, run.output, run.config)):
        text, too_little = about_room(needed, run.output)
        say(out, text, "yellow" if too_little else None)
    return _run(run, out, verbosity)


def _run(run: TileRun, out: Console, verbosity: int) -> int:
    """Tile, and show it; errors come last, one sentence each."""
    from contextlib import closing

    from wsi_anomaly.cli.tile_display import TileDisplay
    from wsi_anomaly.core.errors import OutputError

    outcomes: list[TileOutcome] = []
    unwritten = None
    try:
        with (
            TileDisplay(out, len(run.jobs), verbosity) as display,
            closing(run.outcomes(display.running)) as found,
        ):
            for outcome in found:
                outcomes.append(outcome)
                display.finished(outcome)
    except OutputError as error:  # of the table
        unwritten = error
    failed = [outcome for outcome in outcomes if outcome.error]
    done = [outcome.result for outcome in outcomes if outcome.result]
    say(
        out,
        f"{len(done)} of {counted(len(run.jobs), 'slide')} done, "
        f"{counted(sum(result.tiles for result in done), 'tile')} in {run.output}/",
    )
    missed = run.listing.missed()
    say_what_failed(failed, missed)
    if unwritten:
        raise unwritten
    return 1 if failed or missed else 0

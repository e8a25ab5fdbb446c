"""``wsi-anomaly tile``: slides in, tile files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsi_anomaly.cli.common import common_options, console, read_slide_tables
from wsi_anomaly.cli.tile_options import tile_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsi_anomaly.tiles import TileConfig
    from wsi_anomaly.tiles.jobs import Job


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))
@tile_options
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    slides: tuple[Path, ...],
    output: Path,
    mpp: float | None,
    mpp_csv: Path | None,
    tissue_mask: Path | None,
    annotations: Path | None,
    cases: Path | None,
    backend: str,
    workers: int | None,
    dask: str | None,
    shard: str | None,
    resume: bool,
    verbosity: int = 0,
    **tiles: Any,
) -> int:
    r"""Cut slides into stain-normalised tiles: tiles/<slide>.h5.

    SLIDES are files, or folders that are searched. Each field is stored at 10x, 20x and 40x, as
    far as the slide's pixels are fine enough (40x: 0.3 um or finer; 20x: 0.6; 10x: 1.2). Run the
    same command again after an interruption: finished slides are kept. Beside each tile file,
    tiles/<slide>.png shows where the slide was cut; what became of every slide stands in
    tiles/slides.csv.

    \b
    Examples:
      wsi-anomaly tile slides/
      wsi-anomaly tile controls/ --cases animals.csv --workers 8
      wsi-anomaly tile scan.svs --mpp 0.2527     a slide that does not say its pixel size
      wsi-anomaly tile slides/ --magnifications 10 --max-tiles 0     every field, 10x only
      wsi-anomaly tile known/ --annotations outlines/ --label Tumour -o few     for tune
      wsi-anomaly tile slides/ --shard slurm     one task of a Slurm job array

    \b
    Exit code: 0 all done; 1 some slides could not be tiled, the others are done; 2 wrong
    usage; 130 interrupted.
    """
    from wsi_anomaly.core.files import make_folder
    from wsi_anomaly.core.shards import parse_shard, take_shard
    from wsi_anomaly.slides import find_slides
    from wsi_anomaly.slides.physical import find_mpp
    from wsi_anomaly.tiles.jobs import plan_jobs

    part = parse_shard(shard)
    config = make_config(ctx, annotations=annotations, **tiles)
    if mpp is not None:
        find_mpp({}, mpp)  # an implausible figure is wrong usage, not a fault of every slide
    found = find_slides(slides)
    mpp_of, case_of = read_slide_tables(found, mpp_csv, cases, verbosity)
    make_folder(output)
    jobs = plan_jobs(
        found,
        output,
        mpp=mpp,
        mpp_of=mpp_of,
        cases=case_of,
        tissue_mask=tissue_mask,
        annotations=annotations,
        backend=backend,
    )
    mine = set(take_shard(found, part))
    jobs = [job for job in jobs if job.slide in mine]  # names are those of the whole run
    return _run(jobs, output, config, workers, dask, resume, verbosity)


def make_config(
    ctx: click.Context,
    *,
    preset: str | None,
    target: Path | None,
    stain: str,
    stain_engine: str,
    per_tile: bool,
    match: bool,
    max_tiles: int,
    label: tuple[str, ...],
    annotations: Path | None,
    **others: Any,
) -> TileConfig:
    """Say what to store; typed options win over the preset, the preset over defaults.

    Raises
    ------
    UsageError
        A figure makes no sense, or the options contradict each other.
    """
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.tiles import PRESETS, TileConfig

    if label and annotations is None:
        raise UsageError("--label names a class of annotations; give their file as --annotations.")
    if stain == "none" and (target or per_tile or stain_engine != "native" or not match):
        raise UsageError("--stain none leaves colours alone; leave the other stain options away.")
    if stain_engine == "staintools":
        from wsi_anomaly.stain.staintools_engine import require_staintools

        require_staintools()
    default = click.core.ParameterSource.DEFAULT
    values = {**others, "max_tiles": max_tiles or None} | {
        name: value
        for name, value in (PRESETS[preset] if preset else {}).items()
        if ctx.get_parameter_source(name) == default
    }
    if target is not None:
        from wsi_anomaly.tiles.target import read_target

        target_profile = read_target(target, stain)
    else:
        target_profile = None
    return TileConfig(
        stain=stain,
        engine=stain_engine,
        per_tile=per_tile,
        match_maxima=match,
        target=target_profile,
        labels=label,
        **values,
    )


def _run(
    jobs: Sequence[Job],
    output: Path,
    config: TileConfig,
    workers: int | None,
    dask: str | None,
    resume: bool,
    verbosity: int,
) -> int:
    """Tile, show progress, write the table of slides; errors come last, one sentence each."""
    from contextlib import closing

    from wsi_anomaly.cli.tile_display import TileDisplay
    from wsi_anomaly.core.errors import OutputError
    from wsi_anomaly.core.files import remove_left_behind
    from wsi_anomaly.core.pool import available_cores
    from wsi_anomaly.tiles.cluster import tile_slides_on_cluster
    from wsi_anomaly.tiles.ledger import Ledger
    from wsi_anomaly.tiles.pool import Outcome, tile_slides

    out = console(verbosity)
    remove_left_behind(output)
    outcomes: list[Outcome] = []
    errors: list[str] = []
    ledger = Ledger(output / "slides.csv")
    events = (
        tile_slides_on_cluster(jobs, output, config, dask, resume=resume)
        if dask
        else tile_slides(jobs, output, config, workers=workers or available_cores(), resume=resume)
    )
    try:
        with closing(events), TileDisplay(out, len(jobs), verbosity) as display:
            for event in events:
                if isinstance(event, Outcome):
                    outcomes.append(event)
                    display.finished(event)
                    ledger.add(event)
                else:
                    display.running(event)
    finally:
        try:
            ledger.write()
        except OutputError as error:
            errors.append(str(error))
    errors = [outcome.error for outcome in outcomes if outcome.result is None] + errors
    done = [outcome.result for outcome in outcomes if outcome.result]
    out.print(
        f"{len(done)} of {len(jobs)} slides done, {sum(result.tiles for result in done):,} tiles "
        f"in {output}/",
        markup=False,
        soft_wrap=True,
    )
    for text in errors:
        click.echo(f"Error: {text}", err=True)
    return 1 if errors else 0

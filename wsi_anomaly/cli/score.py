"""``wsi-anomaly score``: new slides in, heatmaps, QuPath overlays and reports out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from wsi_anomaly.cli.common import (
    backend_option,
    common_options,
    console,
    device_option,
    mpp_csv_option,
    read_slide_tables,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsi_anomaly.overlays import Scoring

DEFAULT_MODEL = Path("model")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="FOLDER",
    help="Folder of the model; with --cohort also ORGAN=FOLDER, once for each organ.  [default: "
    "model/, else the shipped model]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of results, one folder per slide.",
)
@click.option(
    "--heatmap",
    is_flag=True,
    help="Also write heatmap.png, heatmap.ome.tif (raw values) and a QuPath script.",
)
@click.option(
    "--stride",
    type=click.FloatRange(min=1.0),
    help="Micrometres from one field to the next; less than a field overlaps: a finer map, "
    "slower by the square.  [default: one field]",
)
@click.option(
    "--false-regions",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Flag so that a normal slide shows at most so many false regions on average.",
)
@click.option(
    "--fdr",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    metavar="Q",
    help="Flag single fields by Benjamini-Hochberg at Q (such as 0.1) instead; prints the smallest "
    "lesion that it can flag.",
)
@click.option(
    "--pixel-map",
    is_flag=True,
    help="Also store where in each flagged field the score comes from (at most 1,000 fields).",
)
@click.option(
    "--min-tissue",
    type=click.FloatRange(0.0, 1.0),
    default=0.1,
    show_default=True,
    help="Least share of tissue in a field.",
)
@click.option(
    "--tissue-mask",
    type=click.Path(path_type=Path, exists=True),
    help="Outlines (QuPath GeoJSON, ASAP XML) or a mask image of the tissue, in place of finding "
    "it; or a folder of files named as the slides.",
)
@click.option(
    "--cohort",
    "table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="CSV",
    help="A study: the columns slide, animal, group, organ. Slides are compared with its control "
    "animals; also writes cohort.html and cohort.csv, a table by organ and group.",
)
@click.option(
    "--control",
    metavar="NAME",
    help="Control group of the study.  [default: the one called control, vehicle or 0]",
)
@click.option(
    "--blinded",
    is_flag=True,
    help="Show the slides of the study by codes, without groups; unblinding.csv holds the key.",
)
@click.option(
    "--mpp",
    type=click.FloatRange(min=0.01, max=20.0),
    help="Micrometres per pixel of all these slides, over what they say.",
)
@mpp_csv_option
@backend_option
@click.option(
    "--qupath-origin",
    type=click.Choice(["bounds", "level0"]),
    default="bounds",
    show_default=True,
    help="Where QuPath's (0, 0) lies on slides with bounds; if the overlay is shifted in QuPath, "
    "take the other.",
)
@click.option("--gzip", is_flag=True, help="Compress the overlay (always above 100,000 fields).")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Slides at a time, a process each.  [default: one for each core; 1 with a GPU]",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Score on the Dask cluster with this scheduler, such as tcp://10.0.0.5:8786.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Score only the I-th of N parts of the slides (a job array); slurm: as the array says.",
)
@device_option
@click.option(
    "--resume/--overwrite",
    default=True,
    show_default=True,
    help="Keep results that the same model and settings have given, or score all anew.",
)
@common_options
def command(
    *,
    slides: tuple[Path, ...],
    models: tuple[str, ...],
    output: Path,
    heatmap: bool,
    stride: float | None,
    false_regions: float,
    fdr: float | None,
    pixel_map: bool,
    min_tissue: float,
    tissue_mask: Path | None,
    table: Path | None,
    control: str | None,
    blinded: bool,
    mpp: float | None,
    mpp_csv: Path | None,
    backend: str,
    qupath_origin: Literal["bounds", "level0"],
    gzip: bool,
    workers: int | None,
    dask: str | None,
    shard: str | None,
    device: str,
    resume: bool,
    verbosity: int = 0,
) -> int:
    r"""Score slides: results/<slide>/ with report, QuPath overlay and score map.

    SLIDES are files, or folders that are searched. Open results/index.html first: all slides,
    most abnormal first. Each slide's report.html says where to look; overlay.geojson is dragged
    onto the slide in QuPath. Run the same command again after an interruption: finished slides
    are kept.

    \b
    Examples:
      wsi-anomaly score slide.tif --heatmap
      wsi-anomaly score new_slides/ -o results --false-regions 0.5
      wsi-anomaly score slide.svs --mpp 0.2527     a slide that does not say its pixel size
      wsi-anomaly score new_slides/ --shard 3/8    the third of eight machines
      wsi-anomaly score study7/ --cohort study7.csv --model liver=models/liver
          --model kidney=models/kidney --blinded   a study: concurrent controls, read by codes

    \b
    Exit code: 0 all done; 1 some slides could not be scored, the others are done; 2 wrong
    usage; 130 interrupted.
    """
    from wsi_anomaly.cli.devices import choose_device
    from wsi_anomaly.cli.score_cohort import models_of_organs, run_cohort
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.core.remote import from_anywhere
    from wsi_anomaly.core.shards import parse_shard, take_shard
    from wsi_anomaly.overlays import ScoreOptions, Scoring
    from wsi_anomaly.scoring import read_cohort
    from wsi_anomaly.slides import find_slides
    from wsi_anomaly.tiles.inputs import check_files

    part = parse_shard(shard)
    every = find_slides(slides)
    if tissue_mask is not None:
        check_files("--tissue-mask", tissue_mask, every)
    sizes, _ = read_slide_tables(every, mpp_csv, None, verbosity)
    mpp_of = {from_anywhere(path): size for path, size in sizes.items()}
    options = ScoreOptions(
        stride_um=stride,
        min_tissue=min_tissue,
        mpp=mpp,
        mpp_of=mpp_of,
        backend=backend,
        false_regions=false_regions,
        fdr=fdr,
        pixel_map=pixel_map,
        tissue_mask=None if tissue_mask is None else tissue_mask.absolute(),
        heatmap=heatmap,
        origin=qupath_origin,
        gzip=gzip,
    )
    found = take_shard(every, part)
    if table is not None:
        if shard is not None:
            raise UsageError(
                "--cohort takes no --shard: every slide waits for the controls of the whole "
                "study; use --workers or --dask."
            )
        cohort = read_cohort(table, found, control)
        scorings = {
            organ: Scoring(folder, choose_device(device), options, resume)
            for organ, folder in models_of_organs(models, cohort.organs).items()
        }
        return run_cohort(
            cohort, table, scorings, output,
            workers=workers, dask=dask, blinded=blinded, verbosity=verbosity,
        )  # fmt: skip
    if control is not None or blinded or len(models) > 1:
        option = "--control" if control else "--blinded" if blinded else "More than one --model"
        raise UsageError(f"{option} goes with --cohort CSV only, the table of a study.")
    model = find_model(Path(models[0]) if models else None)
    scoring = Scoring(model, choose_device(device), options, resume)
    return _run(found, scoring, output, workers, dask, verbosity)


def find_model(folder: Path | None) -> Path:
    """Folder of the model to use: the one asked for, ``model/``, or a shipped one.

    Raises
    ------
    ModelError
        There is none.
    """
    from wsi_anomaly.core.errors import ModelError
    from wsi_anomaly.core.resources import models_folder

    if folder is not None:
        return folder
    if DEFAULT_MODEL.is_dir():
        return DEFAULT_MODEL
    shipped = sorted(file.parent for file in models_folder().glob("*/model.json"))
    if shipped:
        return shipped[0]
    raise ModelError(
        "There is no model: train one with 'wsi-anomaly train' (it writes model/), or give its "
        "folder with --model."
    )


def _run(
    slides: Sequence[Path],
    scoring: Scoring,
    output: Path,
    workers: int | None,
    dask: str | None,
    verbosity: int,
) -> int:
    """Score the slides; the worklist is brought up to date after each, errors come last."""
    from contextlib import closing
    from dataclasses import replace

    from wsi_anomaly.cli.score_display import ScoreDisplay
    from wsi_anomaly.core.files import make_folder
    from wsi_anomaly.core.pool import available_cores
    from wsi_anomaly.overlays import (
        ScoreJob,
        check_names_may_be_shown,
        default_workers,
        forget_failure,
        note_failure,
        result_folders,
        score_slides,
        write_worklist,
    )
    from wsi_anomaly.scoring import load_model

    check_names_may_be_shown(output)
    out = console(verbosity)
    model = load_model(scoring.model, scoring.device)
    make_folder(output)
    workers = workers or default_workers(scoring.device, len(slides))
    if workers > 1 and scoring.device == "cpu":
        scoring = replace(scoring, threads=max(1, available_cores() // workers))
    folders = result_folders(slides, output)
    jobs = [ScoreJob(path, folders[path]) for path in slides]
    errors: list[str] = []
    done: list[Path] = []
    with ScoreDisplay(out, len(jobs), verbosity) as display:
        outcomes = score_slides(
            jobs, model, scoring, workers=workers, dask=dask, progress=display.progress
        )
        with closing(outcomes):
            for outcome in outcomes:
                name = str(outcome.job.slide)
                if outcome.error:
                    errors.append(outcome.error)
                    note_failure(output, name, outcome.error)
                else:
                    done.append(outcome.job.folder)
                    forget_failure(output, name)
                display.finished(outcome)
                write_worklist(output)
    index = write_worklist(output)
    out.print(f"{len(done)} of {len(jobs)} slides done.", markup=False)
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    if done:
        target = done[0] / "report.html" if len(jobs) == 1 else index
        out.print(f"Open {target}", markup=False, soft_wrap=True)
    return 1 if errors else 0

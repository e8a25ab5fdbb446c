"""``wsi-anomaly score``: new slides in, heatmaps, QuPath overlays and reports out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from wsi_anomaly.cli.common import (
    PATH,
    backend_option,
    cache_option,
    common_options,
    console,
    device_option,
    embeddings_option,
    mpp_options,
    noting,
    option_of,
    origin_option,
    output_option,
    resume_option,
    say,
    say_what_failed,
    scene_option,
)
from wsi_anomaly.core.wording import counted
from wsi_anomaly.options import ScoreKeywords, ScoreOptions

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.screening import ScoreOutcome, ScoreRun

option = option_of(ScoreOptions)


@click.command()
@click.argument("slides", nargs=-1, type=PATH)
@click.option(
    "--model",
    multiple=True,
    metavar="FOLDER",
    help="Folder of the model; with --cohort also ORGAN=FOLDER, once for each organ.  [default: "
    "model/; where there is none, and for 'none', each slide is compared with itself, or with what "
    "--normal marks]",
)
@output_option("results", "Folder of results, one folder per slide.")
@option(
    "--heatmap",
    is_flag=True,
    help="Also write heatmap.png, heatmap.ome.tif (raw values) and a QuPath script.",
)
@option(
    "--stride",
    "stride_um",
    type=click.FloatRange(min=1.0),
    help="Micrometres from one field to the next; less than a field overlaps: a finer map, "
    "slower by the square.  [default: one field]",
)
@option(
    "--false-regions",
    type=click.FloatRange(min=0.0, min_open=True),
    show_default=True,
    help="Flag so that a normal slide shows at most so many false regions on average.",
)
@option(
    "--all-flags",
    is_flag=True,
    help="Flag also what is like findings that readers have called harmless (see learn).",
)
@option(
    "--fdr",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    metavar="Q",
    help="Flag single fields by Benjamini-Hochberg at Q (such as 0.1) instead; prints the smallest "
    "lesion that it can flag.",
)
@option(
    "--pixel-map",
    is_flag=True,
    help="Also store where in each flagged field the score comes from (at most 1,000 fields).",
)
@option(
    "--min-tissue",
    type=click.FloatRange(0.0, 1.0),
    show_default=True,
    help="Least share of tissue in a field.",
)
@option(
    "--tissue-mask",
    type=click.Path(path_type=Path, exists=True),
    help="Outlines (QuPath GeoJSON, ASAP XML) or a mask image of the tissue, in place of finding "
    "it; or a folder of files named as the slides.",
)
@option(
    "--normal",
    type=PATH,
    help="Outlines (QuPath GeoJSON, ASAP XML) of some normal tissue on the slide itself, 0.05 to "
    "0.1 mm2 of every kind of tissue, which the class names; or a folder of files named as the "
    "slides. What is like one of them scores lower; no score rises. Without a model they alone are "
    "what the slide is compared with.",
)
@embeddings_option(
    ScoreOptions,
    "Score embeddings that TRIDENT, CLAM, slide2vec or LazySlide has made, with a model of "
    "train --embeddings; SLIDES may be left out, which leaves their pictures out too.",
)
@option(
    "--embeddings-out",
    type=PATH,
    metavar="FOLDER",
    help="Also write the embeddings of the slides' fields, <slide>.h5 as TRIDENT writes them; "
    "--embeddings reads them again.",
)
@option(
    "--cases",
    type=PATH,
    metavar="CSV",
    help="Lines of slide,case: the worklist shows the slides of a patient or animal together.",
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
    help="Control group of the study (--cohort, or a manifest).  [default: the one called control, "
    "vehicle or 0]",
)
@click.option(
    "--blinded",
    is_flag=True,
    help="Show the slides of the study by codes, without groups; unblinding.csv holds the key.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Watch the folders SLIDES and score what arrives, until Ctrl-C; the same command goes on.",
)
@click.option(
    "--settle",
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="SECONDS",
    help="With --watch: a slide has arrived when its files have not changed for so long.  "
    "[default: 60]",
)
@mpp_options(ScoreOptions)
@backend_option(ScoreOptions)
@scene_option
@origin_option(
    ScoreOptions,
    "Where QuPath's (0, 0) lies on slides with bounds; if the overlay is shifted in QuPath, take "
    "the other.",
)
@option("--gzip", is_flag=True, help="Compress the overlay (always above 100,000 fields).")
@option(
    "--workers",
    type=click.IntRange(min=1),
    help="Slides at a time, a process each.  [default: one for each core; on a GPU as its memory "
    "allows]",
)
@option(
    "--dask",
    metavar="ADDRESS",
    help="Score on the Dask cluster with this scheduler, such as tcp://10.0.0.5:8786.",
)
@cache_option(ScoreOptions)
@option(
    "--shard",
    metavar="I/N",
    help="Score only the I-th of N parts of the slides (a job array); slurm: as the array says.",
)
@device_option(ScoreOptions)
@resume_option(
    ScoreOptions, "Keep results that the same model and settings have given, or score all anew."
)
@common_options
def command(
    *,
    slides: tuple[Path, ...],
    model: tuple[str, ...],
    output: Path,
    table: Path | None,
    control: str | None,
    blinded: bool,
    watch: bool,
    settle: float | None,
    verbosity: int = 0,
    **flags: Unpack[ScoreKeywords],
) -> int:
    r"""Score slides: results/<slide>/ with report, QuPath overlay and score map.

    SLIDES are files, folders that are searched, or a manifest: a table of slides, with their sizes
    of pixels, masks, cases and groups (wsi-anomaly init). Open results/index.html first: all
    slides, most abnormal first. Each slide's report.html says where to look; overlay.geojson is
    dragged onto the slide in QuPath. Run the same command again after an interruption: finished
    slides are kept.

    \b
    Examples:
      wsi-anomaly score slide.tif --heatmap
      wsi-anomaly score new_slides/ -o results --false-regions 0.5
      wsi-anomaly score slide.svs --mpp 0.2527     a slide that does not say its pixel size
      wsi-anomaly score slide.tif --normal normal.geojson    beside its own normal tissue
      wsi-anomaly score new_slides/ --shard 3/8    the third of eight machines
      wsi-anomaly score new_slides/ --embeddings features_uni_v1/
      wsi-anomaly score --watch incoming/          what a scanner writes there, all night
      wsi-anomaly score study7/ --cohort study7.csv --model liver=models/liver
          --model kidney=models/kidney --blinded   a study: concurrent controls, read by codes
      wsi-anomaly score study.csv --control vehicle     the same from a manifest

    \b
    Exit code: 0 all done; 1 some slides could not be scored, the others are done; 2 wrong
    usage; 130 interrupted.
    """
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.screening import ScoreRun

    options = ScoreOptions(**flags)
    if watch:
        from wsi_anomaly.cli.score_watch import run_watch

        apart = table or control or blinded or options.shard or options.embeddings
        if apart or len(model) > 1:
            raise UsageError(
                "--watch takes one model and no study, shard or embeddings: what arrives is scored "
                "by itself."
            )
        return run_watch(slides, model, output, options, settle, verbosity=verbosity)
    if settle is not None:
        raise UsageError("--settle goes with --watch only.")
    if table is None and (control is not None or blinded):
        table = _manifest_among(slides)
    if table is not None:
        if options.embeddings is not None:
            raise UsageError("A study is scored from slides; leave --embeddings or --cohort out.")
        if options.cases is not None:
            raise UsageError("--cases goes without --cohort, whose table names the animals.")
        if options.normal is not None:
            raise UsageError("A study is compared with its control animals; leave --normal out.")
        from wsi_anomaly.cli.score_cohort import run_cohort

        return run_cohort(
            slides, table, model, output, options,
            control=control, blinded=blinded, verbosity=verbosity,
        )  # fmt: skip
    if control is not None or blinded or len(model) > 1:
        option = "--control" if control else "--blinded" if blinded else "More than one --model"
        raise UsageError(
            f"{option} goes with the table of a study only: --cohort CSV, or a manifest alone in "
            "place of the slides."
        )
    out = console(verbosity)
    folder = model[0] if model else None
    run = ScoreRun.plan(slides, folder, output, options, note=noting(out))
    return _run(run, out, verbosity)


def _manifest_among(slides: tuple[Path, ...]) -> Path | None:
    """Take the manifest that alone stands for the slides; None where there is none."""
    from wsi_anomaly.slides.manifest import is_manifest

    return slides[0] if len(slides) == 1 and is_manifest(slides[0]) else None


def _run(run: ScoreRun, out: Console, verbosity: int) -> int:
    """Score the slides and show it; errors come last, one sentence each."""
    from contextlib import closing

    from wsi_anomaly.cli.score_display import ScoreDisplay

    failed: list[ScoreOutcome] = []
    done: list[Path] = []
    with (
        ScoreDisplay(out, len(run.jobs), verbosity) as display,
        closing(run.outcomes(display.running)) as outcomes,
    ):
        for outcome in outcomes:
            display.finished(outcome)
            if outcome.error:
                failed.append(outcome)
            else:
                done.append(outcome.job.folder)
    out.print(f"{len(done)} of {counted(len(run.jobs), 'slide')} done.", markup=False)
    missed = run.listing.missed()
    say_what_failed(failed, missed)
    if done:
        target = done[0] / "report.html" if len(run.jobs) == 1 else run.output / "index.html"
        say(out, f"Open {target}")
    return 1 if failed or missed else 0

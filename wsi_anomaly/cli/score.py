"""``wsi-anomaly score``: new slides in, heatmaps, QuPath overlays and reports out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from wsi_anomaly.cli.common import common_options, console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsi_anomaly.overlays import ScoreOptions
    from wsi_anomaly.scoring import ScoringModel

DEFAULT_MODEL = Path("model")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    "model_folder",
    type=click.Path(path_type=Path),
    help="Folder of the model.  [default: model/, else the shipped model]",
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
    "--min-tissue",
    type=click.FloatRange(0.0, 1.0),
    default=0.1,
    show_default=True,
    help="Least share of tissue in a field.",
)
@click.option(
    "--mpp",
    type=click.FloatRange(min=0.01, max=20.0),
    help="Micrometres per pixel of all these slides, over what they say.",
)
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
    "--device", default="auto", show_default=True, help="cpu, cuda, or auto: a GPU if there is one."
)
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
    model_folder: Path | None,
    output: Path,
    heatmap: bool,
    stride: float | None,
    false_regions: float,
    min_tissue: float,
    mpp: float | None,
    qupath_origin: Literal["bounds", "level0"],
    gzip: bool,
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

    \b
    Exit code: 0 all done; 1 some slides could not be scored, the others are done; 2 wrong
    usage; 130 interrupted.
    """
    from wsi_anomaly.core.files import make_folder
    from wsi_anomaly.overlays import ScoreOptions
    from wsi_anomaly.slides import find_slides

    found = find_slides(slides)
    model = load_model(find_model(model_folder), device)
    make_folder(output)
    options = ScoreOptions(
        stride_um=stride,
        min_tissue=min_tissue,
        mpp=mpp,
        false_regions=false_regions,
        heatmap=heatmap,
        origin=qupath_origin,
        gzip=gzip,
    )
    return _run(found, model, output, options, resume, verbosity)


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


def load_model(folder: Path, device: str) -> ScoringModel:
    """Load a model onto a device; "auto" takes a GPU if there is one."""
    from wsi_anomaly.detectors import Model

    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    model: ScoringModel = Model.load(folder, device=device)
    return model


def _run(
    slides: Sequence[Path],
    model: ScoringModel,
    output: Path,
    options: ScoreOptions,
    resume: bool,
    verbosity: int,
) -> int:
    """Score one slide after the other; the worklist is brought up to date after each."""
    from wsi_anomaly.cli.score_display import ScoreDisplay
    from wsi_anomaly.core.errors import OutputError, WsiAnomalyError
    from wsi_anomaly.overlays import is_done, result_folders, score_to_folder, write_worklist

    out = console(verbosity)
    failures: dict[str, str] = {}
    folders = result_folders(slides, output)
    with ScoreDisplay(out, len(slides), verbosity) as display:
        for path in slides:
            folder = folders[path]
            if resume and is_done(path, model, folder, options):
                display.kept(path)
                continue
            display.start(path)
            try:
                display.finished(
                    path, score_to_folder(path, model, folder, options, display.progress), folder
                )
            except OutputError:
                raise  # the next slide's results would not find room either
            except WsiAnomalyError as error:
                failures[str(path)] = str(error)
                display.failed(path)
            except OSError as error:
                failures[str(path)] = (
                    f"{path} cannot be read any more ({error.strerror or error}); check the disk "
                    "and run the same command again."
                )
                display.failed(path)
            write_worklist(output, failures)
    index = write_worklist(output, failures)
    done = len(slides) - len(failures)
    out.print(f"{done} of {len(slides)} slides done.", markup=False)
    for reason in failures.values():
        click.echo(f"Error: {reason}", err=True)
    if done:
        first = folders[next(path for path in slides if str(path) not in failures)]
        target = first / "report.html" if len(slides) == 1 else index
        out.print(f"Open {target}", markup=False, soft_wrap=True)
    return 1 if failures else 0

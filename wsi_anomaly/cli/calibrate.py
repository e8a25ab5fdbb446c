"""``wsi-anomaly calibrate``: a lab's own normal slides become the reference of a model."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import (
    common_options,
    console,
    device_option,
    mpp_csv_option,
    read_slide_tables,
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("normals", nargs=-1, required=True, type=click.Path(path_type=Path))
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
    help="Folder of the calibrated model.  [default: the model's own; model/ for the shipped one]",
)
@click.option(
    "--cases",
    type=click.Path(path_type=Path),
    help="Lines of slide,case: slides of one patient or animal count as one. Without it every "
    "slide is a case of its own.",
)
@click.option(
    "--mpp",
    type=click.FloatRange(min=0.01, max=20.0),
    help="Micrometres per pixel of all these slides, over what they say.",
)
@mpp_csv_option
@device_option
@common_options
def command(
    *,
    normals: tuple[Path, ...],
    model_folder: Path | None,
    output: Path | None,
    cases: Path | None,
    mpp: float | None,
    mpp_csv: Path | None,
    device: str,
    verbosity: int = 0,
) -> int:
    r"""Calibrate a model on normal slides, without training it.

    NORMALS are slides of normal tissue, or folders of them, as your scanner and your staining give
    them. They take the place of the model's former reference: percentiles, p-values and the
    threshold above which a region is flagged. At least four cases are needed for flags; twenty
    are better. Slides that the model was trained on are left out.

    \b
    Examples:
      wsi-anomaly calibrate normals/
      wsi-anomaly calibrate controls/ --cases animals.csv --model liver_model -o liver_model_study7

    \b
    Exit code: 0 done; 1 some slides could not be used, the model is calibrated with the others;
    2 wrong usage; 130 interrupted.
    """
    from collections import Counter

    from wsi_anomaly.cli.devices import choose_device
    from wsi_anomaly.cli.score import DEFAULT_MODEL, find_model
    from wsi_anomaly.cli.train_display import TrainDisplay
    from wsi_anomaly.core.resources import models_folder
    from wsi_anomaly.slides import find_slides
    from wsi_anomaly.training.normals import NormalSlide
    from wsi_anomaly.training.run import recalibrate

    folder = find_model(model_folder)
    if output is None:
        shipped = models_folder() in folder.resolve().parents
        output = DEFAULT_MODEL if shipped else folder
    found = find_slides(normals)
    mpp_of, case_of = read_slide_tables(found, mpp_csv, cases, verbosity)
    stems = Counter(path.stem for path in found)
    slides = [
        NormalSlide(
            path,
            # Slides of one name in several folders are cases of their own too.
            case_of.get(path, path.stem if stems[path.stem] == 1 else str(path)),
            mpp_of.get(path, mpp),
        )
        for path in found
    ]
    out = console(verbosity)
    with TrainDisplay(out, verbosity) as display:
        model, used = recalibrate(
            folder, slides, output, device=choose_device(device), watch=display.watch()
        )
    display.calibration(model)
    out.print(f"{used} of {len(slides)} slides used; model in {output}/", markup=False)
    return 0 if used == len(slides) else 1

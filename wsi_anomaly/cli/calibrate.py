"""``wsi-anomaly calibrate``: a lab's own normal slides become the reference of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

from wsi_anomaly.cli.common import (
    PATH,
    common_options,
    console,
    device_option,
    embeddings_option,
    model_option,
    mpp_options,
    option_of,
    scene_option,
)
from wsi_anomaly.core.wording import counted
from wsi_anomaly.options import CalibrateKeywords, CalibrateOptions


@click.command()
@click.argument("normals", nargs=-1, type=PATH)
@model_option
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="Folder of the calibrated model.  [default: the model's own; model/ for the shipped one]",
)
@option_of(CalibrateOptions)(
    "--cases",
    type=PATH,
    help="Lines of slide,case: slides of one patient or animal count as one. Without it every "
    "slide is a case of its own.",
)
@embeddings_option(
    CalibrateOptions,
    "Score embeddings that TRIDENT, CLAM, slide2vec or LazySlide has made, with a model of "
    "train --embeddings: those of NORMALS, or without NORMALS all in the folder.",
)
@mpp_options(CalibrateOptions)
@scene_option
@device_option(CalibrateOptions)
@common_options
def command(
    *,
    normals: tuple[Path, ...],
    model: Path | None,
    output: Path | None,
    verbosity: int = 0,
    **flags: Unpack[CalibrateKeywords],
) -> int:
    r"""Calibrate a model on normal slides, without training it.

    NORMALS are slides of normal tissue, folders of them, or a manifest (wsi-anomaly init), as your
    scanner and your staining give them. They take the place of the model's former reference:
    percentiles, p-values and the threshold above which a region is flagged. At least four cases are
    needed for flags; twenty are better. Slides that the model was trained on are left out.

    \b
    Examples:
      wsi-anomaly calibrate normals/
      wsi-anomaly calibrate controls/ --cases animals.csv --model liver_model -o liver_model_study7
      wsi-anomaly calibrate --embeddings features_uni_v1/ --model uni_model -o uni_model_here

    \b
    Exit code: 0 done; 1 some slides could not be used, the model is calibrated with the others;
    2 wrong usage; 130 interrupted.
    """
    from wsi_anomaly.cli.train_display import TrainDisplay
    from wsi_anomaly.training.recalibration import recalibrate_on

    out = console(verbosity)
    with TrainDisplay(out, verbosity) as display:
        made = recalibrate_on(
            normals, model, output, CalibrateOptions(**flags), watch=display.watch()
        )
    display.calibration(made.model)
    out.print(
        f"{made.used} of {counted(made.slides, 'slide')} used; model in {made.folder}/",
        markup=False,
    )
    return 0 if made.used == made.slides else 1

"""``wsi-anomaly check``: whether a batch of slides is like the normal slides of a model."""

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
    scene_option,
)
from wsi_anomaly.core.wording import counted
from wsi_anomaly.options import CheckKeywords, CheckOptions


@click.command()
@click.argument("new", nargs=-1, type=PATH)
@model_option
@embeddings_option(
    CheckOptions,
    "Score embeddings that TRIDENT, CLAM, slide2vec or LazySlide has made, with a model of "
    "train --embeddings: those of NEW, or without NEW all in the folder.",
)
@mpp_options(CheckOptions)
@scene_option
@device_option(CheckOptions)
@common_options
def command(
    *,
    new: tuple[Path, ...],
    model: Path | None,
    verbosity: int = 0,
    **flags: Unpack[CheckKeywords],
) -> int:
    r"""See whether a batch of slides is like a model's normal slides, before scoring it.

    NEW are slides, folders of them, or a manifest (wsi-anomaly init). Each is scored, and nothing
    is written. Stains, sharpness, scores and embeddings of the batch are compared with those of the
    normal slides, slide by slide, in one permutation test. Where they differ, the promise about
    false regions may not hold.

    \b
    Examples:
      wsi-anomaly check slides/
      wsi-anomaly check new_scanner/ --model liver_model
      wsi-anomaly check --embeddings features_uni_v1/ --model uni_model

    \b
    Exit code: 0 no shift is seen; 1 the batch differs, or some slides could not be looked at;
    2 wrong usage; 130 interrupted.
    """
    from wsi_anomaly import api
    from wsi_anomaly.cli.train_display import TrainDisplay

    out = console(verbosity)
    with TrainDisplay(out, verbosity) as display:
        found = api.check(new, model, options=CheckOptions(**flags), watch=display.watch())
    out.print(f"{found.used} of {counted(found.slides, 'slide')} looked at.", markup=False)
    shift = found.shift
    if shift is None:
        out.print("Nothing can be compared: too little is known of the normal slides.")
        return 1
    out.print(shift.sentence, markup=False, soft_wrap=True)
    for name, effect in shift.effects.items():
        out.print(f"  {name:<23} {effect:+.1f} standard deviations", markup=False)
    if found.false_regions is not None:
        out.print(
            f"At a promise of 1 false region a slide it shows {found.false_regions:.1f} regions a "
            "slide: all of them false, were all of its tissue normal.",
            markup=False,
            soft_wrap=True,
        )
    if shift.differs:
        out.print(
            "Calibrate with at least 8 normal slides of this batch (wsi-anomaly calibrate).",
            markup=False,
        )
    return 1 if shift.differs or found.used < found.slides else 0

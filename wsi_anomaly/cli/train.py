"""``wsi-anomaly train``: tiles of normal slides in, a model out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Unpack

import click

from wsi_anomaly.cli.common import (
    PATH,
    Registered,
    common_options,
    console,
    device_option,
    embeddings_option,
    option_of,
    output_option,
    resume_option,
)
from wsi_anomaly.core.plugins import DETECTORS
from wsi_anomaly.options import TrainKeywords, TrainOptions
from wsi_anomaly.options.checks import MAGNIFICATIONS

option = option_of(TrainOptions)


@click.command()
@click.argument("tiles", nargs=-1, type=PATH)
@output_option("model", "Folder of the model.")
@click.option(
    "--config",
    default="fast",
    show_default=True,
    help="fast (two CPU cores, minutes), paper (the published schedule, for a GPU), or a .toml or "
    ".json file with entries over those of fast.",
)
@option(
    "--detector",
    type=Registered(DETECTORS),
    help="Method that ranks: the perceptual autoencoder (dpa), the density of pooled features "
    "alone (seconds), both weighted by known anomalies (fusion), a system that the paper "
    "compares with, or a plug-in.  [default: that of --config]",
)
@option(
    "--features",
    help="Perceptual network: compact (ships with the program), vgg19 (the paper's), squeezenet, "
    "resnet, a pathology encoder (uni, virchow2, h0-mini, ...), timm:MODEL, or a plug-in.  "
    "[default: that of --config]",
)
@option(
    "--feature-weights",
    type=PATH,
    help="File with the weights of --features, where it cannot be downloaded.",
)
@option(
    "--magnification",
    type=click.Choice(MAGNIFICATIONS),
    help="Tiles to learn from.  [default: 10]",
)
@option(
    "--anomalies",
    multiple=True,
    type=PATH,
    help="Tile files of a few known abnormal tiles; fusion chooses its weights by them. They are "
    "never trained on.",
)
@embeddings_option(
    TrainOptions,
    "Learn from embeddings that TRIDENT, CLAM, slide2vec or LazySlide has made of normal "
    "slides, in place of tiles; --features says whose, where there are several.",
)
@option(
    "--cases",
    type=PATH,
    metavar="CSV",
    help="Lines of slide,case for --embeddings.  [default: each slide is a case]",
)
@option("--seed", type=int, help="Of the split, the weights and the batches.  [default: 0]")
@device_option(TrainOptions)
@resume_option(TrainOptions, "Go on with an interrupted training, or start anew.")
@common_options
def command(
    *,
    tiles: tuple[Path, ...],
    output: Path,
    config: str,
    verbosity: int = 0,
    **flags: Unpack[TrainKeywords],
) -> int:
    r"""Learn normal tissue from tiles of normal slides: tiles/ -> model/.

    TILES are tile files or folders of them (default: tiles/); with --embeddings they are the
    slides, where they are at hand to check the embeddings against. Cases are kept apart: most of
    them train, some stop the training in time, and at least four say what a score means
    (calibration); those are read again from their slides. The model folder holds everything that
    scoring needs, with a model card and a picture of the training. Run the same command again
    after an interruption: training goes on where it was.

    \b
    Examples:
      wsi-anomaly train
      wsi-anomaly train tiles/ -o liver_model --magnification 20
      wsi-anomaly train --config paper --features vgg19 --device cuda
      wsi-anomaly train --embeddings features_uni_v1/        of another program
      wsi-anomaly train slides/ --embeddings features_uni_v1/ --cases cases.csv
      torchrun --nproc-per-node 2 -m wsi_anomaly train       several GPUs

    \b
    Exit code: 0 done; 1 the tiles, the network or the output cannot be used; 2 wrong usage;
    130 interrupted.
    """
    from wsi_anomaly import api
    from wsi_anomaly.cli.train_display import TrainDisplay
    from wsi_anomaly.core.devices import choose_device, passed_over
    from wsi_anomaly.learning.distributed import join, leave

    options = TrainOptions(**flags)
    # Each process joins the group of the device that it computes on, so that comes first.
    slower = passed_over(options.device)
    options = replace(options, device=choose_device(options.device))
    rank, _ = join(options.device)
    # Under torchrun one process speaks for all.
    out = console(verbosity if rank == 0 else -1)
    try:
        with TrainDisplay(out, verbosity) as display:
            if slower:
                display.watch().note(slower)
            model = api.train(
                tiles or "tiles", output, config, options=options, watch=display.watch()
            )
    finally:
        leave()
    if rank == 0:
        display.summary(model, output)
    return 0

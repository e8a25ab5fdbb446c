"""``wsi-anomaly tune``: a few known anomalies choose the hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

from wsi_anomaly.cli.common import (
    PATH,
    common_options,
    console,
    device_option,
    option_of,
    output_option,
    resume_option,
)
from wsi_anomaly.options import TuneKeywords, TuneOptions
from wsi_anomaly.options.checks import MAGNIFICATIONS
from wsi_anomaly.options.train import CRITERIA, SEARCHED

option = option_of(TuneOptions)


def _networks(
    _ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]
) -> dict[str, Path | None] | None:
    named = [name.partition("=") for name in given]
    return {name: Path(file) if file else None for name, _, file in named} or None


@click.command()
@click.argument("tiles", nargs=-1, type=PATH)
@click.option(
    "--anomalies",
    multiple=True,
    type=PATH,
    help="Tile files of a few known anomalies, or folders of them (tile --annotations makes them). "
    "They are never learned from.",
)
@output_option("tuned", "Folder of the configuration, the table of trials and the picture.")
@option(
    "--trials",
    type=int,
    show_default=True,
    help="Configurations to try in all, those of earlier runs and of other processes included.",
)
@option(
    "--folds",
    type=int,
    show_default=True,
    help="Every case is judged in one of so many folds, by models that never saw it.",
)
@option(
    "--criterion",
    type=click.Choice(CRITERIA),
    show_default=True,
    help="What is best: to tell the anomalies from normal tiles; or, without any anomalies, to "
    "rebuild unseen normal tiles (dpa only, network, layers and magnification as in --config).",
)
@click.option(
    "--config",
    default="fast",
    show_default=True,
    help="What the search begins with: fast, paper, or a .toml or .json file. Choices lie around "
    "it; batch size and lengths of training come from it.",
)
@option(
    "--detector",
    "detectors",
    multiple=True,
    type=click.Choice(SEARCHED),
    help="Method to choose among; may be repeated.  [default: both]",
)
@option(
    "--magnification",
    "magnifications",
    multiple=True,
    type=click.Choice(MAGNIFICATIONS),
    help="Magnification to choose among; may be repeated.  [default: all that the tile files hold]",
)
@option(
    "--features",
    "networks",
    multiple=True,
    callback=_networks,
    metavar="NAME[=FILE]",
    help="Perceptual network to choose among, with a file of its weights where it cannot be "
    "downloaded; may be repeated.  [default: that of --config]",
)
@option(
    "--storage",
    help="Database that several processes or machines share, such as "
    "sqlite:////shared/search.db or postgresql://host/name.  [default: a file in --output]",
)
@option("--seed", type=int, help="Of the cases' split and of the search.  [default: 0]")
@device_option(TuneOptions)
@resume_option(TuneOptions, "Go on with the search that is there, or start anew.")
@common_options
def command(
    *,
    tiles: tuple[Path, ...],
    anomalies: tuple[Path, ...],
    output: Path,
    config: str,
    verbosity: int = 0,
    **flags: Unpack[TuneKeywords],
) -> int:
    r"""Choose the hyperparameters by a few known anomalies: tiles/ and few/ -> tuned/config.toml.

    TILES are tile files of normal slides or folders of them (default: tiles/). The cases that
    train will calibrate on are kept apart. The others are judged by turns: each configuration
    learns from some, and its score is the ROC AUC of the rest against the anomalies. Even one
    abnormal slide helps; the end says how sure the choice is. Run the same command again after an
    interruption, or for more --trials: the search goes on. Run it several times at once, with the
    same --storage, to share the work.

    \b
    Examples:
      wsi-anomaly tile known/ --annotations outlines/ --label Tumour -o few
      wsi-anomaly tune tiles/ --anomalies few/
      wsi-anomaly train --config tuned/config.toml
      wsi-anomaly tune tiles/ --anomalies few/ --detector density --trials 40    quick
      wsi-anomaly tune tiles/ --criterion reconstruction                         no anomalies

    \b
    Exit code: 0 done; 1 the tiles, the network or the database cannot be used; 2 wrong usage;
    130 interrupted.
    """
    from wsi_anomaly import api
    from wsi_anomaly.cli.tune_display import TuneDisplay

    options = TuneOptions(**flags)
    places = tiles or (Path("tiles"),)
    display = TuneDisplay(console(verbosity), verbosity, options)
    with display:
        found = api.tune(places, anomalies, output, config, options=options, watch=display.watch())
    display.summary(found, places, output)
    return 0

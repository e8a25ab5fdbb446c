"""``wsi-anomaly tune``: a few known anomalies choose the hyperparameters."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import common_options, console, device_option


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("tiles", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--anomalies",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Tile files of a few known anomalies, or folders of them (tile --annotations makes them). "
    "They are never learned from.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("tuned"),
    show_default=True,
    help="Folder of the configuration, the table of trials and the picture.",
)
@click.option(
    "--trials",
    type=int,
    default=30,
    show_default=True,
    help="Configurations to try in all, those of earlier runs and of other processes included.",
)
@click.option(
    "--folds",
    type=int,
    default=3,
    show_default=True,
    help="Every case is judged in one of so many folds, by models that never saw it.",
)
@click.option(
    "--criterion",
    type=click.Choice(["roc-auc", "reconstruction"]),
    default="roc-auc",
    show_default=True,
    help="What is best: to tell the anomalies from normal tiles; or, without any anomalies, to "
    "rebuild unseen normal tiles (dpa only, network, layers and magnification as in --config).",
)
@click.option(
    "--config",
    "config_name",
    default="fast",
    show_default=True,
    help="What the search begins with: fast, paper, or a .toml or .json file. Choices lie around "
    "it; batch size and lengths of training come from it.",
)
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    type=click.Choice(["dpa", "density"]),
    help="Method to choose among; may be repeated.  [default: both]",
)
@click.option(
    "--magnification",
    "magnifications",
    multiple=True,
    type=click.Choice(["10", "20", "40"]),
    help="Magnification to choose among; may be repeated.  [default: all that the tile files hold]",
)
@click.option(
    "--features",
    multiple=True,
    metavar="NAME[=FILE]",
    help="Perceptual network to choose among, with a file of its weights where it cannot be "
    "downloaded; may be repeated.  [default: that of --config]",
)
@click.option(
    "--storage",
    help="Database that several processes or machines share, such as "
    "sqlite:////shared/search.db or postgresql://host/name.  [default: a file in --output]",
)
@click.option("--seed", type=int, help="Of the cases' split and of the search.  [default: 0]")
@device_option
@click.option(
    "--resume/--overwrite",
    default=True,
    show_default=True,
    help="Go on with the search that is there, or start anew.",
)
@common_options
def command(
    *,
    tiles: tuple[Path, ...],
    anomalies: tuple[Path, ...],
    output: Path,
    trials: int,
    folds: int,
    criterion: str,
    config_name: str,
    detectors: tuple[str, ...],
    magnifications: tuple[str, ...],
    features: tuple[str, ...],
    storage: str | None,
    seed: int | None,
    device: str,
    resume: bool,
    verbosity: int = 0,
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
    from dataclasses import replace

    from wsi_anomaly.cli.devices import choose_device
    from wsi_anomaly.cli.tune_display import TuneDisplay
    from wsi_anomaly.search import tune
    from wsi_anomaly.search.inputs import MAGNIFICATIONS
    from wsi_anomaly.search.space import DETECTORS
    from wsi_anomaly.training.config import load_config

    base = load_config(config_name)
    if seed is not None:
        base = replace(base, seed=seed)
    named = [name.partition("=") for name in features]
    maximize = criterion == "roc-auc"
    display = TuneDisplay(console(verbosity), verbosity, trials, folds, maximize=maximize)
    with display:
        found = tune(
            list(tiles) or [Path("tiles")],
            anomalies,
            output,
            base,
            trials=trials,
            folds=folds,
            criterion=criterion,
            storage=storage,
            device=choose_device(device),
            resume=resume,
            watch=display.watch(),
            networks={name: Path(file) if file else None for name, _, file in named} or None,
            detectors=detectors or DETECTORS,
            magnifications=tuple(map(int, magnifications)) or MAGNIFICATIONS,
        )
    display.summary(found, tiles or [Path("tiles")], output)
    return 0

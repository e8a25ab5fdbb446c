"""The verbs as functions, which ``import wsi_anomaly`` offers; the commands call them too.

Each takes the options of its command, one by one as keywords, or all in one object of
:mod:`wsi_anomaly.options` with keywords over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from wsi_anomaly import search
from wsi_anomaly.core.devices import choose_device
from wsi_anomaly.detectors import Model
from wsi_anomaly.evaluation import run as evaluation
from wsi_anomaly.evaluation.report import write_evaluation
from wsi_anomaly.evaluation.run import Evaluation
from wsi_anomaly.options import (
    CalibrateKeywords,
    CalibrateOptions,
    EvaluateKeywords,
    EvaluateOptions,
    TrainKeywords,
    TrainOptions,
    TuneKeywords,
    TuneOptions,
)
from wsi_anomaly.search import Found
from wsi_anomaly.training import run as training
from wsi_anomaly.training.config import TrainConfig, chosen_config, load_config
from wsi_anomaly.training.recalibration import recalibrate_on

Paths = str | Path | Sequence[str | Path]


def train(
    tiles: Paths = "tiles",
    output: str | Path = "model",
    config: str | TrainConfig = "fast",
    *,
    options: TrainOptions | None = None,
    watch: training.Watch | None = None,
    **changes: Unpack[TrainKeywords],
) -> Model:
    """Learn normal tissue from tiles of normal slides.

    Parameters
    ----------
    tiles
        Tile files, or folders of them.
    output
        Folder of the model.
    config
        "fast", "paper", a .toml or .json file, or a configuration.
    options, changes
        See :class:`~wsi_anomaly.options.TrainOptions`, such as ``magnification=20``.
    watch
        Who is told what.

    Returns
    -------
    The model; under ``torchrun`` only the first process has it calibrated and written.

    Raises
    ------
    WsiAnomalyError
        There are no suitable tiles, or the network, or the output cannot be used.
    """
    options = replace(options or TrainOptions(), **changes)
    return training.train(
        tiles,
        output,
        chosen_config(config, options),
        feature_weights=options.feature_weights,
        anomalies=options.anomalies,
        device=choose_device(options.device),
        resume=options.resume,
        watch=watch,
    )


def tune(
    tiles: Paths = "tiles",
    anomalies: Paths = (),
    output: str | Path = "tuned",
    config: str | TrainConfig = "fast",
    *,
    options: TuneOptions | None = None,
    watch: search.Watch | None = None,
    **changes: Unpack[TuneKeywords],
) -> Found:
    """Choose hyperparameters by a few known anomalies.

    Parameters
    ----------
    tiles, anomalies
        Tile files of normal slides and of known anomalies, or folders of them.
    output
        Folder of the configuration, the table of trials and the picture.
    config
        What the search begins with: "fast", "paper", a .toml or .json file, or a configuration.
    options, changes
        See :class:`~wsi_anomaly.options.TuneOptions`, such as ``trials=40``.
    watch
        Who is told what.

    Raises
    ------
    WsiAnomalyError
        The tiles, a network or the database cannot be used, or the request makes no sense.
    """
    options = replace(options or TuneOptions(), **changes)
    base = load_config(config) if isinstance(config, str) else config
    return search.tune(tiles, _listed(anomalies), output, base, options, watch=watch)


def calibrate(
    normals: Paths,
    model: str | Path | None = None,
    output: str | Path | None = None,
    *,
    options: CalibrateOptions | None = None,
    watch: training.Watch | None = None,
    **changes: Unpack[CalibrateKeywords],
) -> Model:
    """Make normal slides the reference of a model.

    Parameters
    ----------
    normals
        Normal slides, or folders of them.
    model
        Folder of the model; None: ``model/``, else the shipped one.
    output
        Folder of the calibrated model; None: the model's own, ``model/`` for the shipped one.
    options, changes
        See :class:`~wsi_anomaly.options.CalibrateOptions`, such as ``cases="animals.csv"``.
    watch
        Who is told what.

    Raises
    ------
    WsiAnomalyError
        The model cannot be read, or none of the slides can be used.
    """
    options = replace(options or CalibrateOptions(), **changes)
    return recalibrate_on(_listed(normals), model, output, options, watch=watch).model


def evaluate(
    results: str | Path | None = None,
    output: str | Path | None = "evaluation",
    *,
    options: EvaluateOptions | None = None,
    watch: evaluation.Watch = lambda _text: None,
    **changes: Unpack[EvaluateKeywords],
) -> Evaluation:
    """Hold results against known truth.

    Parameters
    ----------
    results
        Folder that :func:`score` has written; None: ``results/``, or the table of ``scores``.
    output
        Folder for ``evaluation.html`` and ``evaluation.json``; None writes nothing.
    options, changes
        See :class:`~wsi_anomaly.options.EvaluateOptions`, such as ``annotations="outlines"`` or
        ``labels="slides.csv"``.
    watch
        Told what is being done.

    Raises
    ------
    WsiAnomalyError
        There is nothing to compare.
    """
    options = replace(options or EvaluateOptions(), **changes)
    found = evaluation.evaluate(results, options, watch=watch)
    if output is not None:
        write_evaluation(output, found)
    return found


def _listed(paths: Paths) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)

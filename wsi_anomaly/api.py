"""The verbs as functions, which ``import wsi_anomaly`` offers; the commands call them too.

Each takes the options of its command, one by one as keywords, or all in one object of
:mod:`wsi_anomaly.options` with keywords over it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack, overload

from wsi_anomaly import tuning
from wsi_anomaly.core.devices import choose_device
from wsi_anomaly.core.errors import warn_the_caller
from wsi_anomaly.detectors import Model
from wsi_anomaly.evaluation import run as evaluation
from wsi_anomaly.evaluation.report import write_evaluation
from wsi_anomaly.evaluation.run import Evaluation
from wsi_anomaly.jobs import Outcome
from wsi_anomaly.jobs.outcome import J, R
from wsi_anomaly.options import (
    CalibrateKeywords,
    CalibrateOptions,
    CheckKeywords,
    CheckOptions,
    EvaluateKeywords,
    EvaluateOptions,
    LearnKeywords,
    LearnOptions,
    ScoreKeywords,
    ScoreOptions,
    TileKeywords,
    TileOptions,
    TrainKeywords,
    TrainOptions,
    TuneKeywords,
    TuneOptions,
)
from wsi_anomaly.results.reading import read_score_map
from wsi_anomaly.scoring import ScoreMap
from wsi_anomaly.screening import ScoreJob, ScoreRun
from wsi_anomaly.slides import find_slides
from wsi_anomaly.slides.survey import write_manifest
from wsi_anomaly.tiles import TileConfig, TileResult
from wsi_anomaly.tiles.run import TileRun
from wsi_anomaly.tiles.tiling import TileOutcome
from wsi_anomaly.training import check as checking
from wsi_anomaly.training import run as training
from wsi_anomaly.training.config import TrainConfig, chosen_config, load_config
from wsi_anomaly.training.embedded import train_on_embeddings
from wsi_anomaly.training.recalibration import recalibrate_on
from wsi_anomaly.training.reviews import Learned, learn_reviews
from wsi_anomaly.tuning import Found

Paths = str | Path | Sequence[str | Path]

init = write_manifest


@overload
def tile(  # type: ignore[overload-overlap]  # a str is no list of slides
    slides: str | Path,
    output: str | Path = ...,
    config: TileConfig | None = ...,
    *,
    options: TileOptions | None = ...,
    preset: str | None = ...,
    **changes: Unpack[TileKeywords],
) -> list[TileResult]: ...


@overload
def tile(
    slides: Sequence[str | Path],
    output: str | Path = ...,
    config: TileConfig | None = ...,
    *,
    options: TileOptions | None = ...,
    preset: str | None = ...,
    **changes: Unpack[TileKeywords],
) -> list[TileOutcome]: ...


def tile(
    slides: Paths,
    output: str | Path = "tiles",
    config: TileConfig | None = None,
    *,
    options: TileOptions | None = None,
    preset: str | None = None,
    **changes: Unpack[TileKeywords],
) -> list[TileResult] | list[TileOutcome]:
    """Cut slides into tiles; what is finished already is kept.

    Parameters
    ----------
    slides
        A slide, a folder of slides, or a list of them.
    output
        Folder of tile files; ``slides.csv`` in it says what became of every slide.
    config
        What to store, over the options.
    options, changes
        See :class:`~wsi_anomaly.options.TileOptions`, such as ``magnifications=(20,)``.
    preset
        A published geometry, "camelyon16"; `changes` win over it.

    Returns
    -------
    Of a list, an outcome for each slide, in the order given: its result, or its error and
    traceback. Of a single slide or folder, the results; a failure among several is a warning.

    Raises
    ------
    WsiAnomalyError
        The request makes no sense; or the single slide, or every slide of the folder, cannot be
        tiled: the first reason.
    """
    chosen = replace(options, **changes) if options else TileOptions.of(preset, **changes)
    run = TileRun.plan(_listed(slides), output, chosen, config, note=warn_the_caller)
    return _given_back(slides, list(run.outcomes()))


@overload
def score(  # type: ignore[overload-overlap]  # a str is no list of slides
    slides: str | Path,
    model: str | Path | None = ...,
    output: str | Path = ...,
    *,
    options: ScoreOptions | None = ...,
    **changes: Unpack[ScoreKeywords],
) -> list[ScoreMap]: ...


@overload
def score(
    slides: Sequence[str | Path],
    model: str | Path | None = ...,
    output: str | Path = ...,
    *,
    options: ScoreOptions | None = ...,
    **changes: Unpack[ScoreKeywords],
) -> list[Outcome[ScoreJob, ScoreMap]]: ...


def score(
    slides: Paths,
    model: str | Path | None = None,
    output: str | Path = "results",
    *,
    options: ScoreOptions | None = None,
    **changes: Unpack[ScoreKeywords],
) -> list[ScoreMap] | list[Outcome[ScoreJob, ScoreMap]]:
    """Score slides and write their results folders and the worklist; what is done is kept.

    Parameters
    ----------
    slides
        A slide, a folder of slides, or a list of them.
    model
        Its folder; None: ``model/``, or without one, the slide itself (what `normal` marks on it).
    output
        Folder of results.
    options, changes
        See :class:`~wsi_anomaly.options.ScoreOptions`, such as ``heatmap=True``.

    Returns
    -------
    Of a list, an outcome for each slide, in the order given: its score map, or its error and
    traceback. Of a single slide or folder, the score maps; a failure among several is a warning.

    Raises
    ------
    WsiAnomalyError
        The request makes no sense, or the results cannot be written; or the single slide, or every
        slide of the folder, cannot be scored: the first reason.
    """
    chosen = replace(options or ScoreOptions(), **changes)
    run = ScoreRun.plan(_listed(slides), model, output, chosen, note=warn_the_caller)
    reference = run.model.calibration.get(run.model.primary)
    outcomes = [
        outcome.then(
            lambda scored, folder=outcome.job.folder: (  # type: ignore[misc]
                scored.score_map or read_score_map(folder, reference)
            )
        )
        for outcome in run.outcomes()
    ]
    return _given_back(slides, outcomes)


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
        Tile files, or folders of them; with ``embeddings`` the slides, where they are at hand.
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
    if options.embeddings is not None:
        return train_on_embeddings(tiles, output, config, options, watch=watch)
    return training.train(
        tiles,
        output,
        chosen_config(config, options),
        feature_weights=Path(options.feature_weights) if options.feature_weights else None,
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
    watch: tuning.Watch | None = None,
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
    options, changes, watch
        See :class:`~wsi_anomaly.options.TuneOptions`; and who is told what.

    Raises
    ------
    WsiAnomalyError
        The tiles, a network or the database cannot be used, or the request makes no sense.
    """
    options = replace(options or TuneOptions(), **changes)
    base = load_config(config) if isinstance(config, str) else config
    return tuning.tune(tiles, _listed(anomalies), output, base, options, watch=watch)


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
    options, changes, watch
        See :class:`~wsi_anomaly.options.CalibrateOptions`; and who is told what.

    Raises
    ------
    WsiAnomalyError
        The model cannot be read, or none of the slides can be used.
    """
    options = replace(options or CalibrateOptions(), **changes)
    return recalibrate_on(_listed(normals), model, output, options, watch=watch).model


def check(
    new: Paths,
    model: str | Path | None = None,
    *,
    options: CheckOptions | None = None,
    watch: training.Watch | None = None,
    **changes: Unpack[CheckKeywords],
) -> checking.Checked:
    """See whether a batch of slides, or folders of them, is like a model's normal slides.

    Nothing is written. Parameters and errors are those of :func:`calibrate`, but for `output` and
    `cases`; a model without normal slides to compare with is an error too.
    """
    options = replace(options or CheckOptions(), **changes)
    return checking.check(_listed(new), model, options, watch=watch)


def learn(
    results: str | Path = "results",
    model: str | Path = "model",
    *,
    output: str | Path,
    options: LearnOptions | None = None,
    watch: training.Watch | None = None,
    **changes: Unpack[LearnKeywords],
) -> Learned:
    """Learn from reviews what is harmless, and what is abnormal.

    Parameters
    ----------
    results, model, output
        Folders of results with reviews, of the model, and of the one that knows the findings.
    options, changes, watch
        See :class:`~wsi_anomaly.options.LearnOptions`; and who is told what.

    Raises
    ------
    WsiAnomalyError
        The model cannot be used for it, or there is nothing to learn from.
    """
    options = replace(options or LearnOptions(), **changes)
    return learn_reviews(results, model, output, options, watch=watch)


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


def _given_back(slides: Paths, outcomes: list[Outcome[J, R]]) -> list[R] | list[Outcome[J, R]]:
    """Of a list every outcome, in its order; of a path the results, or the first error."""
    if not isinstance(slides, str | Path):
        by_slide = {outcome.job.slide.absolute(): outcome for outcome in outcomes}
        order = [path.absolute() for place in slides for path in find_slides([place])]
        return [by_slide[path] for path in dict.fromkeys(order or by_slide) if path in by_slide]
    failed = [outcome for outcome in outcomes if outcome.result is None]
    if len(failed) == len(outcomes) and failed:
        raise failed[0].as_error()
    for outcome in failed:
        warnings.warn(outcome.error, stacklevel=3)
    return [outcome.result for outcome in outcomes if outcome.result is not None]

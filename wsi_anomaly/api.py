"""The verbs of the command line as functions; ``import wsi_anomaly`` offers them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_anomaly.core.files import make_folder
from wsi_anomaly.detectors import Model
from wsi_anomaly.evaluation.report import write_evaluation
from wsi_anomaly.evaluation.run import Evaluation, evaluate_results
from wsi_anomaly.overlays import (
    ScoreOptions,
    Worklist,
    check_names_may_be_shown,
    result_folders,
    score_to_folder,
)
from wsi_anomaly.scoring import ScoreMap
from wsi_anomaly.search import Found
from wsi_anomaly.search import tune as search_config
from wsi_anomaly.slides import find_slides
from wsi_anomaly.tiles import TileConfig, TileResult
from wsi_anomaly.tiles.jobs import plan_jobs
from wsi_anomaly.tiles.ledger import write_ledger
from wsi_anomaly.tiles.tiling import tile_slides
from wsi_anomaly.training.config import TrainConfig, load_config
from wsi_anomaly.training.normals import NormalSlide
from wsi_anomaly.training.run import recalibrate
from wsi_anomaly.training.run import train as train_model

Paths = str | Path | Sequence[str | Path]


def tile(
    slides: Paths,
    output: str | Path = "tiles",
    config: TileConfig | None = None,
    *,
    workers: int = 1,
    mpp: float | None = None,
) -> list[TileResult]:
    """Cut slides into tiles; what is finished already is kept.

    Parameters
    ----------
    slides
        Slides, or folders of them.
    output
        Folder of tile files; ``slides.csv`` in it says what became of every slide.
    config
        What to store.
    workers
        Processes. More than one needs the usual ``if __name__ == "__main__":`` around the caller.
    mpp
        Micrometres per pixel of all slides, over what they say.

    Returns
    -------
    One result for each slide that could be tiled.

    Raises
    ------
    WsiAnomalyError
        No slide at all could be tiled; the first reason.
    """
    folder = make_folder(output)
    jobs = plan_jobs(find_slides(_listed(slides)), folder, mpp=mpp)
    outcomes = list(tile_slides(jobs, folder, config or TileConfig(), workers=workers))
    write_ledger(folder / "slides.csv", outcomes)
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    if not results:
        raise outcomes[0].as_error()
    return results


def train(
    tiles: Paths = "tiles",
    output: str | Path = "model",
    config: str | TrainConfig = "fast",
    *,
    device: str = "cpu",
    **options: Any,
) -> Model:
    """Train a model; see :func:`wsi_anomaly.training.run.train` for further `options`."""
    chosen = load_config(config) if isinstance(config, str) else config
    return train_model(tiles, output, chosen, device=device, **options)


def tune(
    tiles: Paths = "tiles",
    anomalies: Paths = (),
    output: str | Path = "tuned",
    config: str | TrainConfig = "fast",
    *,
    device: str = "cpu",
    **options: Any,
) -> Found:
    """Choose hyperparameters by known anomalies; see :func:`wsi_anomaly.search.tune`."""
    base = load_config(config) if isinstance(config, str) else config
    return search_config(tiles, _listed(anomalies), output, base, device=device, **options)


def calibrate(
    normals: Paths,
    model: str | Path = "model",
    output: str | Path | None = None,
    *,
    device: str = "cpu",
) -> Model:
    """Make normal slides the reference of a model, which is written to `output` (or back).

    Raises
    ------
    WsiAnomalyError
        The model cannot be read, or none of the slides can be used.
    """
    slides = [NormalSlide(path, path.stem) for path in find_slides(_listed(normals))]
    return recalibrate(model, slides, output or model, device=device)[0]


def score(
    slides: Paths,
    model: str | Path = "model",
    output: str | Path = "results",
    *,
    device: str = "cpu",
    **options: Any,
) -> list[ScoreMap]:
    """Score slides and write their results folders and the worklist.

    Parameters
    ----------
    slides
        Slides, or folders of them.
    model
        Model folder.
    output
        Folder of results.
    options
        Fields of :class:`~wsi_anomaly.overlays.ScoreOptions`, such as ``heatmap=True``.

    Returns
    -------
    One score map for each slide.

    Raises
    ------
    WsiAnomalyError
        A slide cannot be scored; those before it are done.
    """
    check_names_may_be_shown(Path(output))
    loaded = Model.load(model, device=device)
    folder = make_folder(output)
    found = find_slides(_listed(slides))
    folders = result_folders(found, folder)
    chosen = ScoreOptions(**options)
    maps = []
    with Worklist(folder) as worklist:
        for path in found:
            maps.append(score_to_folder(path, loaded, folders[path], chosen))
            worklist.done(str(path))
    return maps


def evaluate(
    results: str | Path = "results",
    output: str | Path | None = "evaluation",
    **options: Any,
) -> Evaluation:
    """Hold results against known truth.

    Parameters
    ----------
    results
        Folder that :func:`score` has written.
    output
        Folder for ``evaluation.html`` and ``evaluation.json``; None writes nothing.
    options
        Where the truth is, such as ``annotations="outlines"`` or ``labels="slides.csv"``: see
        :func:`wsi_anomaly.evaluation.run.evaluate_results`.

    Raises
    ------
    WsiAnomalyError
        There is nothing to compare.
    """
    evaluation = evaluate_results(results, **options)
    if output is not None:
        write_evaluation(output, evaluation)
    return evaluation


def _listed(paths: Paths) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)

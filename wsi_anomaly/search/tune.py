"""``tune``: tile files and a few known anomalies in, a configuration for ``train`` out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import (
    atomic_file,
    canonical_json,
    make_folder,
    write_json,
    write_text,
)
from wsi_anomaly.features import load_features
from wsi_anomaly.features.precision import fast_precision
from wsi_anomaly.search.files import config_toml, sentences, summary, trials_csv
from wsi_anomaly.search.inputs import MAGNIFICATIONS, Inputs, Paths, read_inputs
from wsi_anomaly.search.judging import Judge
from wsi_anomaly.search.material import CRITERIA, grouped_folds
from wsi_anomaly.search.picture import search_picture
from wsi_anomaly.search.records import Found, Tried, Watch
from wsi_anomaly.search.space import DETECTORS, Space
from wsi_anomaly.search.study import default_storage, open_study
from wsi_anomaly.search.trials import Search
from wsi_anomaly.training.config import PRESETS, TrainConfig

CONFIG, TRIALS, PICTURE, SUMMARY = "config.toml", "trials.csv", "search.png", "tuned.json"
_FOLDS = ".folds"


def tune(
    tiles: Paths,
    anomalies: Sequence[str | Path] = (),
    output: str | Path = "tuned",
    base: TrainConfig = PRESETS["fast"],
    *,
    trials: int = 30,
    folds: int = 3,
    criterion: str = "roc-auc",
    storage: str | None = None,
    detectors: Sequence[str] = DETECTORS,
    magnifications: Sequence[int] = MAGNIFICATIONS,
    networks: Mapping[str, Path | None] | None = None,
    device: str = "cpu",
    resume: bool = True,
    watch: Watch | None = None,
) -> Found:
    """Choose the hyperparameters that tell a few known anomalies best from normal tiles.

    Parameters
    ----------
    tiles
        Tile files of normal slides, or folders of them.
    anomalies
        Tile files of known anomalies. Never learned from.
    output
        Folder of the configuration, the trials, the picture, and the study unless `storage` says
        otherwise.
    base
        What the choices are put into; it is tried first, and its seed parts the cases.
    trials
        Trials in all, those of earlier runs and of other processes included.
    folds
        Each case is judged in one of so many folds (no more than there are cases).
    criterion
        "roc-auc": of held-out normal tiles against the anomalies. "reconstruction": loss of
        held-out normal tiles, without anomalies.
    storage
        Address of a database, as Optuna takes it; processes with the same one share the trials.
    detectors
        Methods to choose among.
    magnifications
        Magnifications to choose among, as far as all tile files hold them.
    networks
        Perceptual networks to choose among, with files of their weights; by default the base's.
    device
        Where to compute.
    resume
        Go on with the search that is there.
    watch
        Who is told what.

    Returns
    -------
    What was chosen; the files are written.

    Raises
    ------
    UsageError, TileStoreError
        The tiles do not suffice or do not fit together, or the request makes no sense.
    WsiAnomalyError
        The database cannot be used.
    ModelError
        A network cannot be loaded, or no trial could be completed.
    """
    watch = watch or Watch()
    _check(trials, folds, criterion, anomalies)
    few = list(anomalies) if criterion == "roc-auc" else []
    inputs = read_inputs(tiles, few, base, magnifications, watch.note)
    loaded = {}
    for name, weights in (networks or {base.features: None}).items():
        network = load_features(name, weights=weights).to(device)
        loaded[name] = network.set_precision(fast_precision(torch.device(device)))
    space = Space.around(base, inputs.views, loaded, detectors)
    if criterion == "reconstruction":
        space = space.for_reconstruction(base)
    if folds > len(inputs.cases):
        watch.note(f"{len(inputs.cases)} cases take part, so there are as many folds.")
    identity = json.loads(
        canonical_json(
            {
                "search space": space.to_dict(),
                "starting configuration": base.to_dict(),
                "tiles": inputs.tiles,
                "anomalies": inputs.anomalies,
                "folds": folds,
                "criterion": criterion,
            }
        )
    )
    folder = make_folder(output)
    storage = storage or default_storage(folder)
    study = open_study(
        storage, identity, maximize=criterion == "roc-auc", seed=base.seed, resume=resume
    )
    if not resume:
        shutil.rmtree(folder / _FOLDS, ignore_errors=True)
    judge = Judge(
        inputs.material,
        grouped_folds(inputs.material.cases, folds, base.seed),
        loaded,
        criterion,
        working=folder / _FOLDS,
        identity=identity,
    )
    former = watch.ended

    def ended(tried: tuple[Tried, ...], latest: int) -> None:
        write_text(folder / TRIALS, trials_csv(tried, len(judge.folds)))
        former(tried, latest)

    search = Search(judge, space, base, study, storage, replace(watch, ended=ended))
    found = search.run(trials)
    _write(found, inputs, folder, len(judge.folds))
    return found


def _check(trials: int, folds: int, criterion: str, anomalies: Sequence[str | Path]) -> None:
    if criterion not in CRITERIA:
        raise UsageError(f"The criteria are {' and '.join(CRITERIA)}, not {criterion!r}.")
    if trials < 1:
        raise UsageError(f"A search has at least 1 trial, not {trials}; give --trials 30, say.")
    if folds < 2:
        raise UsageError(f"A search has at least 2 folds, not {folds}; give --folds 3, say.")
    if criterion == "roc-auc" and not anomalies:
        raise UsageError(
            "tune chooses by a few known anomalies: give tile files of them with --anomalies (tile "
            "--annotations makes them), or choose without any by --criterion reconstruction."
        )


def _write(found: Found, inputs: Inputs, folder: Path, folds: int) -> None:
    config = replace(found.config, tuned_on=inputs.cases)
    remarks = [
        "Made by wsi-anomaly tune. Use it on the same tiles:",
        f"  wsi-anomaly train TILES --config {folder / CONFIG}",
        *sentences(found),
        "tuned_on are the cases that took part: train never calibrates on them.",
    ]
    write_text(folder / TRIALS, trials_csv(found.tried, folds))
    write_json(folder / SUMMARY, summary(found, inputs.cases, inputs.calibration))
    with atomic_file(folder / PICTURE) as partial:
        partial.write_bytes(search_picture(found))
    write_text(folder / CONFIG, config_toml(config, remarks))

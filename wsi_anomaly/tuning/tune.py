"""``tune``: tile files and a few known anomalies in, a configuration for ``train`` out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wsi_anomaly.core.devices import choose_device
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import (
    atomic_file,
    canonical_json,
    make_folder,
    write_json,
    write_text,
)
from wsi_anomaly.features import PerceptualNetwork, load_features, working_precision
from wsi_anomaly.options import TuneOptions
from wsi_anomaly.training.config import PRESETS, TrainConfig, chosen_config
from wsi_anomaly.tuning.files import config_toml, sentences, summary, trials_csv
from wsi_anomaly.tuning.fold_scores import FoldScorer
from wsi_anomaly.tuning.inputs import Inputs, Paths, read_inputs
from wsi_anomaly.tuning.picture import search_picture
from wsi_anomaly.tuning.records import Found, Tried, Watch
from wsi_anomaly.tuning.search_data import grouped_folds
from wsi_anomaly.tuning.space import Space
from wsi_anomaly.tuning.study import default_storage, open_study
from wsi_anomaly.tuning.trials import Search

CONFIG, TRIALS, PICTURE, SUMMARY = "config.toml", "trials.csv", "search.png", "tuned.json"
_FOLDS = ".folds"


def tune(
    tiles: Paths,
    anomalies: Sequence[str | Path] = (),
    output: str | Path = "tuned",
    base: TrainConfig = PRESETS["fast"],
    options: TuneOptions | None = None,
    *,
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
        Folder of the configuration, the trials, the picture, and the study unless the options say
        otherwise.
    base
        What the choices are put into; it is tried first, and its seed parts the cases unless the
        options have one.
    options
        How to search, and where to compute.
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
    options, watch = options or TuneOptions(), watch or Watch()
    base = chosen_config(base, options)
    maximize = options.criterion == "roc-auc"
    few = _few(anomalies, options)
    device = choose_device(options.device)
    networks = _load(options.networks or {base.features: None}, device)
    inputs = _read(tiles, few, base, networks, options, watch)
    space = Space.around(
        base, inputs.views, networks, options.detectors, fields_um=inputs.fields_um
    )
    if not maximize:
        space = space.for_reconstruction(base)
    if options.folds > len(inputs.cases):
        watch.note(f"{len(inputs.cases)} cases take part, so there are as many folds.")
    identity = _identity(space, base, inputs, options)
    folder = make_folder(output)
    storage = options.storage or default_storage(folder, watch.note)
    study = open_study(storage, identity, maximize=maximize, seed=base.seed, resume=options.resume)
    if not options.resume:
        shutil.rmtree(folder / _FOLDS, ignore_errors=True)
    scorer = FoldScorer(
        inputs.data,
        grouped_folds(inputs.data.cases, options.folds, base.seed),
        networks,
        options.criterion,
        working=folder / _FOLDS,
        identity=identity,
    )
    former = watch.ended

    def ended(tried: tuple[Tried, ...], latest: int) -> None:
        write_text(folder / TRIALS, trials_csv(tried, len(scorer.folds)))
        former(tried, latest)

    search = Search(scorer, space, base, study, storage, replace(watch, ended=ended))
    found = search.run(options.trials)
    _write(found, inputs, folder, len(scorer.folds))
    return found


def _few(anomalies: Sequence[str | Path], options: TuneOptions) -> list[str | Path]:
    """Those that the criterion asks for."""
    if options.criterion != "roc-auc":
        return []
    if not anomalies:
        raise UsageError(
            "tune chooses by a few known anomalies: give tile files of them with --anomalies (tile "
            "--annotations makes them), or choose without any by --criterion reconstruction."
        )
    return list(anomalies)


def _load(networks: Mapping[str, str | Path | None], device: str) -> dict[str, PerceptualNetwork]:
    """Load the networks that can be chosen, by name."""
    return {
        name: load_features(name, weights=Path(weights) if weights else None).to(device)
        for name, weights in networks.items()
    }


def _read(
    tiles: Paths,
    few: Sequence[str | Path],
    base: TrainConfig,
    networks: Mapping[str, PerceptualNetwork],
    options: TuneOptions,
    watch: Watch,
) -> Inputs:
    """Read the tile files, and let each network compute as precisely as ``train`` lets it."""
    density = options.criterion == "roc-auc" and "density" in options.detectors
    of_fields = networks if density else {}
    inputs = read_inputs(tiles, few, base, options.magnifications, of_fields, watch.note)
    for name, network in networks.items():
        usual = working_precision(name, next(network.parameters()).device.type)
        network.set_precision(torch.float32 if name in inputs.fields_um else usual)
    return inputs


def _identity(
    space: Space, base: TrainConfig, inputs: Inputs, options: TuneOptions
) -> dict[str, Any]:
    """Say what a search is made of, as JSON gives it back; another one does not share its study."""
    identity = {
        "search space": space.to_dict(),
        "starting configuration": base.to_dict(),
        "tiles": inputs.tiles,
        "anomalies": inputs.anomalies,
        "places": [len(inputs.data.cases), len(inputs.data.groups)],
        "folds": options.folds,
        "criterion": options.criterion,
    }
    return dict(json.loads(canonical_json(identity)))


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

"""From tile files to a model folder."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly import __version__
from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.core import journal
from wsi_anomaly.core.devices import memory_explained
from wsi_anomaly.core.errors import ModelError, WsiAnomalyError
from wsi_anomaly.core.files import make_folder
from wsi_anomaly.detectors import DETECTORS, Detector, Fitting, Model
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.detectors.examples import Examples
from wsi_anomaly.detectors.frozen import refuse_frozen
from wsi_anomaly.features import (
    PerceptualNetwork,
    load_features,
    network_spec,
    working_precision,
)
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.learning.distributed import leave, rank_and_world, wait_for_all
from wsi_anomaly.learning.loop import Report
from wsi_anomaly.tiles import TileSet, TileStore
from wsi_anomaly.training.card import log_csv, model_card
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.training.examples import examples_of
from wsi_anomaly.training.fields import MOST_CELLS, embed_stores, with_fields_or_without
from wsi_anomaly.training.inputs import (
    Notes,
    anomaly_set,
    domain_of,
    read_stores,
    tile_set,
    tiles_of_cases,
)
from wsi_anomaly.training.normals import NormalSlide, score_normal_slide
from wsi_anomaly.training.picture import training_picture
from wsi_anomaly.training.self_check import check_files, tell_known
from wsi_anomaly.training.splits import Split, split_cases
from wsi_anomaly.training.tensorboard import TensorBoardLog

_REMEDY = "lower batch_size in the configuration, or give --device cpu"


@dataclass
class Watch:
    """Who is told what while a model is trained; everything may be left out.

    Attributes
    ----------
    report
        Called with each report of the training loop.
    stage
        Called with a short text when another part of the work begins.
    slide
        Called with a slide or tile file that is gone through, its fields done and in all.
    note
        Called with sentences that the user should read.
    """

    report: Callable[[Report], None] = lambda _report: None
    stage: Callable[[str], None] = lambda _text: None
    slide: Callable[[Path, int, int], None] = lambda _path, _done, _total: None
    note: Notes = lambda _text: None


def train(
    tiles: str | Path | Sequence[str | Path],
    output: str | Path,
    config: TrainConfig,
    *,
    feature_weights: Path | None = None,
    anomalies: Sequence[str | Path] = (),
    device: str = "cpu",
    resume: bool = True,
    watch: Watch | None = None,
) -> Model:
    """Train a model on the tiles of normal slides.

    Parameters
    ----------
    tiles
        Tile files, or folders of them.
    output
        The model folder; beside it, ``.<name>.training`` keeps what an interrupted run needs.
    config
        What to learn.
    feature_weights
        Weights of the perceptual network, when it does not ship with the program.
    anomalies
        Tile files of a few known abnormal tiles: for ``fusion``, never trained on.
    device
        Where to compute.
    resume
        Go on with an unfinished run of the same configuration and tiles.
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
    watch = watch or Watch()
    output = Path(output)
    _check_anomalies(config, anomalies)
    stores = read_stores(tiles, config, watch.note)
    split = split_cases(tiles_of_cases(stores), seed=config.seed, chose=config.tuned_on)
    if split.note:
        watch.note(split.note)
    train_set = tile_set(stores, set(split.train), config)
    validation = tile_set(stores, set(split.validation), config)
    assert train_set is not None
    features = _network(config, feature_weights, device, watch)
    config = _for_fields(config, features, train_set, device, watch)
    working = _working_folder(output, resume=resume)
    curves = TensorBoardLog(working / "tensorboard")

    def report(method: str, line: Report) -> None:
        watch.report(line)
        if not rank_and_world()[0]:
            curves.report(method, line)

    fitting = _fitting(device, working, train_set, anomaly_set(anomalies, train_set, config))
    with memory_explained(device, _REMEDY):
        detectors, examples = _fit(config, features, train_set, validation, fitting, watch, report)
    model = _described(detectors, config, stores, split, train_set, validation, examples)
    rank = rank_and_world()[0]
    # What is left is for the first process alone; the others must not wait for it, nor it for them.
    wait_for_all()
    leave()
    if rank:
        return model
    normals = _calibration_slides(stores, split)
    with memory_explained(device, _REMEDY):
        model = replace(model, calibration=calibrate(model, normals, watch=watch)[0])
    tell_known(model, fitting.anomalies, watch.note)
    watch.stage("writing")
    files = _figures(model, validation or train_set, curves) | check_files(model, normals)
    model = model.save(output, card=model_card(model, config, split), files=files)
    shutil.rmtree(working, ignore_errors=True)
    return model


def _fitting(device: str, working: Path, train_set: TileSet, anomalies: TileSet | None) -> Fitting:
    return Fitting(
        device=torch.device(device),
        checkpoint=make_folder(working),
        identity={"tiles": sorted(s.fingerprint + s.config_hash for s in train_set.stores)},
        anomalies=anomalies,
    )


def _for_fields(
    config: TrainConfig, features: PerceptualNetwork, train_set: TileSet, device: str, watch: Watch
) -> TrainConfig:
    """Settle whether fields are learned from, and set the network's precision for it."""
    config = with_fields_or_without(config, features, train_set.stores, watch.note)
    fields = "density" in config.methods and config.density(features.default_layer).fields_um
    features.set_precision(torch.float32 if fields else working_precision(config.features, device))
    return config


def _network(
    config: TrainConfig, weights: Path | None, device: str, watch: Watch
) -> PerceptualNetwork:
    """Load the perceptual network, and say its licence."""
    spec = network_spec(config.features)
    if spec is not None and spec.licence:
        watch.note(f"{config.features}: {spec.licence}.")
    return load_features(config.features, weights=weights).to(device)


def _described(
    detectors: dict[str, Detector],
    config: TrainConfig,
    stores: Sequence[TileStore],
    split: Split,
    train_set: TileSet,
    validation: TileSet | None,
    examples: Examples | None,
) -> Model:
    """Put what was fitted together with what is known of it; not calibrated yet."""
    return Model(
        name=f"{config.detector}-{config.features}-{config.magnification}x",
        magnification=config.magnification,
        tile_size=config.tile_size,
        preprocessing=train_set.preprocessing.to_dict(),
        detectors=detectors,
        primary=config.detector,
        seen={s.fingerprint: split.part(s.case) for s in stores},
        domain=domain_of(train_set),
        provenance=_provenance(config, split, train_set, validation),
        examples=examples,
    )


def _check_anomalies(config: TrainConfig, anomalies: Sequence[str | Path]) -> None:
    if "fusion" in config.methods and not anomalies:
        raise ModelError(
            "fusion needs a few known abnormal tiles to choose weights by; give tile files of "
            "them with --anomalies, or use --detector dpa or density."
        )


def _working_folder(output: Path, *, resume: bool) -> Path:
    """Where an unfinished run keeps what it needs to go on; empty without `resume`.

    Raises
    ------
    UsageError
        The output is a frozen model.
    """
    refuse_frozen(output)
    working = output.with_name(f".{output.name}.training")
    if not (resume or journal.again()) and rank_and_world()[0] == 0:
        shutil.rmtree(working, ignore_errors=True)
    wait_for_all()  # no process may find what another is about to remove
    return working


def _calibration_slides(stores: Sequence[TileStore], split: Split) -> list[NormalSlide]:
    return [NormalSlide.of_tiles(s) for s in stores if s.case in split.calibration]


def _figures(model: Model, tiles: TileSet, curves: TensorBoardLog) -> dict[str, bytes]:
    """Draw the training; its files by name."""
    ranking_first = [model.detectors[model.primary], *model.detectors.values()]
    trained = next((d for d in ranking_first if d.log_), ranking_first[0])
    files = {"training.png": training_picture(model, trained.log_, tiles, trained.loss_name)}
    if trained.log_:
        files |= {"training.csv": log_csv(trained.log_).encode(), **curves.files()}
    return files


def calibrate(
    model: Model, slides: Sequence[NormalSlide], *, watch: Watch | None = None
) -> tuple[dict[str, Calibration], dict[str, str]]:
    """Score normal slides that the model has not learned from; they become its reference.

    Returns
    -------
    calibration
        By method; empty when no slide could be scored.
    seen
        Fingerprints of the slides that took part, to "calibration".
    """
    watch = watch or Watch()
    scores: dict[str, list[CaseScores]] = {name: [] for name in model.methods}
    used: dict[str, Path] = {}
    for slide in slides:
        watch.stage(f"calibrating on {slide.path.name}")

        def progress(done: int, total: int, _stage: int = 0, /, path: Path = slide.path) -> None:
            watch.slide(path, done, total)

        try:
            marks = _marks(slide)
            reason = _unfit(slide, marks, model, used)
            if reason is not None:
                watch.note(f"Not used for calibration: {reason}")
                continue
            _, found = score_normal_slide(slide, model, progress=progress)
        except (WsiAnomalyError, OSError) as error:
            watch.note(f"Not used for calibration: {error}")
            continue
        if not found:
            watch.note(f"Not used for calibration: nothing on {slide.path} could be assessed.")
            continue
        used |= dict.fromkeys(marks or slide.marks, slide.path)
        for name, values in found.items():
            scores[name].append(values)
    seen = dict.fromkeys(used, "calibration")
    return {name: Calibration.fit(parts) for name, parts in scores.items() if parts}, seen


def _marks(slide: NormalSlide) -> list[str]:
    try:
        slide.check_may_connect()
        return slide.marks
    except (WsiAnomalyError, OSError):
        return []  # opening it will say what is wrong


def _unfit(
    slide: NormalSlide, marks: Sequence[str], model: Model, used: Mapping[str, Path]
) -> str | None:
    """Say why a slide cannot calibrate, before it is scored; None: it may."""
    if any(model.seen.get(mark) in ("train", "validation") for mark in marks):
        return f"the model has learned from {slide.path}, so its scores there are too low."
    copied = next((used[mark] for mark in marks if mark in used), None)
    return None if copied is None else f"{slide.path} is a copy of {copied}."


def _fit(
    config: TrainConfig,
    features: PerceptualNetwork,
    tiles: TileSet,
    validation: TileSet | None,
    fitting: Fitting,
    watch: Watch,
    report: Callable[[str, Report], None],
) -> tuple[dict[str, Detector], Examples | None]:
    """Fit the methods of a configuration, one after the other; with fields to show of one."""
    found: dict[str, Detector] = {}
    examples = None
    for name in config.methods:
        settings = config.settings(name, features.default_layer)
        with DETECTORS.blaming(name):
            found[name] = DETECTORS.get(name).make(features, settings, found)
    used = dict.fromkeys(layer for d in found.values() for layer in d.fitting_layers)
    fit_missing_statistics(features, tiles, list(used))
    for name, detector in found.items():
        watch.stage("training" if name == "dpa" else f"fitting {name}")
        own = replace(fitting, progress=partial(report, name))
        with DETECTORS.blaming(name):
            if detector.fields_um:
                embeddings, shares, sources = _embedded(detector, config, tiles, watch)
                detector.fit_fields(embeddings, shares).to(fitting.device)
                examples = examples or examples_of(
                    detector, embeddings, sources, tiles.stores, config.magnification, config.seed
                )
            else:
                detector.fit(tiles, validation, own)
    return found, examples


def _embedded(
    detector: Detector, config: TrainConfig, tiles: TileSet, watch: Watch
) -> tuple[dict[int, Tensor], Tensor, NDArray[np.int64]]:
    """Embed the fields of the training slides; with their shares of tissue, and their places."""
    return embed_stores(
        tiles.stores,
        config.magnification,
        DenseMaps(detector.features, detector.layers),
        detector.fields_um,
        most=MOST_CELLS,
        seed=config.seed,
        progress=watch.slide,
    )


def _provenance(
    config: TrainConfig, split: Split, tiles: TileSet, validation: TileSet | None
) -> dict[str, Any]:
    return {
        "trained": dt.datetime.now(dt.UTC).date().isoformat(),
        "program": f"wsi-anomaly {__version__}",
        "features": config.features,
        "training_cases": len(split.train),
        "training_tiles": len(tiles),
        "validation_cases": len(split.validation),
        "validation_tiles": 0 if validation is None else len(validation),
        "calibration_cases": len(split.calibration),
        "configuration": config.to_dict(),
    }

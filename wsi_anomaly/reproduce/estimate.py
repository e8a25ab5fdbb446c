"""How long the trainings of a table take on this machine, measured by a few steps of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from wsi_anomaly.detectors import Dpa, Fitting
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.features import PerceptualNetwork, load_features, working_precision
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.reproduce.plan import PRECISIONS, Plan
from wsi_anomaly.reproduce.rows import RANDOM, UNTRAINED, make_detector, settings_of, used_layers

_STEPS = 4
_MOST_ON_A_CPU = 16  # images in a measured step; a processor's time grows with their number
_LONG = 20  # times the measured steps: shorter trainings are not worth a measurement


def training_hours(
    rows: Sequence[str], source: str, problem: str, plan: Plan, seeds: int
) -> dict[str, float]:
    """Measure a few steps of each stage; hours of all seeds by row, rows that train alone."""
    network = load_features(plan.features, weights=plan.weights)
    network.to(plan.device)
    if plan.precision != PRECISIONS[0]:
        network.set_precision(working_precision(plan.features, plan.device))
    found = {}
    for row in rows:
        settings = settings_of(row, source, problem, plan)
        if "published" not in settings or row == UNTRAINED or row.endswith(RANDOM):
            continue
        lengths = _lengths(settings, network)
        if sum(lengths) < _LONG * _STEPS:
            continue
        batch = int(settings["batch_size"])
        small = min(batch, _MOST_ON_A_CPU) if plan.device == "cpu" else batch
        _seconds(settings, network, plan.device, 1, small)  # what happens once alone
        measured = _seconds(settings, network, plan.device, _STEPS, small)
        seconds = sum(n * s / _STEPS for n, s in zip(lengths, measured, strict=True))
        found[row] = seeds * seconds * batch / small / 3600
    return found


def _lengths(settings: dict[str, Any], network: PerceptualNetwork) -> list[int]:
    """Count the steps of each stage."""
    detector = make_detector(settings, network, 0)
    if isinstance(detector, Dpa):
        return [stage.steps for stage in detector.config.stages]
    return [int(detector.config.total_steps)]


def _seconds(
    settings: dict[str, Any], network: PerceptualNetwork, device: str, steps: int, batch: int
) -> list[float]:
    """Seconds of each stage, `steps` long, on noise."""
    own = settings["steps"]
    short = (
        {at: [min(n, steps) for n in pair] for at, pair in own.items()}
        if isinstance(own, dict)
        else steps
    )
    few = settings | {
        "steps": short, "batch_size": batch, "dirichlet_tiles": 1, "pretrain_steps": 1,
    }  # fmt: skip
    side = int(settings["size"])
    noise = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    tiles = ArrayTiles(noise)
    fit_missing_statistics(network, tiles, used_layers(settings, network))
    ends = [time.perf_counter()]
    fitting = Fitting(torch.device(device), progress=lambda _: ends.append(time.perf_counter()))
    make_detector(few, network, 0).fit(tiles, None, fitting)
    return np.diff(ends).tolist()

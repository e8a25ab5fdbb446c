"""Parts of ``gpu.py`` that show whether a GPU computes what the processor does."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import huge_slide
from gpu_common import Found, command, goal, made_tiles
from scipy.stats import spearmanr
from torch import Tensor, nn

from wsi_anomaly.core.errors import MemoryShortError
from wsi_anomaly.detectors import DETECTORS, Detector, Fitting, Model
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.features import load_features, working_precision
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream
from wsi_anomaly.learning.loop import LoopConfig, StepResult, TrainingLoop
from wsi_anomaly.training.config import PRESETS, TrainConfig


def doctor(device: str, _short: bool) -> Found:
    """``wsi-anomaly doctor`` names the card."""
    out = command("doctor")
    named = next((line for line in out.stdout.splitlines() if "GPU" in line), "")
    seen = not device.startswith("cuda") or "none" not in named
    return {
        "says": named.strip(),
        "goals": {"names the GPU": goal(named.strip(), "a line", reached=bool(named) and seen)},
    }


def _quick(steps: int, batch: int = 32) -> TrainConfig:
    """A configuration in which every detector trains for so many steps."""
    fast = PRESETS["fast"]
    names = {"steps": steps, "pretrain_steps": steps, "batch_size": batch, "report_every": 5}
    options = {}
    for name in DETECTORS.names():
        if name != "dpa":
            known = {f for f in names if f in DETECTORS.get(name).config_type.__dataclass_fields__}
            options[name] = {**fast.options.get(name, {}), **{f: names[f] for f in known}}
    part = max(1, steps // 5)
    return replace(
        fast, features="compact", density_fields_um=(), batch_size=batch, options=options,
        steps={16: (0, part), 32: (part, part), 64: (part, part)},
    )  # fmt: skip


def _fitted(
    config: TrainConfig, names: list[str], device: str, fitting: Callable[[str], Fitting],
    tiles: ArrayTiles,
) -> Model:  # fmt: skip
    features = load_features("compact").to(device)
    features.set_precision(working_precision("compact", device))
    found: dict[str, Detector] = {}
    for name in names:
        settings = config.settings(name, features.default_layer)
        detector = DETECTORS.get(name).make(features, settings, found)
        fit_missing_statistics(features, tiles, list(detector.fitting_layers))
        try:
            detector.fit(tiles, None, fitting(name))
        except KeyboardInterrupt:
            detector.fit(tiles, None, replace(fitting(name), progress=None))
        found[name] = detector.to(device)
    return Model(
        name="gpu", magnification=10, tile_size=64, preprocessing={}, detectors=found,
        primary=names[0], seen={}, domain={}, provenance={},
    )  # fmt: skip


def _names(short: bool) -> list[str]:
    ours = sorted(DETECTORS.names(), key=lambda name: (name == "fusion", name))
    return ["dpa", "density", "fusion"] if short else ours


def parity(device: str, short: bool) -> Found:
    """Scores and maps of one model on both devices."""
    tiles = made_tiles(24 if short else 512)
    few = ArrayTiles(tiles[-64:])
    model = _fitted(_quick(5), _names(short), "cpu", lambda _n: Fitting.on("cpu"), few)
    goals = {}
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        loaded = [Model.load(Path(folder) / "model", device=d) for d in ("cpu", device)]
        here, there = (m.score_tiles(tiles) for m in loaded)
        maps = [m.pixel_maps(tiles) for m in loaded]
    for name, a in here.items():
        ranks = float(spearmanr(a, there[name]).statistic)
        off = float(np.abs(a - there[name]).mean() / max(a.std(), 1e-12))
        goals[f"{name}: rank correlation"] = goal(
            round(ranks, 5), "above 0.999", reached=ranks > 0.999
        )
        goals[f"{name}: mean difference in spreads"] = goal(
            f"{off:.1e}", "within 1e-2", reached=off < 1e-2
        )
    assert maps[0] is not None
    assert maps[1] is not None
    alike = float(np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1])
    goals["maps: correlation"] = goal(round(alike, 5), "above 0.999", reached=alike > 0.999)
    return {"tiles": len(tiles), "goals": goals}


def detectors(device: str, short: bool) -> Found:
    """Every detector trains, is interrupted, goes on, is saved, loaded, and scores the same."""
    tiles = made_tiles(40 if short else 256)
    waits: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if device.startswith("cuda"):
            torch.cuda.set_sync_debug_mode("warn")

        def interrupted(_report: object) -> None:
            raise KeyboardInterrupt

        def fitting(_name: str) -> Fitting:
            place = Path(folder) / "working"
            place.mkdir(exist_ok=True)
            return Fitting(torch.device(device), place, {}, interrupted)

        model = _fitted(_quick(20), _names(short), device, fitting, ArrayTiles(tiles))
        if device.startswith("cuda"):
            torch.cuda.set_sync_debug_mode("default")
        waits = [str(w.message) for w in seen if "synchroniz" in str(w.message)]
        before = model.score_tiles(tiles)
        model.save(Path(folder) / "model")
        after = Model.load(Path(folder) / "model", device=device).score_tiles(tiles)
    goals = {}
    for name, scores in before.items():
        same = bool(np.isfinite(scores).all() and np.allclose(scores, after[name], rtol=1e-3))
        goals[f"{name}: trained, resumed, saved, loaded"] = goal(same, "equal scores", reached=same)
    return {"waits_for_the_card": len(waits), "kinds_of_waits": sorted(set(waits)), "goals": goals}


def nccl(device: str, _short: bool) -> Found:
    """One process averages with itself by the backend of the device."""
    import torch.distributed as dist

    backend = "nccl" if device.startswith("cuda") else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(f"{folder}/store", 1)
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        value = torch.ones(3, device=device)
        dist.all_reduce(value)
        dist.barrier()
        dist.destroy_process_group()
    right = bool((value == 1).all())
    return {"goals": {f"{backend}: sum, barrier, end": goal(right, "true", reached=right)}}


class _Greedy(nn.Module):
    """A learner whose step asks for more memory than it may have."""

    modules: dict[str, nn.Module] = {}  # noqa: RUF012
    optimizers: dict[str, torch.optim.Optimizer] = {}  # noqa: RUF012
    batches_per_step, draws = 1, False

    def start_stage(self, index: int) -> None:
        """Enter a stage."""

    def describe(self, _step: int) -> tuple[str, float]:
        return "greedy", 1.0

    def step(self, batches: tuple[Tensor, ...], _step: int) -> StepResult:
        if not batches[0].is_cuda:
            raise torch.OutOfMemoryError("CUDA out of memory (made up: there is no card)")
        return StepResult(torch.empty(2**40, dtype=torch.uint8, device=batches[0].device).sum())


def memory(device: str, _short: bool) -> Found:
    """A full memory is a sentence that names the remedy."""
    if device.startswith("cuda"):
        torch.cuda.set_per_process_memory_fraction(0.05)
    stream = BatchStream(ArrayTiles(made_tiles(8)), 4, 0, device)
    try:
        TrainingLoop(_Greedy(), stream, [1], LoopConfig()).run()  # type: ignore[arg-type]
        says = "nothing"
    except MemoryShortError as error:
        says = str(error)
    return {"goals": {"says": goal(says, "batch_size", reached="lower batch_size" in says)}}


def missing(_device: str, _short: bool) -> Found:
    """A card that is not there is wrong usage, in one sentence."""
    with tempfile.TemporaryDirectory() as folder:
        slide = huge_slide(Path(folder) / "slide.tif", 2048)
        out = command("score", str(slide), "--device", "cuda:9", "-o", f"{folder}/results")
    says = " ".join(out.stderr.split())
    right = out.returncode == 2 and "GPU" in says and "Traceback" not in says
    return {"goals": {"cuda:9": goal(says, "exit code 2", reached=right)}}

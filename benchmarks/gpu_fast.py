"""Parts of ``gpu.py`` that show how fast a GPU is."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from common import huge_slide
from gpu_common import Found, command, goal, made_tiles
from torch import Tensor

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, GrowthTrainer, growth
from wsi_anomaly.autoencoder.blocks import Conv3, Residual
from wsi_anomaly.autoencoder.loss import relative_l1, weighted_l1
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.detectors import growing_stages
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.precision import fast_precision
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream

_STEPS = {16: (0, 20_000), 32: (20_000, 20_000), 64: (20_000, 8_666)}
"""Of the paper's schedule."""


def sync(device: str) -> None:
    """Wait for the card."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def ms_of(work: Callable[[], object], device: str, times: int) -> float:
    """Median milliseconds of a call, after two that warm up."""
    taken = []
    for turn in range(times + 2):
        sync(device)
        start = time.perf_counter()
        work()
        sync(device)
        if turn > 1:
            taken.append((time.perf_counter() - start) * 1e3)
    return float(np.median(taken))


def _trainer(
    network: PerceptualNetwork, device: str, layers: dict[int, str],
    kind: type[GrowthTrainer] = GrowthTrainer,
) -> GrowthTrainer:  # fmt: skip
    architecture = Architecture()
    torch.manual_seed(0)
    autoencoder = ProgressiveAutoencoder(architecture).to(device)
    autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    lower = None if network.precision == torch.float32 else torch.bfloat16
    config = GrowthConfig(layers={size: {layer: 1.0} for size, layer in layers.items()})
    stages = growing_stages(architecture, _STEPS)
    return kind(autoencoder, network, stages, config, autocast=lower)


def _network(
    device: str, precision: torch.dtype, short: bool
) -> tuple[PerceptualNetwork, dict[int, str]]:
    """The paper's network with random weights (short: a small one), and the loss's layers."""
    name = "compact" if short else "vgg19"
    network = load_features(name, random_seed=0).to(device).set_precision(precision)
    layers = dict.fromkeys((16, 32, 64), "c3") if short else {16: "r32", 32: "r32", 64: "r42"}
    fit_missing_statistics(
        network, ArrayTiles(made_tiles(16 if short else 64)), sorted(set(layers.values()))
    )
    return network, layers


def _busy(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Kernels a call, and share of the time in which the card computes."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        start = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        taken = time.perf_counter() - start
    kernels = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    computing = sum(e.device_time for e in kernels) / 1e6
    return len(kernels) / times, computing / taken


def _plain_step(device: str, batch: int, short: bool) -> Callable[[], None]:
    """The last stage's step as one writes it first: eager, float32, TF32 off."""
    network, layers = _network(device, torch.float32, short)
    autoencoder = ProgressiveAutoencoder(Architecture()).to(device)
    for module in autoencoder.modules():
        if isinstance(module, Conv3 | Residual):
            module.fused = False
    optimizer = torch.optim.Adam(autoencoder.parameters(), 1e-3)
    tiles, layer = made_tiles(256), layers[64]
    rng = np.random.default_rng(0)

    def step() -> None:
        chosen = torch.from_numpy(tiles[rng.integers(0, len(tiles), batch)]).to(device)
        images = chosen.permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1
        with torch.no_grad():
            truth = network(images, [layer])[layer]
        loss = relative_l1(truth, network(autoencoder(images), [layer])[layer]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def steps(device: str, short: bool) -> Found:
    """Milliseconds of each stage's step; the whole published schedule from them."""
    torch.backends.cudnn.benchmark = True
    network, layers = _network(device, fast_precision(device), short)
    trainer = _trainer(network, device, layers)
    batches, times = ((4,), 1) if short else ((32, 128, 512), 20)
    found: Found = {}
    schedule = 0.0
    for batch in batches:
        for kind, side in (("resident", 64), ("crops", 96)):
            tiles = ArrayTiles(made_tiles(64 if short else 2048, side), 64)
            stream = BatchStream(tiles, batch, 0, device)
            for index, stage in enumerate(trainer.stages):
                if kind == "crops" and index != len(trainer.stages) - 1:
                    continue
                trainer.start_stage(index)
                count = iter(range(10**9))

                def work(stream: BatchStream = stream, count: Any = count) -> None:
                    k = next(count)
                    trainer.step((stream.batch(k),), k)

                ms = ms_of(work, device, times)
                figures: Found = {"ms": round(ms, 3)}
                if device.startswith("cuda"):
                    kernels, busy = _busy(work, 10)
                    figures |= {"kernels": round(kernels), "busy": round(busy, 2)}
                found[f"{stage}, batch {batch}, {kind}"] = figures
                if batch == batches[min(1, len(batches) - 1)] and kind == "resident":
                    schedule += ms * stage.steps / 6e4
    middle = batches[min(1, len(batches) - 1)]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    plain = ms_of(_plain_step(device, middle, short), device, times)
    ratio = plain / found[f"{trainer.stages[-1]}, batch {middle}, resident"]["ms"]
    timed = device.startswith("cuda") and not short
    goals = {
        f"times the plain step, batch {middle}": goal(
            round(ratio, 2), "at least 5", reached=ratio >= 5 or not timed
        ),
        "minutes of 88,666 steps": goal(
            round(schedule, 2), "under 6", reached=schedule < 6 or not timed
        ),
    }
    return {"plain_ms": round(plain, 3), "stages": found, "goals": goals}


class _OnePass(GrowthTrainer):
    """Both images go through the feature network together: fewer kernels, more arithmetic."""

    def _at(self, inputs: Tensor, rebuilt: Tensor, resolution: int) -> Tensor:
        layers = self.config.layers[resolution]
        found = self.network(torch.cat([inputs, rebuilt]), list(layers))
        pairs = {name: both.chunk(2) for name, both in found.items()}
        truth, other = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
        return weighted_l1({n: t.detach() for n, t in truth.items()}, other, layers)


def graph(device: str, short: bool) -> Found:
    """A step as a CUDA graph, as it trains: the loss of plain steps, and how much faster.

    Without a card nothing is recorded, and the step that would be is compared.
    """
    network, layers = _network(device, fast_precision(device), short)
    size = 8 if short else 128
    batch = BatchStream(ArrayTiles(made_tiles(64 if short else 256)), size, 0, device).batch(0)

    def ready(recorded: bool, kind: type[GrowthTrainer] = GrowthTrainer) -> Callable[[int], Tensor]:
        growth.can_record = lambda _device: recorded
        trainer = _trainer(network, device, layers, kind)
        trainer.start_stage(len(trainer.stages) - 2)
        return lambda k: trainer.step((batch,), k).loss

    ways = {
        "eager": ready(recorded=False),
        "graphed": ready(recorded=True),
        "graphed, one pass of the feature network": ready(recorded=True, kind=_OnePass),
    }
    count = 6 if short else 20
    losses = {name: [float(step(k)) for k in range(count)] for name, step in ways.items()}
    off = {
        name: float(np.abs(np.array(found) - losses["eager"]).max())
        for name, found in losses.items()
    }
    ms = {
        name: round(ms_of(lambda step=step: step(count), device, 1 if short else 20), 3)
        for name, step in ways.items()
    }
    return {
        "ms": ms,
        "goals": {
            f"{name}: largest difference of the loss": goal(
                f"{value:.1e}", "within 1e-2", reached=value < 1e-2
            )
            for name, value in off.items()
            if name != "eager"
        },
    }


class _Card:
    """Samples how busy the card is, in percent."""

    def __init__(self, device: str) -> None:
        self._on, self.seen = device.startswith("cuda"), list[float]()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while self._on and not self._end.wait(0.2):
            self.seen.append(float(torch.cuda.utilization()))


def scoring(device: str, short: bool) -> Found:
    """Dense scoring of slides with several readers, and by the processors alone."""
    from wsi_anomaly import api

    readers, count, side = ((1, 2), 2, 3_000) if short else ((1, 4, 8, 16), 16, 20_000)
    found: Found = {}
    busy = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "slides").mkdir()
        slides = [huge_slide(folder / "slides" / f"{k}.tif", side) for k in range(count)]
        api.tile([slides[0]], folder / "tiles", workers=1)
        api.train(folder / "tiles", folder / "model", detector="density", device=device)
        ways = [(device, n) for n in readers]
        for where, workers in [*ways, ("cpu", min(readers[-1], os.cpu_count() or 1))]:
            name = f"{where}, {workers} readers"
            with _Card(where) as card:
                start = time.perf_counter()
                out = command(
                    "score", str(folder / "slides"), "--model", str(folder / "model"), "-o",
                    str(folder / name), "--device", where, "--workers", str(workers),
                )  # fmt: skip
                taken = time.perf_counter() - start
            if out.returncode:
                raise RuntimeError(out.stderr.strip().splitlines()[-1])
            busy[workers] = float(np.mean(card.seen)) if card.seen else 0.0
            found[name] = {"slides_per_s": round(count / taken, 3), "busy": round(busy[workers])}
    speeds = [figures["slides_per_s"] for figures in found.values()]
    ratio = max(speeds[:-1]) / speeds[-1]
    timed = device.startswith("cuda") and not short
    goals = {
        "times the processors": goal(round(ratio, 2), "at least 8", reached=ratio >= 8 or not timed)
    }
    if timed:
        goals["busy with 8 readers, %"] = goal(round(busy[8]), "at least 60", reached=busy[8] >= 60)
    return {"readers": found, "goals": goals}


def encoder(device: str, short: bool) -> Found:
    """A ViT-L of random weights: fields a second."""
    name = "timm:vit_tiny_patch16_224" if short else "timm:vit_large_patch16_224"
    network = load_features(name, random_seed=0).to(device).set_precision(fast_precision(device))
    count = 2 if short else 128
    images = torch.rand(count, 3, 224, 224, device=device) * 2 - 1
    layer = network.layers[-1]
    with torch.inference_mode():
        ms = ms_of(lambda: network.activations(images, [layer]), device, 1 if short else 5)
        finite = bool(network.activations(images, [layer])[layer].isfinite().all())
    return {
        "fields_per_s": round(count / ms * 1e3, 1),
        "goals": {"finite": goal(finite, "true", reached=finite)},
    }

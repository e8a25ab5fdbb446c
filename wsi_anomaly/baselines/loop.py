"""A plain training loop for the compared systems: a fixed number of steps, resumable.

Batches and random draws depend on the seed and the step alone, as in
:mod:`wsi_anomaly.autoencoder.loop`: a run that was interrupted ends as one that was not.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from wsi_anomaly.autoencoder.growth import StepResult
from wsi_anomaly.autoencoder.loop import NotFiniteError, Report
from wsi_anomaly.baselines.networks import resized
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.core.tensors import load_optimizer, load_tensors, optimizer_tensors, save_tensors
from wsi_anomaly.detectors.base import Fitting
from wsi_anomaly.learning.batches import BatchStream, Tiles
from wsi_anomaly.learning.distributed import (
    average_gradients,
    mean_over_processes,
    rank_and_world,
)

_CHECKPOINT_EVERY = 500


class Learner(ABC):
    """One method's training step.

    Parameters
    ----------
    modules : dict of str to nn.Module
        Everything that learns, buffers included: a checkpoint holds it.
    device : torch.device
        Where the modules are moved.

    Attributes
    ----------
    optimizers : dict of str to Optimizer
        To be filled by the method.
    """

    batches_per_step = 1

    def __init__(self, modules: dict[str, nn.Module], device: torch.device) -> None:
        self.modules = modules
        self.device = device
        for module in modules.values():
            module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            module.train()
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    @abstractmethod
    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Update the networks once, with :attr:`batches_per_step` batches of images in [-1, 1]."""

    def stage(self, step: int) -> str:
        """Say what `step` (from 0) is part of."""
        return "training"

    def descend(self, loss: Tensor, *names: str) -> None:
        """Go one step of the named optimisers down the loss's gradient."""
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for name in names:
            self.apply(name)

    def apply(self, name: str) -> None:
        """Go one step of an optimiser along the gradients that its parameters hold."""
        average_gradients(self.optimizers[name])
        self.optimizers[name].step()


class _Run:
    """A training between its first step and its last, and its file."""

    def __init__(
        self, learner: Learner, settings: NetworkSettings, fitting: Fitting, name: str
    ) -> None:
        self.learner, self.settings = learner, settings
        self.done = 0
        self.log: list[dict[str, Any]] = []
        folder = fitting.checkpoint
        self._path = None if folder is None else folder / f"{name}.safetensors"
        identity = {"name": name, "config": settings.to_dict(), **dict(fitting.identity or {})}
        self._identity = config_hash(identity)
        if self._path is not None and self._path.exists():
            self._resume()

    def checkpoint(self) -> None:
        """Write the checkpoint, if one is wanted; only the first process does."""
        if self._path is None or rank_and_world()[0]:
            return
        tensors: dict[str, Tensor] = {}
        for part, module in self.learner.modules.items():
            tensors |= {f"{part}.{name}": t for name, t in module.state_dict().items()}
        for part, optimizer in self.learner.optimizers.items():
            tensors |= {f"{part}/{name}": t for name, t in optimizer_tensors(optimizer).items()}
        state = {"done": self.done, "log": self.log, "identity": self._identity}
        save_tensors(self._path, tensors, state)

    def _resume(self) -> None:
        assert self._path is not None
        tensors, state = load_tensors(self._path)
        if state["identity"] != self._identity:
            raise ModelError(
                f"{self._path.parent} holds an unfinished training of another configuration or of "
                "other tiles; finish that one, or start anew with --overwrite."
            )
        self.done, self.log = int(state["done"]), state["log"]
        for part, module in self.learner.modules.items():
            module.load_state_dict(_below(tensors, f"{part}."))
        for part, optimizer in self.learner.optimizers.items():
            load_optimizer(optimizer, _below(tensors, f"{part}/"))

    def mean(self, losses: list[Tensor], name: str) -> float:
        """Mean of the losses since the last line of the log; a loss that is no number ends it."""
        values = mean_over_processes(torch.stack(losses))
        parameters = (p for m in self.learner.modules.values() for p in m.parameters())
        if not torch.isfinite(values).all() or not all(p.isfinite().all() for p in parameters):
            raise NotFiniteError(
                f"The loss of {name} is no number any more, by step {self.done}; lower its "
                "learning_rate in the configuration and train anew with --overwrite."
            )
        return float(values.mean())


def train(
    learner: Learner, tiles: Tiles, settings: NetworkSettings, fitting: Fitting, name: str
) -> list[dict[str, Any]]:
    """Take a learner through all its steps.

    Parameters
    ----------
    learner
        Its modules hold the result.
    tiles
        Normal tiles, of any side.
    settings
        Steps, batch size, seed.
    fitting
        Device, checkpoints, progress.
    name
        Of the method, for the checkpoint's file and in messages.

    Returns
    -------
    The log, one entry a report.

    Raises
    ------
    NotFiniteError
        The loss became NaN.
    ModelError
        The checkpoint is damaged or belongs to another configuration; memory is short.
    """
    run = _Run(learner, settings, fitting, name)
    try:
        _steps(run, tiles, fitting, name)
    except KeyboardInterrupt:
        run.checkpoint()
        raise
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"There is not enough memory on {fitting.device} for batches of "
            f"{settings.batch_size} tiles; lower batch_size in the options of {name}."
        ) from error
    return run.log


def _steps(run: _Run, tiles: Tiles, fitting: Fitting, name: str) -> None:
    learner, settings = run.learner, run.settings
    rank, world = rank_and_world()
    stream = BatchStream(
        tiles, settings.batch_size, settings.seed, fitting.device, rank=rank, world=world,
        flips=settings.flips,
    )  # fmt: skip
    per, total = learner.batches_per_step, settings.total_steps
    images = stream.stream(run.done * per, (total - run.done) * per)
    losses: list[Tensor] = []
    critics: list[Tensor] = []
    since = time.perf_counter()
    for step in range(run.done, total):
        batches = tuple(resized(next(images), settings.resolution) for _ in range(per))
        torch.manual_seed((settings.seed * 1_000_003 + step) * world + rank)
        result = learner.step(batches, step)
        losses.append(result.loss)
        if result.critic_loss is not None:
            critics.append(result.critic_loss)
        run.done = step + 1
        last, saves = run.done == total, run.done % _CHECKPOINT_EVERY == 0
        if run.done % settings.report_every == 0 or last or saves:
            loss = run.mean(losses, name)
            speed = len(losses) * settings.batch_size * per / (time.perf_counter() - since)
            critic = float(torch.stack(critics).mean()) if critics else None
            report = Report(
                run.done, total, f"{name}: {learner.stage(step)}", 1.0, loss, None, critic, speed
            )
            kept = asdict(report)
            del kept["tiles_per_second"], kept["steps"]
            run.log.append(kept)
            losses, critics, since = [], [], time.perf_counter()
            if fitting.progress is not None:
                fitting.progress(report)
        if saves or last:
            run.checkpoint()


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

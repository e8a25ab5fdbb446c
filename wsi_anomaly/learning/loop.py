"""The training loop: batches in, checkpoints, early stopping, what a person watches.

Batches and random draws depend on the seed and the step alone: a run that was interrupted ends as
one that was not. Early stopping follows the paper's configurations: in the last stage the loss of
validation tiles is measured every `validate_every` steps, training ends when more than `patience`
measurements in a row bring no improvement of at least `min_delta`, and the best network is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wsi_anomaly.core.devices import memory_explained
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.core.heap import freed_memory_kept
from wsi_anomaly.core.prefixes import below, prefixed
from wsi_anomaly.core.tensors import load_optimizer, load_tensors, optimizer_tensors, save_tensors
from wsi_anomaly.learning.batches import BatchStream
from wsi_anomaly.learning.distributed import mean_over_processes, rank_and_world

_VALIDATION_BATCH = 128


@dataclass(frozen=True)
class LoopConfig:
    """When to look, to save and to stop; counts are optimiser steps.

    Attributes
    ----------
    report_every
        A line of the log, and a look whether the loss is still finite.
    checkpoint_every
        A checkpoint.
    validate_every, patience, min_delta
        Early stopping in the last stage; see the module's docstring.
    """

    report_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 1000
    patience: int = 3
    min_delta: float = 1e-3


@dataclass(frozen=True)
class Report:
    """One line of the log.

    Attributes
    ----------
    step, steps
        Steps done over all stages, and planned.
    stage, alpha
        The stage in words, and the share of the new path in its last step.
    loss, validation
        Mean training loss since the last line; loss of the validation tiles, when measured.
    critic
        Loss of the critic, when there is one.
    tiles_per_second
        Of all processes together.
    """

    step: int
    steps: int
    stage: str
    alpha: float
    loss: float
    validation: float | None
    critic: float | None
    tiles_per_second: float


class NotFiniteError(ModelError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class StepResult:
    """What one step found: its loss and, with a critic, the critic's."""

    loss: Tensor
    critic_loss: Tensor | None = None


class Learner(Protocol):
    """What the loop takes from its first step to its last."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything that learns, by name, buffers included: a checkpoint holds it."""

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Those of the current stage, by name."""

    @property
    def batches_per_step(self) -> int:
        """How many batches :meth:`step` takes."""

    @property
    def draws(self) -> bool:
        """Whether :meth:`step` draws random numbers."""

    def start_stage(self, index: int) -> None:
        """Enter a stage."""

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Learn once, from batches (N, C, S, S) in [-1, 1], in a step of the stage, from 0."""

    def describe(self, step: int) -> tuple[str, float]:
        """Say what a step of the stage, from 0, is part of, and its alpha."""


@dataclass(frozen=True)
class Validation:
    """What says when training has nothing more to gain.

    Attributes
    ----------
    images : Tensor (N, C, S, S)
        In [-1, 1], of cases that are not trained on.
    loss : callable
        Images to their losses (N,), without learning.
    network : nn.Module
        Kept as it was when it was best.
    """

    images: Tensor
    loss: Callable[[Tensor], Tensor]
    network: nn.Module


@dataclass
class _State:
    """Where the loop stands; everything that a checkpoint holds beside tensors."""

    stage: int = 0
    step: int = 0
    done: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    best: float = math.inf
    waited: int = 0
    finished: bool = False


class TrainingLoop:
    """Takes a :class:`Learner` from its first step to its last.

    Parameters
    ----------
    learner : Learner
        Its modules hold the result.
    batches : BatchStream
    stages : sequence of int
        Steps of each stage.
    config : LoopConfig
    validation : Validation, optional
        Without it nothing stops early.
    checkpoint : Path, optional
        File to resume from and to save to.
    identity : dict, optional
        What the run is made of; a checkpoint of another one is refused.
    progress : callable, optional
        Called with each :class:`Report`.

    Raises
    ------
    ModelError
        The checkpoint is damaged or belongs to another configuration.
    """

    def __init__(
        self,
        learner: Learner,
        batches: BatchStream,
        stages: Sequence[int],
        config: LoopConfig | None = None,
        *,
        validation: Validation | None = None,
        checkpoint: Path | None = None,
        identity: dict[str, Any] | None = None,
        progress: Callable[[Report], None] | None = None,
    ) -> None:
        self.learner, self.batches, self.stages = learner, batches, stages
        self.validation = validation
        self.config = config or LoopConfig()
        self._checkpoint = checkpoint
        self._identity = config_hash(identity or {})
        self._progress = progress or (lambda _report: None)
        self._best: dict[str, Tensor] = {}
        self._state = _State()
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    @property
    def log(self) -> list[dict[str, Any]]:
        """All reports so far, those before a resume included."""
        return self._state.log

    def run(self) -> list[dict[str, Any]]:
        """Train to the end; return the log.

        An interrupted run can be resumed from the very step.

        Raises
        ------
        NotFiniteError
            The loss became NaN; the networks hold their last good state.
        MemoryShortError
            Memory is short.
        """
        remedy = f"lower batch_size in the configuration (it is {self.batches.batch_size})"
        if self.batches.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # the shapes of a stage stay: it searches once
        try:
            with memory_explained(self.batches.device, remedy), freed_memory_kept():
                self._run()
        except KeyboardInterrupt:
            self.save()
            raise
        return self._state.log

    def _run(self) -> None:
        state = self._state
        while not state.finished:
            self._run_stage()
            if self._is_last or state.finished:
                state.finished = True
            else:
                state.stage, state.step = state.stage + 1, 0
                self.learner.start_stage(state.stage)
            self.save()
        self._take_best()

    @property
    def _is_last(self) -> bool:
        return self._state.stage == len(self.stages) - 1

    def _take_best(self) -> None:
        if self._best and self.validation is not None:
            self.validation.network.load_state_dict(self._best)

    def save(self) -> None:
        """Write the checkpoint, if one is wanted; only the first process does."""
        if self._checkpoint is None or rank_and_world()[0]:
            return
        tensors = prefixed("best.", self._best)
        for part, module in self.learner.modules.items():
            tensors |= prefixed(f"{part}.", module.state_dict())
        for part, optimizer in self.learner.optimizers.items():
            tensors |= prefixed(f"{part}/", optimizer_tensors(optimizer))
        state = asdict(self._state) | {"identity": self._identity}
        if math.isinf(self._state.best):
            state["best"] = None
        save_tensors(self._checkpoint, tensors, state)

    def _resume(self, path: Path) -> None:
        tensors, state = load_tensors(path)
        if state.pop("identity", None) != self._identity:
            raise ModelError(
                f"{path.parent} holds an unfinished training of another configuration or of other "
                "tiles; finish that one, or start anew with --overwrite."
            )
        # Trainings of one stage wrote "done" and the log alone once (0.1.0).
        state.setdefault("step", state["done"])
        best = state.pop("best", None)
        order = [entry.name for entry in fields(Report)]  # JSON has sorted them
        state["log"] = [{n: line[n] for n in order if n in line} for line in state["log"]]
        self._state = _State(**state, best=math.inf if best is None else best)
        self.learner.start_stage(self._state.stage)
        for part, module in self.learner.modules.items():
            module.load_state_dict(below(f"{part}.", tensors))
        for part, optimizer in self.learner.optimizers.items():
            load_optimizer(optimizer, below(f"{part}/", tensors))
        self._best = below("best.", tensors)

    def _run_stage(self) -> None:
        learner, state, config = self.learner, self._state, self.config
        steps, per_step = self.stages[state.stage], learner.batches_per_step
        left = steps - state.step
        images = self.batches.stream(state.done * per_step, left * per_step)
        losses: list[Tensor] = []
        critics: list[Tensor] = []
        since = time.perf_counter()
        for _ in range(left):
            batch = tuple(next(images) for _ in range(per_step))
            if learner.draws:
                rank, world = rank_and_world()
                seed = self.batches.seed * 1_000_003 + state.done
                torch.manual_seed(seed * world + rank)
            result = learner.step(batch, state.step)
            losses.append(result.loss)
            if result.critic_loss is not None:
                critics.append(result.critic_loss)
            state.step += 1
            state.done += 1
            last = state.step == steps
            looks = self._is_last and (state.step % config.validate_every == 0 or last)
            saves = state.done % config.checkpoint_every == 0
            if state.done % config.report_every == 0 or looks or last or saves:
                loss = self._mean(losses)
                seconds = max(time.perf_counter() - since, 1e-9)
                validation = self._validate() if looks else None
                self._report(loss, critics, validation, len(losses) / seconds)
                losses, critics, since = [], [], time.perf_counter()
                if validation is not None and self._settled(validation):
                    state.finished = True
                    return
            if saves:
                self.save()

    def _mean(self, losses: list[Tensor]) -> float:
        values = mean_over_processes(torch.stack(losses))
        bad = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        parameters = (p for m in self.learner.modules.values() for p in m.parameters())
        if bad or not all(p.isfinite().all() for p in parameters):
            step = self._state.done - len(losses) + (bad[0] if bad else len(losses) - 1) + 1
            where, _ = self.learner.describe(self._state.step - 1)
            self._restore_last_good()
            raise NotFiniteError(
                f"The loss is no number any more at step {step} ({where}); the last good state is "
                "kept: lower learning_rate in the configuration and train anew with --overwrite."
            )
        return float(values.mean())

    def _restore_last_good(self) -> None:
        if self._checkpoint is not None and self._checkpoint.exists():
            self._resume(self._checkpoint)
        else:
            self._take_best()

    def _report(
        self, loss: float, critics: list[Tensor], validation: float | None, steps_per_second: float
    ) -> None:
        state = self._state
        stage, alpha = self.learner.describe(state.step - 1)
        critic = float(torch.stack(critics).mean()) if critics else None
        per_step = self.batches.batch_size * self.learner.batches_per_step
        report = Report(
            state.done, sum(self.stages), stage, alpha, loss, validation, critic,
            steps_per_second * per_step,
        )  # fmt: skip
        kept = asdict(report)
        # Speed is for the person who watches: in the log it would differ between equal runs.
        del kept["tiles_per_second"], kept["steps"]
        state.log.append(kept)
        self._progress(report)

    def _validate(self) -> float | None:
        if self.validation is None:
            return None
        parts = torch.split(self.validation.images, _VALIDATION_BATCH)
        loss = torch.cat([self.validation.loss(part) for part in parts]).mean()
        # One number for all processes: rounding would let some stop and others wait for them.
        return float(mean_over_processes(loss))

    def _settled(self, validation: float) -> bool:
        """Note a validation loss; whether training has nothing more to gain."""
        assert self.validation is not None
        state = self._state
        if validation < state.best - self.config.min_delta:
            state.best, state.waited = validation, 0
            own = self.validation.network.state_dict()
            self._best = {name: t.detach().clone() for name, t in own.items()}
        else:
            state.waited += 1
        return state.waited > self.config.patience

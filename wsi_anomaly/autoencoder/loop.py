"""The training loop: batches in, checkpoints, early stopping, what a person watches.

Early stopping follows the paper's configurations: in the last stage the loss of validation tiles
is measured every `validate_every` steps, training ends when more than `patience` measurements in a
row bring no improvement of at least `min_delta`, and the best network is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_anomaly.autoencoder.growth import GrowthTrainer
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.files import config_hash
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
    """Takes a :class:`GrowthTrainer` from its first step to its last.

    Parameters
    ----------
    trainer : GrowthTrainer
    batches : BatchStream
    validation : Tensor (N, 3, S, S), optional
        Images in [-1, 1] of cases that are not trained on; without them nothing stops early.
    config : LoopConfig
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
        trainer: GrowthTrainer,
        batches: BatchStream,
        validation: Tensor | None = None,
        config: LoopConfig | None = None,
        *,
        checkpoint: Path | None = None,
        identity: dict[str, Any] | None = None,
        progress: Callable[[Report], None] | None = None,
    ) -> None:
        self.trainer, self.batches, self.validation = trainer, batches, validation
        self.config = config or LoopConfig()
        self._checkpoint = checkpoint
        self._identity = config_hash(identity or {})
        self._progress = progress or (lambda _report: None)
        self._best: dict[str, Tensor] = {}
        self._state = _State()
        self._total = sum(stage.steps for stage in trainer.stages)
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    @property
    def log(self) -> list[dict[str, Any]]:
        """All reports so far, those before a resume included."""
        return self._state.log

    def run(self) -> list[dict[str, Any]]:
        """Train to the end; return the log.

        Raises
        ------
        NotFiniteError
            The loss became NaN; the autoencoder holds its last good state.
        """
        state = self._state
        while not state.finished:
            self._run_stage()
            if self.trainer.is_last or state.finished:
                state.finished = True
            else:
                state.stage, state.step = state.stage + 1, 0
                self.trainer.start_stage(state.stage)
            self.save()
        if self._best:
            self.trainer.autoencoder.load_state_dict(self._best)
        return state.log

    def save(self) -> None:
        """Write the checkpoint, if one is wanted; only the first process does."""
        if self._checkpoint is None or rank_and_world()[0]:
            return
        tensors = {f"best.{name}": t for name, t in self._best.items()}
        for part, module in self.trainer.modules().items():
            tensors |= {f"{part}.{name}": t for name, t in module.state_dict().items()}
        for part, optimizer in self.trainer.optimizers().items():
            tensors |= {f"{part}/{name}": t for name, t in optimizer_tensors(optimizer).items()}
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
        best = state.pop("best")
        order = [entry.name for entry in fields(Report)]  # JSON has sorted them
        state["log"] = [{n: line[n] for n in order if n in line} for line in state["log"]]
        self._state = _State(**state, best=math.inf if best is None else best)
        self.trainer.start_stage(self._state.stage)
        for part, module in self.trainer.modules().items():
            module.load_state_dict(_below(tensors, f"{part}."))
        for part, optimizer in self.trainer.optimizers().items():
            load_optimizer(optimizer, _below(tensors, f"{part}/"))
        self._best = _below(tensors, "best.")

    def _run_stage(self) -> None:
        trainer, state, config = self.trainer, self._state, self.config
        stage, per_step = trainer.stage, trainer.batches_per_step
        left = stage.steps - state.step
        images = self.batches.stream(state.done * per_step, left * per_step)
        losses: list[Tensor] = []
        critics: list[Tensor] = []
        since = time.perf_counter()
        for _ in range(left):
            batch = tuple(next(images) for _ in range(per_step))
            if trainer.adversary is not None:
                # The only random draws outside the batches: the critic's mixtures.
                torch.manual_seed(self.batches.seed * 1_000_003 + state.done)
            result = trainer.step(batch, state.step)
            losses.append(result.loss)
            if result.critic_loss is not None:
                critics.append(result.critic_loss)
            state.step += 1
            state.done += 1
            last = state.step == stage.steps
            looks = trainer.is_last and (state.step % config.validate_every == 0 or last)
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
        if bad or not all(p.isfinite().all() for p in self.trainer.autoencoder.parameters()):
            step = self._state.done - len(losses) + (bad[0] if bad else len(losses) - 1) + 1
            where = str(self.trainer.stage)
            self._restore_last_good()
            raise NotFiniteError(
                f"The loss is no number any more at step {step} ({where}); the last good state is "
                "kept: lower learning_rate in the configuration and train anew with --overwrite."
            )
        return float(values.mean())

    def _restore_last_good(self) -> None:
        if self._checkpoint is not None and self._checkpoint.exists():
            self._resume(self._checkpoint)
        elif self._best:
            self.trainer.autoencoder.load_state_dict(self._best)

    def _report(
        self, loss: float, critics: list[Tensor], validation: float | None, steps_per_second: float
    ) -> None:
        state, stage = self._state, self.trainer.stage
        critic = float(torch.stack(critics).mean()) if critics else None
        per_step = self.batches.batch_size * self.trainer.batches_per_step
        report = Report(
            state.done, self._total, str(stage), stage.alpha(state.step - 1), loss, validation,
            critic, steps_per_second * per_step,
        )  # fmt: skip
        kept = asdict(report)
        # Speed is for the person who watches: in the log it would differ between equal runs.
        del kept["tiles_per_second"], kept["steps"]
        state.log.append(kept)
        self._progress(report)

    def _validate(self) -> float | None:
        if self.validation is None or not len(self.validation):
            return None
        parts = torch.split(self.validation, _VALIDATION_BATCH)
        return float(torch.cat([self.trainer.evaluate(part) for part in parts]).mean())

    def _settled(self, validation: float) -> bool:
        """Note a validation loss; whether training has nothing more to gain."""
        state = self._state
        if validation < state.best - self.config.min_delta:
            state.best, state.waited = validation, 0
            own = self.trainer.autoencoder.state_dict()
            self._best = {name: t.detach().clone() for name, t in own.items()}
        else:
            state.waited += 1
        return state.waited > self.config.patience


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

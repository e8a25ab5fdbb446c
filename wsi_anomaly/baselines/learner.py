"""One step of training of a compared system."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from wsi_anomaly.baselines.networks import resized
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.learning.batches import BatchStream, Tiles
from wsi_anomaly.learning.distributed import average_gradients, rank_and_world
from wsi_anomaly.learning.loop import StepResult


class Learner(ABC):
    """One method's training step; see :class:`wsi_anomaly.learning.loop.Learner`.

    Parameters
    ----------
    modules : dict of str to nn.Module
        Everything that learns, buffers included: a checkpoint holds it.
    device : torch.device
        Where the modules are moved.

    Attributes
    ----------
    name : str
        Of the method.
    optimizers : dict of str to Optimizer
        To be filled by the method.
    """

    name = ""
    batches_per_step = 1
    draws = True

    def __init__(self, modules: dict[str, nn.Module], device: torch.device) -> None:
        self.modules = modules
        self.device = device
        for module in modules.values():
            module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            module.train()
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    @abstractmethod
    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Update the networks once, by :attr:`batches_per_step` images (N, C, S, S) in [-1, 1]."""

    def start_stage(self, index: int) -> None:  # noqa: B027
        """There is one stage."""

    def stage(self, step: int) -> str:
        """Say what `step` (from 0) is part of."""
        return "training"

    def describe(self, step: int) -> tuple[str, float]:
        """Say the method and what `step` is part of; nothing grows."""
        return f"{self.name}: {self.stage(step)}", 1.0

    def descend(self, loss: Tensor, *names: str) -> None:
        """Go one step of the named optimisers down the gradient of a loss, ()."""
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for name in names:
            self.apply(name)

    def apply(self, name: str) -> None:
        """Go one step of an optimiser along the gradients that its parameters hold."""
        average_gradients(self.optimizers[name])
        self.optimizers[name].step()


class ResizedBatches(BatchStream):
    """Batches of images at the side that the networks see."""

    def __init__(self, tiles: Tiles, settings: NetworkSettings, device: torch.device) -> None:
        rank, world = rank_and_world()
        self._resolution = settings.resolution
        super().__init__(
            tiles, settings.batch_size, settings.seed, device, rank=rank, world=world,
            flips=settings.flips,
        )  # fmt: skip

    def batch(self, k: int) -> Tensor:
        """Images of batch k, (n, C, S, S) with S = `resolution`."""
        return resized(super().batch(k), self._resolution)

"""What the compared systems that train networks of their own have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors.settings import Settings


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Configuration of a compared system that trains networks of its own.

    Attributes
    ----------
    resolution
        Side of the images that the networks see, px, a power of two from 8; tiles of another size
        are resized to it.
    width
        Channels of the first layer, or the factor that widens all.
    steps
        Length of the training, in optimiser steps.
    batch_size
        Images in a step.
    learning_rate
        Of the optimiser.
    flips
        Whether images are flipped at random. The papers do not, tissue allows it.
    report_every
        Steps between two lines of the log.
    """

    resolution: int = 32
    width: int = 32
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 2e-4
    flips: bool = False
    report_every: int = 50

    may_flip: ClassVar[bool] = True

    def __post_init__(self) -> None:
        side = self.resolution
        if side < 8 or side & (side - 1):
            raise UsageError(f"resolution is a power of two from 8, not {side}.")
        self._positive("width", "steps", "batch_size", "learning_rate", "report_every")

    @property
    def total_steps(self) -> int:
        """Steps of all parts of the training."""
        return self.steps

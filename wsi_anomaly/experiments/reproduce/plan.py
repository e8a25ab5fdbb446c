"""How the published experiments are run here: network, sizes, lengths, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors.compared import COMPARED


@dataclass(frozen=True)
class Plan:
    """How the published experiments are run here.

    Attributes
    ----------
    features, weights
        Perceptual network, and the file of its weights.
    size
        Side of the images, px; None: as published.
    steps
        Length of every training; None: the published one times `fraction`.
    batch_size
        None: as published.
    learn, judge
        At most so many normal images to learn from; at most so many normal and as many abnormal
        ones to judge. None: all.
    device
        Where it runs.
    options
        ``ROW.NAME`` to a value, for settings of a compared system other than its defaults.
    """

    features: str = "vgg19"
    weights: Path | None = None
    size: int | None = None
    steps: int | None = None
    fraction: float = 1.0
    batch_size: int | None = None
    learn: int | None = None
    judge: int | None = None
    device: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size is not None and (self.size < 8 or self.size & (self.size - 1)):
            raise UsageError(f"--size is a power of two from 8, not {self.size}.")
        if self.weights is not None and not self.weights.is_file():
            raise UsageError(f"There are no weights in {self.weights}; check --feature-weights.")
        if not 0 < self.fraction <= 1:
            raise UsageError("--fraction is above 0 and at most 1, the published length.")
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is at least 1.")
        for option in self.options:
            if option.partition(".")[0] not in COMPARED or "." not in option:
                raise UsageError(
                    f"--option {option} names no compared system; give ROW.NAME=VALUE with a row "
                    f"of {', '.join(COMPARED)}."
                )
        for name in ("learn", "judge"):
            value = getattr(self, name)
            if value is not None and value < 10:
                raise UsageError(f"--{name} is at least 10 images.")

    def scaled(self, published: int) -> int:
        """Length of a training that took `published` steps."""
        return self.steps or max(1, round(self.fraction * published))

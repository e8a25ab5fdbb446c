"""How the published experiments are run here: network, sizes, lengths, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsi_anomaly.baselines import BASELINES
from wsi_anomaly.core.errors import UsageError

ASIDE = 0.1
"""Share of the normal images that is set aside where nothing else is asked for."""

PRECISIONS = ("float32", "bfloat16")


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
    aside
        Share of the normal images that is set aside to weigh the fusion; 0: none.
    device
        Where it runs.
    options
        ``ROW.NAME`` to a value, for settings of a detector other than its defaults.
    precision
        Number format of the perceptual network: "float32", as published, or "bfloat16", which runs
        where the processor multiplies it and the network allows it.
    """

    features: str = "vgg19"
    weights: Path | None = None
    size: int | None = None
    steps: int | None = None
    fraction: float = 1.0
    batch_size: int | None = None
    learn: int | None = None
    judge: int | None = None
    aside: float = ASIDE
    device: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)
    precision: str = PRECISIONS[0]

    def __post_init__(self) -> None:
        if self.size is not None and (self.size < 8 or self.size & (self.size - 1)):
            raise UsageError(f"--size is a power of two from 8, not {self.size}.")
        if self.weights is not None and not self.weights.is_file():
            raise UsageError(f"There are no weights in {self.weights}; check --feature-weights.")
        if not 0 < self.fraction <= 1:
            raise UsageError("--fraction is above 0 and at most 1, the published length.")
        for name, least in (
            ("steps", "1"), ("batch_size", "1"), ("learn", "10 images"), ("judge", "10 images"),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < int(least.split()[0]):
                raise UsageError(f"--{name.replace('_', '-')} is at least {least}.")
        if not 0 <= self.aside <= 0.5:
            raise UsageError("--aside is at least 0 and at most 0.5, half of the normal images.")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is {' or '.join(PRECISIONS)}, not {self.precision}.")
        detectors = ("dpa", "density", *BASELINES)
        for option in self.options:
            if option.partition(".")[0] not in detectors or "." not in option:
                raise UsageError(
                    f"--option {option} names no detector; give ROW.NAME=VALUE with a row of "
                    f"{', '.join(detectors)}."
                )

    def scaled(self, published: int) -> int:
        """Length of a training that took `published` steps."""
        return self.steps or max(1, round(self.fraction * published))

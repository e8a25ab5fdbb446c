"""``deep-geo``: which of 72 ways was this image turned? Anomalies leave a classifier unsure.

Golan and El-Yaniv, "Deep Anomaly Detection Using Geometric Transformations", NeurIPS 2018. A wide
residual network (Zagoruyko and Komodakis 2016) learns to tell 72 transforms of normal images
apart: 2 flips x 3 x 3 shifts x 4 quarter turns. For each transform a Dirichlet distribution is
fitted to its answers on normal images; a new image is as normal as its 72 answers are likely.

Tissue looks alike from all sides, so that nothing but the shifts can be told: the paper of ``dpa``
finds it at chance there (52.4), and among the best on photographs (86.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.baselines.base import NetworkDetector
from wsi_anomaly.baselines.dirichlet import fit_dirichlet
from wsi_anomaly.baselines.learner import Learner
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors.base import DETECTORS, batches, sample_images
from wsi_anomaly.learning.batches import Tiles, to_images
from wsi_anomaly.learning.loop import StepResult

TRANSFORMS = 72

_CELL = 8
_LEAST_P = 1e-6  # added to a probability of which the logarithm is taken for a score


@dataclass(frozen=True, kw_only=True)
class DeepGeoConfig(NetworkSettings):
    """Everything that decides what ``deep-geo`` learns; the defaults are the authors' for 32 px.

    Attributes
    ----------
    depth
        Layers of the wide residual network: 10, 16, 22, ...; 16 in the paper for 64 px.
    width
        Factor that widens all its layers; 8 in the paper for 64 px.
    steps
        As many as three passes over all transforms of 5,000 images.
    weight_decay
        Times the squares of all weights, added to the loss.
    dirichlet_tiles
        At most so many tiles for the Dirichlet distributions, 72 answers for each.
    image_channels
        3; or 1 where images are grey, of whose three equal channels the first is seen.
    """

    depth: int = 10
    width: int = 4
    steps: int = 8439
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 2.5e-4
    dirichlet_tiles: int = 5000
    image_channels: int = 3

    may_flip: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("dirichlet_tiles")
        if self.image_channels not in (1, 3):
            raise UsageError(f"image_channels is 1 or 3, not {self.image_channels}.")
        if self.weight_decay < 0:
            raise UsageError(f"weight_decay is not negative, not {self.weight_decay}.")
        if self.depth < 10 or (self.depth - 4) % 6:
            raise UsageError(f"depth is 10, 16, 22, ..., not {self.depth}.")
        if self.flips:
            raise UsageError("deep-geo learns to see flips, and can't be trained with flips on.")


def transform_table(size: int) -> Tensor:
    """Where each pixel of a transformed image comes from.

    Flip left to right, then a shift by a quarter of the side with reflected borders, then quarter
    turns: 8 px at 32 px, as published.

    Returns
    -------
    Tensor (72, size * size)
        Positions in the flat original.
    """
    pixels = torch.arange(size * size).view(size, size)
    place, shift = torch.arange(size), size // 4
    found = []
    for flip in (False, True):
        flipped = pixels.flip(1) if flip else pixels
        for dx in (0, -shift, shift):
            for dy in (0, -shift, shift):
                rows, columns = (_reflected(place - d, size) for d in (dy, dx))
                shifted = flipped[rows][:, columns]
                found += [torch.rot90(shifted, turns).flatten() for turns in range(4)]
    return torch.stack(found)


def _reflected(place: Tensor, size: int) -> Tensor:
    """Positions beyond the border, mirrored at it: ... 1 0 | 0 1 2 ..."""
    place = torch.where(place < 0, -1 - place, place)
    return torch.where(place >= size, 2 * size - 1 - place, place)


class _Unit(nn.Module):
    """Batch normalisation, ReLU and 3x3 convolution, twice, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.branch = nn.Sequential(
            # TensorFlow's: a stride of two begins at the first pixel.
            nn.ZeroPad2d(1 if stride == 1 else (0, 1, 0, 1)),
            nn.Conv2d(inputs, outputs, 3, stride, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h / stride, w / stride)."""
        y = self.enter(x)
        through = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(y)
        out: Tensor = through + self.branch(y)
        return out


class WideResNet(nn.Sequential):
    """WRN-depth-width; images of `resolution` px to `classes` logits.

    The last map is averaged over cells of 8 x 8 positions: one cell at 32 px, 2 x 2 at 64 px.
    """

    def __init__(
        self, depth: int, width: int, classes: int, resolution: int, channels: int = 3
    ) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False)]
        inputs = 16
        for group, outputs in enumerate((16 * width, 32 * width, 64 * width)):
            for unit in range((depth - 4) // 6):
                layers.append(_Unit(inputs, outputs, 2 if group and not unit else 1))
                inputs = outputs
        last = resolution // 4
        cell = min(_CELL, last)
        head = nn.Linear(inputs * (last // cell) ** 2, classes)
        nn.init.zeros_(head.bias)
        super().__init__(
            *layers, nn.BatchNorm2d(inputs), nn.ReLU(), nn.AvgPool2d(cell), nn.Flatten(), head
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self._channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, R, R), of which the first channels are seen, to (N, classes)."""
        x = images[:, : self._channels]
        for layer in self:
            x = layer(x)
        return x


class _Answers(nn.Module):
    """Parameters (72, 72) of the Dirichlet distribution of each transform's answers."""

    alpha: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.ones(TRANSFORMS, TRANSFORMS))


class _Learner(Learner):
    def __init__(self, classifier: nn.Module, config: DeepGeoConfig, device: torch.device) -> None:
        super().__init__({"classifier": classifier}, device)
        self._classifier, self._table = classifier, transform_table(config.resolution).to(device)
        self.optimizers["classifier"] = torch.optim.Adam(
            classifier.parameters(),
            lr=config.learning_rate,
            eps=1e-7,  # Keras's
            weight_decay=2 * config.weight_decay,
        )

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Transform each image in a random way, and ask which it was."""
        (images,) = batches
        chosen = torch.randint(TRANSFORMS, (len(images),), device=images.device)
        loss = F.cross_entropy(self._classifier(transformed(images, self._table[chosen])), chosen)
        self.descend(loss, "classifier")
        return StepResult(loss.detach())


def transformed(images: Tensor, places: Tensor) -> Tensor:
    """Images (N, C, S, S) with pixels taken from `places`, (N, S * S) or (S * S)."""
    flat = images.flatten(2)
    index = places[:, None].expand(-1, flat.shape[1], -1) if places.ndim == 2 else None
    moved = flat[:, :, places] if index is None else flat.gather(2, index)
    return moved.view(images.shape).contiguous(memory_format=torch.channels_last)


@DETECTORS.register("deep-geo")
class DeepGeo(NetworkDetector):
    """Deep anomaly detection with geometric transformations.

    Attributes
    ----------
    networks_ : nn.ModuleDict
        ``classifier``, and the Dirichlet distributions of its ``answers``.
    """

    config_type = DeepGeoConfig
    config: DeepGeoConfig

    def build(self) -> nn.ModuleDict:
        """Make the classifier, and room for the distributions."""
        c = self.config
        classifier = WideResNet(c.depth, c.width, TRANSFORMS, c.resolution, c.image_channels)
        return nn.ModuleDict({"classifier": classifier, "answers": _Answers()})

    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains the classifier."""
        return _Learner(networks["classifier"], self.config, device)

    @torch.no_grad()
    def finish(self, tiles: Tiles, device: torch.device) -> None:
        """Fit the Dirichlet distributions to answers on normal tiles."""
        self.networks_.to(device)
        images = sample_images(tiles, self.config.dirichlet_tiles, self.config.seed)
        total = torch.zeros(2, TRANSFORMS, TRANSFORMS, dtype=torch.float64, device=device)
        for batch in batches(images):
            for k, log_p in enumerate(self._answers(to_images(batch, device))):
                total[0, k] += log_p.double().sum(0)
                total[1, k] += log_p.double().exp().sum(0)
        mean_log, mean = total / len(images)
        self._alpha().copy_(fit_dirichlet(mean_log, mean))

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Return minus the mean log-likelihood (N,) of the 72 answers, up to a constant."""
        alpha = self._alpha()
        logs = [(log_p.exp() + _LEAST_P).log() for log_p in self._answers(images)]
        found = [(log_p * (alpha[k] - 1)).sum(1) for k, log_p in enumerate(logs)]
        return -torch.stack(found).mean(0)

    def _alpha(self) -> Tensor:
        answers = self.networks_["answers"]
        assert isinstance(answers, _Answers)
        return answers.alpha

    def _answers(self, images: Tensor) -> list[Tensor]:
        """Log-probabilities (N, 72) that the classifier gives for each transform."""
        x = self.resized(images)
        table = transform_table(self.config.resolution).to(x.device)
        return [
            self.networks_["classifier"](transformed(x, places)).log_softmax(1) for places in table
        ]

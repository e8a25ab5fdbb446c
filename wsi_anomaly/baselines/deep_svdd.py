"""``deep-svdd``: an encoder that maps normal images close to one point.

Ruff et al., "Deep One-Class Classification", ICML 2018. An autoencoder gives the encoder its first
weights; the centre is the mean of what it makes of normal images; then the encoder learns to come
as near to the centre as it can. The squared distance is the anomaly score. Neither biases nor the
scales of batch normalisation are learned: with them every image could be mapped to the centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_anomaly.baselines.base import NetworkDetector
from wsi_anomaly.baselines.learner import Learner
from wsi_anomaly.baselines.networks import resized
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.detectors.base import DETECTORS, batches, sample_images
from wsi_anomaly.learning.batches import Tiles, to_images
from wsi_anomaly.learning.loop import StepResult

_WEIGHT_DECAY = 1e-6
_LEAST = 0.1  # of a number of the centre: the encoder could reach 0 by doing nothing
_FOR_CENTRE = 5000


@dataclass(frozen=True, kw_only=True)
class DeepSvddConfig(NetworkSettings):
    """Everything that decides what ``deep-svdd`` learns; the defaults are those for CIFAR-10.

    Attributes
    ----------
    pretrain_steps
        Of the autoencoder, before `steps` towards the centre (350 and 150 passes over 5,000
        images).
    outputs
        Numbers that the encoder gives, a multiple of 16.
    """

    pretrain_steps: int = 8750
    steps: int = 3750
    outputs: int = 128
    batch_size: int = 200
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("pretrain_steps", "outputs")

    @property
    def total_steps(self) -> int:
        """Of both parts of the training."""
        return self.pretrain_steps + self.steps


class SvddEncoder(nn.Module):
    """Convolutions without biases, batch normalisation without scales; (N, outputs)."""

    def __init__(self, config: DeepSvddConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, side, width = 3, config.resolution, config.width
        while side > 4:
            layers += [
                nn.Conv2d(inputs, width, 5, padding=2, bias=False),
                nn.BatchNorm2d(width, eps=1e-4, affine=False),
                nn.LeakyReLU(0.1),
                nn.MaxPool2d(2),
            ]
            inputs, side, width = width, side // 2, 2 * width
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(16 * inputs, config.outputs, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (N, 3, R, R)."""
        y: Tensor = self.layers(contrast_normalised(images))
        return y


class _Decoder(nn.Sequential):
    """The encoder's mirror, for its first weights."""

    def __init__(self, config: DeepSvddConfig) -> None:
        octaves = (config.resolution // 4).bit_length() - 1
        width = config.width << (octaves - 1)
        layers: list[nn.Module] = [
            nn.Linear(config.outputs, 16 * width, bias=False),
            nn.Unflatten(1, (width, 4, 4)),
        ]
        for _ in range(octaves):
            after = max(1, width // 2)
            layers += [
                nn.LeakyReLU(0.1),
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(width, after, 5, padding=2, bias=False),
                nn.BatchNorm2d(after, eps=1e-4, affine=False),
            ]
            width = after
        layers += [nn.LeakyReLU(0.1), nn.Conv2d(width, 3, 5, padding=2, bias=False)]
        super().__init__(*layers)


class _Centre(nn.Module):
    """The point that normal images come close to, (outputs)."""

    point: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("point", torch.zeros(outputs))

    def forward(self, encoded: Tensor) -> Tensor:
        """Squared distances (N,)."""
        return (encoded - self.point).square().sum(1)


class _Learner(Learner):
    def __init__(
        self, networks: nn.ModuleDict, config: DeepSvddConfig, tiles: Tiles, device: torch.device
    ) -> None:
        self._encoder, self._decoder = networks["encoder"], _Decoder(config)
        self._centre = networks["centre"]
        super().__init__(
            {"encoder": self._encoder, "decoder": self._decoder, "centre": self._centre}, device
        )
        self._config, self._tiles = config, tiles
        for name in ("encoder", "decoder"):
            self.optimizers[name] = torch.optim.Adam(
                self.modules[name].parameters(), weight_decay=_WEIGHT_DECAY
            )

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Rebuild the images, or later come near the centre."""
        (images,) = batches
        before = self._config.pretrain_steps
        if step < before:
            self._rate(slow=step >= before * 5 // 7)
            rebuilt = self._decoder(self._encoder(images))
            loss = (rebuilt - contrast_normalised(images)).square().mean()
            self.descend(loss, "encoder", "decoder")
            return StepResult(loss.detach())
        if step == before:
            self._find_centre()
        self._rate(slow=step - before >= self._config.steps // 3)
        loss = self._centre(self._encoder(images)).mean()
        self.descend(loss, "encoder")
        return StepResult(loss.detach())

    def stage(self, step: int) -> str:
        """Say which part of the training a step belongs to."""
        return "autoencoder" if step < self._config.pretrain_steps else "towards the centre"

    def _rate(self, *, slow: bool) -> None:
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = self._config.learning_rate * (0.1 if slow else 1.0)

    @torch.no_grad()
    def _find_centre(self) -> None:
        self._encoder.eval()
        parts = [
            self._encoder(resized(to_images(b, self.device), self._config.resolution))
            for b in batches(sample_images(self._tiles, _FOR_CENTRE, self._config.seed))
        ]
        self._encoder.train()
        centre = torch.cat(parts).mean(0)
        away = torch.where(centre < 0, -_LEAST, _LEAST)
        assert isinstance(self._centre, _Centre)
        self._centre.point.copy_(torch.where(centre.abs() < _LEAST, away, centre))


def contrast_normalised(images: Tensor) -> Tensor:
    """Images (N, C, H, W) with mean 0 and mean absolute value 1, each alone; flat ones are 0."""
    centred = images - images.mean((1, 2, 3), keepdim=True)
    return centred / centred.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-3)


@DETECTORS.register("deep-svdd")
class DeepSvdd(NetworkDetector):
    """Deep one-class classification.

    Attributes
    ----------
    networks_ : nn.ModuleDict
        ``encoder`` and ``centre``.
    """

    config_type = DeepSvddConfig
    config: DeepSvddConfig

    def build(self) -> nn.ModuleDict:
        """Make the encoder, and room for the centre."""
        return nn.ModuleDict(
            {"encoder": SvddEncoder(self.config), "centre": _Centre(self.config.outputs)}
        )

    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains the encoder."""
        return _Learner(networks, self.config, tiles, device)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Squared distance (N,) to the centre."""
        encoded = self.networks_["encoder"](self.resized(images))
        scores: Tensor = self.networks_["centre"](encoded)
        return scores

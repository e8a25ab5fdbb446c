"""``dsebm``: an energy that is low for normal images, learned by denoising.

Zhai et al., "Deep Structured Energy Based Models for Anomaly Detection", ICML 2016. The energy is
half the squared distance to a template minus what a network finds in the image. Its gradient says
how an image would have to change to become more normal: x - grad E(x) is a reconstruction, and
training lets it take away added noise (denoising score matching). The energy is the anomaly score,
or the length of its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_anomaly.baselines.base import NetworkDetector
from wsi_anomaly.baselines.learner import Learner
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors.base import DETECTORS
from wsi_anomaly.learning.batches import Tiles
from wsi_anomaly.learning.loop import StepResult

CRITERIA = ("energy", "reconstruction")


@dataclass(frozen=True, kw_only=True)
class DsebmConfig(NetworkSettings):
    """Everything that decides what ``dsebm`` learns.

    Attributes
    ----------
    hidden
        Numbers of the last layer.
    noise
        Standard deviation of the added noise; pixels lie in [-1, 1].
    criterion
        The score: "energy", or "reconstruction", the squared length of the energy's gradient.
    """

    width: int = 64
    hidden: int = 128
    batch_size: int = 128
    learning_rate: float = 1e-3
    noise: float = 0.5
    criterion: str = "energy"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("hidden", "noise")
        if self.criterion not in CRITERIA:
            raise UsageError(
                f"The criteria of dsebm are {' and '.join(CRITERIA)}, not {self.criterion!r}."
            )


class Energy(nn.Module):
    """E(x) = |x - b|^2 / 2 - sum softplus(h(x)), with a convolutional network h; (N,)."""

    def __init__(self, config: DsebmConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, side, width = 3, config.resolution, config.width
        while side > 4:
            # Softplus: the gradient of the energy must itself have a gradient.
            layers += [nn.Conv2d(inputs, width, 4, 2, 1), nn.Softplus()]
            inputs, side, width = width, side // 2, 2 * width
        self.network = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(16 * inputs, config.hidden), nn.Softplus()
        )
        self.template = nn.Parameter(torch.zeros(3, config.resolution, config.resolution))

    def forward(self, images: Tensor) -> Tensor:
        """Energy of each image (N, 3, R, R)."""
        quadratic = (images - self.template).square().flatten(1).sum(1) / 2
        energy: Tensor = quadratic - self.network(images).sum(1)
        return energy

    def reconstruction(self, images: Tensor, *, learning: bool = False) -> Tensor:
        """Give x - grad E(x), (N, 3, S, S); `images` x require a gradient."""
        (gradient,) = torch.autograd.grad(self(images).sum(), images, create_graph=learning)
        return images - gradient


class _Learner(Learner):
    def __init__(self, energy: nn.Module, config: DsebmConfig, device: torch.device) -> None:
        super().__init__({"energy": energy}, device)
        self._noise = config.noise
        self.optimizers["energy"] = torch.optim.Adam(energy.parameters(), lr=config.learning_rate)

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Rebuild the images from noisy ones."""
        (images,) = batches
        energy = self.modules["energy"]
        assert isinstance(energy, Energy)
        noisy = (images + self._noise * torch.randn_like(images)).requires_grad_()
        loss = F.mse_loss(energy.reconstruction(noisy, learning=True), images)
        self.descend(loss, "energy")
        return StepResult(loss.detach())


@DETECTORS.register("dsebm")
class Dsebm(NetworkDetector):
    """Deep structured energy-based model.

    Attributes
    ----------
    networks_ : nn.ModuleDict
        ``energy``.
    """

    config_type = DsebmConfig
    config: DsebmConfig

    def build(self) -> nn.ModuleDict:
        """Make the energy."""
        return nn.ModuleDict({"energy": Energy(self.config)})

    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains it."""
        return _Learner(networks["energy"], self.config, device)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Energy (N,), or squared length of its gradient."""
        if self.config.criterion == "reconstruction":
            return self._residual(images).square().sum((1, 2, 3))
        scores: Tensor = self.networks_["energy"](self.resized(images))
        return scores

    def map_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Absolute residual (N, S, S) of the reconstruction, mean over colours."""
        residual, size = self._residual(images).abs().mean(1, keepdim=True), images.shape[-1]
        return F.interpolate(residual, (size, size), mode="bilinear", align_corners=False)[:, 0]

    def _residual(self, images: Tensor) -> Tensor:
        """Image minus reconstruction, which is the energy's gradient, (N, 3, R, R)."""
        energy = self.networks_["energy"]
        assert isinstance(energy, Energy)
        with torch.inference_mode(mode=False), torch.enable_grad():
            x = self.resized(images).clone().requires_grad_()
            return (x - energy.reconstruction(x)).detach()

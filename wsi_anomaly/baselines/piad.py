"""``piad``: perceptual image anomaly detection, the predecessor of ``dpa``.

Tuluptceva et al., "Perceptual Image Anomaly Detection", ACPR 2019. An encoder and a generator
mirror each other: a critic of images wants generated images to look like normal ones, a critic of
latents wants encoded images to be normally distributed (both WGAN with gradient penalty), and the
relative perceptual distance between an image and its reconstruction ties the two together. That
distance is the anomaly score. Its weight follows the size of the adversarial gradients.

Neighbours: ``dpa`` keeps the distance and drops the adversaries for a tight bottleneck. Its
residual blocks come in pairs; here there is one where it has two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_anomaly.autoencoder import Architecture, pixel_map
from wsi_anomaly.autoencoder.adversary import critic_loss
from wsi_anomaly.autoencoder.blocks import SLOPE
from wsi_anomaly.autoencoder.loss import relative_l1
from wsi_anomaly.autoencoder.network import Decoder, Encoder
from wsi_anomaly.baselines.base import NetworkDetector
from wsi_anomaly.baselines.learner import Learner
from wsi_anomaly.baselines.networks import GradientScale
from wsi_anomaly.baselines.settings import NetworkSettings
from wsi_anomaly.detectors.base import DETECTORS
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.learning.batches import Tiles
from wsi_anomaly.learning.loop import StepResult

_BETAS = (0.5, 0.99)


@dataclass(frozen=True, kw_only=True)
class PiadConfig(NetworkSettings):
    """Everything that decides what ``piad`` learns; the defaults are the authors' for 32 px.

    Attributes
    ----------
    layer
        Layer of the perceptual network, at the images' resolution.
    width
        Channels of encoder and generator at 4 and 8 px; half of it at 16 px, a quarter at 32 px,
        and so on. The image critic has at most half as many: an eighth at first, twice as many at
        each half of the side.
    latent
        Numbers of the latent vector.
    learning_rate, critic_learning_rate
        Of encoder and generator, and of the critics.
    critic_steps
        Updates of the critics before each update of encoder and generator.
    weigh_every
        Steps between two looks at the size of the gradients.
    image_channels
        3; or 1 where images are grey, as in :class:`~wsi_anomaly.autoencoder.Architecture`.
    """

    layer: str
    width: int = 256
    latent: int = 256
    steps: int = 100_000
    batch_size: int = 32
    learning_rate: float = 2e-4
    critic_learning_rate: float = 5e-4
    critic_steps: int = 2
    weigh_every: int = 100
    image_channels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("latent", "critic_learning_rate", "critic_steps", "weigh_every")

    def architecture(self) -> Architecture:
        """Size encoder and generator."""
        octaves = range(self._octaves)
        return self._sized(
            self.latent, [max(1, self.width >> max(0, k - 1)) for k in octaves][::-1]
        )

    def critic(self) -> Architecture:
        """Size the image critic."""
        most, first = max(1, self.width // 2), max(1, self.width // 8)
        return self._sized(1, [min(most, first << k) for k in range(self._octaves)])

    @property
    def _octaves(self) -> int:
        return (self.resolution // 4).bit_length()

    def _sized(self, latent: int, widths: list[int]) -> Architecture:
        return Architecture(
            resolution=self.resolution,
            first_resolution=self.resolution,
            latent_resolution=1,
            latent_channels=latent,
            widths=tuple(widths),
            image_channels=self.image_channels,
        )


class _Image(nn.Module):
    """An encoder or a generator at its one resolution."""

    def __init__(self, network: Encoder | Decoder, resolution: int) -> None:
        super().__init__()
        self.network, self.resolution = network, resolution

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x, self.resolution)
        return y if isinstance(self.network, Encoder) else y.expand(-1, 3, -1, -1)


def _latent_critic(latent: int) -> nn.Sequential:
    hidden = 4 * latent
    layers = [nn.Linear(latent, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)]
    first, second, last = layers
    nn.init.xavier_uniform_(last.weight)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain("leaky_relu", SLOPE))
    return nn.Sequential(
        nn.Flatten(), first, nn.LeakyReLU(SLOPE), second, nn.LeakyReLU(SLOPE), last
    )


class _Learner(Learner):
    def __init__(
        self,
        networks: nn.ModuleDict,
        features: PerceptualNetwork,
        config: PiadConfig,
        device: torch.device,
    ) -> None:
        critic = _Image(Encoder(config.critic(), blocks=1), config.resolution)
        super().__init__(
            {
                "encoder": networks["encoder"],
                "generator": networks["generator"],
                "image_critic": critic,
                "latent_critic": _latent_critic(config.latent),
                "encoder_scale": GradientScale(networks["encoder"]),
                "generator_scale": GradientScale(networks["generator"]),
            },
            device,
        )
        self._config, self._features = config, features
        self.batches_per_step = 1 + config.critic_steps
        for name in ("encoder", "generator", "image_critic", "latent_critic"):
            rate = config.critic_learning_rate if "critic" in name else config.learning_rate
            self.optimizers[name] = torch.optim.Adam(
                self.modules[name].parameters(), lr=rate, betas=_BETAS
            )

    def step(self, batches: tuple[Tensor, ...], step: int) -> StepResult:
        """Update both critics on each batch but the last, encoder and generator on that one."""
        *for_critics, images = batches
        m = self.modules
        for real in for_critics:
            with torch.no_grad():
                latent = self._draw(len(real))
                generated, encoded = m["generator"](latent), m["encoder"](real)
            of_critic = critic_loss(m["image_critic"], real, generated)
            self.descend(of_critic, "image_critic")
            self.descend(critic_loss(m["latent_critic"], latent, encoded), "latent_critic")
        encoded, layer = m["encoder"](images), self._config.layer
        of_generator = -m["image_critic"](m["generator"](self._draw(len(images)))).mean()
        of_encoder = -m["latent_critic"](encoded).mean()
        with torch.no_grad():
            truth = self._features(images, [layer])[layer]
        found = self._features(m["generator"](encoded), [layer])[layer]
        distance = relative_l1(truth, found).mean()
        self._update({"generator": of_generator, "encoder": of_encoder}, distance, step)
        return StepResult(distance.detach(), of_critic.detach())

    def _update(self, adversarial: dict[str, Tensor], distance: Tensor, step: int) -> None:
        for name, loss in adversarial.items():
            scale = self.modules[f"{name}_scale"]
            assert isinstance(scale, GradientScale)
            if (step + 1) % self._config.weigh_every == 0:
                scale.note(loss, distance, self.modules[name])
        # Each network has its own weight for the one distance that both are led by.
        for name, loss in adversarial.items():
            scale = self.modules[f"{name}_scale"]
            assert isinstance(scale, GradientScale)
            parameters = list(self.modules[name].parameters())
            total = loss + scale.weight * distance
            gradients = torch.autograd.grad(total, parameters, retain_graph=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        for name in adversarial:
            self.apply(name)

    def _draw(self, count: int) -> Tensor:
        return torch.randn(count, self._config.latent, 1, 1, device=self.device)


@DETECTORS.register("piad")
class Piad(NetworkDetector):
    """Perceptual image anomaly detection.

    Attributes
    ----------
    networks_ : nn.ModuleDict
        ``encoder`` and ``generator``.
    """

    loss_name = "relative perceptual L1"
    config_type = PiadConfig
    config: PiadConfig

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer of the distance."""
        return (self.config.layer,)

    def build(self) -> nn.ModuleDict:
        """Make encoder and generator."""
        sizes, r = self.config.architecture(), self.config.resolution
        return nn.ModuleDict(
            {
                "encoder": _Image(Encoder(sizes, blocks=1), r),
                "generator": _Image(Decoder(sizes, blocks=1), r),
            }
        )

    def learner(self, networks: nn.ModuleDict, tiles: Tiles, device: torch.device) -> Learner:
        """Make what trains them, with two critics."""
        return _Learner(networks, self.features, self.config, device)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Relative perceptual distance (N,) to the reconstruction."""
        return relative_l1(*self._pair(images, truth))

    def map_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Perceptual error (N, S, S) by position."""
        return pixel_map(*self._pair(images, truth), images.shape[-1])

    def _pair(self, images: Tensor, truth: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Activations of the images, and of their reconstructions."""
        layer, x = self.config.layer, self.resized(images)
        rebuilt = self.networks_["generator"](self.networks_["encoder"](x))
        if x.shape == images.shape:
            return truth[layer], self.features(rebuilt, [layer])[layer]
        return self.features(x, [layer])[layer], self.features(rebuilt, [layer])[layer]

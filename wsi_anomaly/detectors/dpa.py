"""``dpa``: the Deep Perceptual Autoencoder, as published.

An autoencoder with a tight bottleneck learns to rebuild normal tiles so that a frozen perceptual
network sees little difference. What it has not learned it rebuilds badly, and the same relative
perceptual distance is the anomaly score (Shvetsova et al., "Anomaly Detection with Deep Perceptual
Autoencoders", IEEE Access 9:118571, 2021, sections III-A to III-C).

Neighbours: ``density`` judges the same activations without rebuilding anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, GrowthTrainer, Stage, pixel_map
from wsi_anomaly.autoencoder.loss import pixel_l1, weighted_l1
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors.base import (
    DETECTORS,
    Detector,
    Fitting,
    device_of,
    fit_missing_statistics,
    sample_images,
)
from wsi_anomaly.learning.batches import BatchStream, Crops, Tiles, to_images
from wsi_anomaly.learning.distributed import rank_and_world
from wsi_anomaly.learning.loop import LoopConfig, TrainingLoop, Validation

_VALIDATION_TILES = 2048


@dataclass(frozen=True)
class DpaConfig:
    """Everything that decides what ``dpa`` learns.

    Attributes
    ----------
    architecture
        Size of the autoencoder.
    growth
        Layers at each resolution, learning rate, weights of the further terms.
    stages
        In order, ending at the architecture's resolution.
    batch_size, seed
        Of the training.
    flips
        Whether tiles are flipped at random, left to right and upside down.
    score_pixels
        Whether the score holds the pixel term of the loss too, as row (5) of the paper's ablation
        does.
    loop
        Validation, early stopping, checkpoints.
    """

    architecture: Architecture
    growth: GrowthConfig
    stages: tuple[Stage, ...]
    batch_size: int = 128
    seed: int = 0
    flips: bool = True
    score_pixels: bool = False
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if not self.stages or self.stages[-1].resolution != self.architecture.resolution:
            raise UsageError(
                f"The last stage must train at the final resolution, "
                f"{self.architecture.resolution} px."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        value = asdict(self)
        value["architecture"]["widths"] = list(self.architecture.widths)
        value["growth"]["layers"] = {
            str(size): dict(layers) for size, layers in self.growth.layers.items()
        }
        value["stages"] = [asdict(stage) for stage in self.stages]
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave."""
        architecture = dict(value["architecture"])
        architecture["widths"] = tuple(int(w) for w in architecture["widths"])
        growth = dict(value["growth"])
        growth["layers"] = {
            int(size): {str(name): float(w) for name, w in layers.items()}
            for size, layers in growth["layers"].items()
        }
        return cls(
            Architecture(**architecture),
            GrowthConfig(**growth),
            tuple(Stage(**stage) for stage in value["stages"]),
            int(value["batch_size"]),
            int(value["seed"]),
            # Models of 0.1.0 know neither of the two.
            bool(value.get("flips", True)),
            bool(value.get("score_pixels", False)),
            LoopConfig(**value["loop"]),
        )


def growing_stages(
    architecture: Architecture, steps: Mapping[int, tuple[int, int]]
) -> tuple[Stage, ...]:
    """Stages of progressive growing: stabilise at the first resolution, then grow and stabilise.

    Parameters
    ----------
    architecture
        Its ``growth()`` lists the resolutions.
    steps
        Resolution to the steps of its transition and of its stabilisation; the first resolution
        has no transition.
    """
    stages = []
    for i, resolution in enumerate(architecture.growth()):
        transition, stable = steps[resolution]
        if i and transition:
            stages.append(Stage(resolution, transition=True, steps=transition))
        if stable:
            stages.append(Stage(resolution, transition=False, steps=stable))
    return tuple(stages)


@DETECTORS.register("dpa")
class Dpa(Detector):
    """The Deep Perceptual Autoencoder.

    Parameters
    ----------
    features : PerceptualNetwork
    config : DpaConfig

    Attributes
    ----------
    autoencoder_ : ProgressiveAutoencoder
        Grown to its final resolution; only that is kept.
    """

    config_type = DpaConfig
    config: DpaConfig
    loss_name = "relative perceptual L1"

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of the final resolution."""
        return tuple(self.config.growth.layers[self.config.architecture.resolution])

    @property
    def fitting_layers(self) -> tuple[str, ...]:
        """Layers of all resolutions."""
        layers = (name for weights in self.config.growth.layers.values() for name in weights)
        return tuple(dict.fromkeys(layers))

    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Train the autoencoder through its stages; see :meth:`Detector.fit`."""
        fitting = fitting or Fitting.on(device_of(self.features))
        config, device = self.config, fitting.device
        size = config.architecture.resolution
        # A latent map slides over a larger tile, a latent vector does not.
        fixed = config.architecture.latent_resolution == 1
        if tiles.tile_size < size or (fixed and tiles.tile_size != size):
            raise ModelError(
                f"The autoencoder is made for {size} px, the tiles have {tiles.tile_size} px; "
                "choose another configuration or tile again."
            )
        if tiles.tile_size > size:
            tiles = Crops(tiles, size)
            validation = None if validation is None else Crops(validation, size)
        fit_missing_statistics(self.features, tiles, self.fitting_layers)
        autoencoder = self._untrained(device)
        trainer = GrowthTrainer(
            autoencoder,
            self.features,
            config.stages,
            config.growth,
            autocast=self._lower_format(),
        )
        held_out = None
        if validation is not None and len(validation):
            images = to_images(sample_images(validation, _VALIDATION_TILES), device)
            held_out = Validation(images, trainer.evaluate, autoencoder)
        rank, world = rank_and_world()
        loop = TrainingLoop(
            trainer,
            BatchStream(
                tiles,
                config.batch_size,
                config.seed,
                device,
                rank=rank,
                world=world,
                flips=config.flips,
            ),
            [stage.steps for stage in config.stages],
            config.loop,
            validation=held_out,
            checkpoint=fitting.checkpoint_of(self.name),
            identity={"config": config.to_dict(), **dict(fitting.identity or {})},
            progress=fitting.progress,
        )
        self.log_ = loop.run()
        self.autoencoder_ = autoencoder.grown().eval().requires_grad_(requires_grad=False)
        return self

    def start(self) -> Self:
        """Take the autoencoder as it is before its first step: a control, not a detector."""
        untrained = self._untrained(device_of(self.features)).grown()
        self.autoencoder_ = untrained.eval().requires_grad_(requires_grad=False)
        return self

    def _untrained(self, device: torch.device) -> ProgressiveAutoencoder:
        torch.manual_seed(self.config.seed)
        autoencoder: ProgressiveAutoencoder = ProgressiveAutoencoder(self.config.architecture).to(
            device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        return autoencoder

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """L(x, x') of each image, (N,): see :func:`wsi_anomaly.autoencoder.loss.relative_l1`.

        Tiles larger than the autoencoder's images are rebuilt whole: it is convolutional.
        """
        layers = self._weights()
        rebuilt = self._rebuilt(images)
        score = weighted_l1(truth, self.features(rebuilt, list(layers)), layers)
        if self.config.score_pixels:
            score = score + self.config.growth.pixel_weight * pixel_l1(images, rebuilt)
        return score

    def map_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Perceptual error (N, S, S); see :func:`wsi_anomaly.autoencoder.loss.pixel_map`."""
        layers = self._weights()
        found = self.features(self._rebuilt(images), list(layers))
        size = images.shape[-1]
        maps = [w * pixel_map(truth[name], found[name], size) for name, w in layers.items()]
        return torch.stack(maps).sum(0) / sum(layers.values())

    def _rebuilt(self, images: Tensor) -> Tensor:
        """Rebuild images (N, 3, S, S) in the number format of the training; float32."""
        lower = self._lower_format()
        with torch.autocast(images.device.type, lower, enabled=lower is not None):
            rebuilt: Tensor = self.autoencoder_(images)
        return rebuilt.float()

    def _lower_format(self) -> torch.dtype | None:
        """Format of the autoencoder: that of the frozen network, its weights in float32."""
        return None if self.features.precision == torch.float32 else torch.bfloat16

    def _weights(self) -> Mapping[str, float]:
        return self.config.growth.layers[self.config.architecture.resolution]

    def to(self, device: torch.device | str) -> Self:
        """Move the autoencoder."""
        self.autoencoder_.to(device)
        return self

    def learned(self) -> Mapping[str, Tensor]:
        """Weights of the grown network."""
        return dict(self.autoencoder_.state_dict())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights; see :meth:`Detector.restore`."""
        a = self.config.architecture
        autoencoder = ProgressiveAutoencoder(replace(a, first_resolution=a.resolution))
        autoencoder.load_state_dict(dict(tensors))
        self.autoencoder_ = autoencoder.eval().requires_grad_(requires_grad=False)

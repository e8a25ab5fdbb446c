"""What ``train`` does: the two presets, and files of one's own.

``paper`` is the published Camelyon16 schedule (Shvetsova et al. 2021 and the authors' repository):
4 channels, latent 4x8x8, 16-32-64 px, VGG19 r32 and r42, 88,666 steps of 128 tiles. ``fast`` is
made for two CPU cores and a few thousand tiles.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, Stage
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors import DETECTORS, DensityConfig, DpaConfig, Settings, growing_stages
from wsi_anomaly.features import network_spec
from wsi_anomaly.learning.loop import LoopConfig
from wsi_anomaly.options import TrainOptions, TuneOptions
from wsi_anomaly.training.baseline_presets import PUBLISHED, QUICK, over_quick

_LISTS = ("widths", "density_layers", "density_fields_um", "beside", "tuned_on")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what is learned from given tiles.

    Attributes
    ----------
    features
        Perceptual network.
    magnification
        10, 20 or 40.
    field_um
        Side of a tile, um: as many pixels at 10x, twice as many at 20x.
    detector
        Method that ranks: "dpa", "density", "fusion", a system that the paper compares with, or
        what another package brings.
    beside
        Further methods that are fitted and scored beside it; a fusion's members are among them.
    resolution
        Side of the autoencoder's images, px. Larger tiles are cut at random in training and
        rebuilt whole when they are scored.
    first_resolution
        Where progressive growing starts, px; equal to `resolution`: no growing.
    latent_resolution, latent_channels, widths
        Size of the autoencoder; see :class:`~wsi_anomaly.autoencoder.Architecture`.
    steps
        Resolution to the steps of its transition and of its stabilisation.
    layers
        Resolution to the layers of the loss with their weights; empty: the network's usual ones.
    density_layers, density_estimator, density_fields_um
        See :class:`~wsi_anomaly.detectors.DensityConfig`; empty or None: the network's usual ones.
        Fields need tile files with planes; with no field, tiles are judged.
    learning_rate, batch_size, pixel_weight, adversarial_weight
        Of the autoencoder's training.
    flips
        Whether training flips tiles at random, left to right and upside down. Tissue has no
        upside; images that have one want it off.
    validate_every, patience
        Early stopping in the last stage.
    seed
        Of the split, the weights and the batches.
    options
        Name of a detector other than dpa to entries of its own configuration, over what it shares
        with this one (resolution, layers, seed).
    tuned_on
        Cases by which ``tune`` chose this configuration: they never calibrate.
    """

    features: str = "compact"
    magnification: int = 10
    field_um: int = 64
    detector: str = "dpa"
    beside: tuple[str, ...] = ("density",)
    resolution: int = 64
    first_resolution: int = 16
    latent_resolution: int = 8
    latent_channels: int = 4
    widths: tuple[int, ...] = (4,)
    steps: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    layers: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    density_layers: tuple[str, ...] = ()
    density_estimator: str = ""
    density_fields_um: tuple[int, ...] | None = None
    learning_rate: float = 1e-3
    batch_size: int = 128
    pixel_weight: float = 0.0
    adversarial_weight: float = 0.0
    flips: bool = True
    validate_every: int = 1000
    patience: int = 3
    seed: int = 0
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tuned_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.detector, *self.beside):
            DETECTORS.get(name)
        if self.magnification not in (10, 20, 40):
            raise UsageError(f"The magnification is 10, 20 or 40, not {self.magnification}.")
        if self.batch_size < 1 or not self.learning_rate > 0 or self.validate_every < 1:
            raise UsageError("batch_size, learning_rate and validate_every are positive.")
        whole = self.tile_size % self.resolution == 0 and self.tile_size >= self.resolution
        if not whole or (self.latent_resolution == 1 and self.tile_size != self.resolution):
            raise UsageError(
                f"Tiles of {self.tile_size} px do not suit an autoencoder of {self.resolution} px; "
                "they must be as large, or (with a latent map) a whole number of times as large."
            )
        missing = [r for r in self.architecture().growth() if r not in self.steps]
        if missing:
            raise UsageError(
                f"The configuration gives no steps for {missing[0]} px; give two numbers, for the "
                "transition to it and for training at it."
            )
        if any(len(pair) != 2 or min(pair) < 0 or pair[1] < 1 for pair in self.steps.values()):
            raise UsageError("steps are two whole numbers for each resolution, the second above 0.")
        for name in self.options:
            if name not in DETECTORS or name == "dpa":
                others = (other for other in DETECTORS.names() if other != "dpa")
                raise UsageError(f"options are for {', '.join(others)}, not {name!r}.")
            self.settings(name, "any")

    @property
    def tile_size(self) -> int:
        """Side of a tile, px at the magnification."""
        return self.field_um * self.magnification // 10

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order in which they are fitted: a fusion comes after its members."""
        wanted = {self.detector, *self.beside}
        if "fusion" in wanted:
            wanted |= {"dpa", "density"}
        ours = tuple(m for m in DETECTORS.names() if m in wanted)
        return ours + tuple(sorted(wanted - set(ours)))

    def ranked_by(self, detector: str) -> Self:
        """Return the same configuration with another method that ranks.

        ``dpa`` gets ``density``, which costs next to nothing, beside it; ``density`` stands alone
        and takes seconds.
        """
        beside = {"dpa": ("density",), "fusion": ("dpa", "density")}.get(detector, ())
        return replace(self, detector=detector, beside=beside)

    def architecture(self) -> Architecture:
        """Size of the autoencoder."""
        return Architecture(
            resolution=self.resolution,
            first_resolution=self.first_resolution,
            latent_resolution=self.latent_resolution,
            latent_channels=self.latent_channels,
            widths=tuple(self.widths),
        )

    def _usual_loss_layers(self) -> Mapping[int, str]:
        """Layer of the loss at each resolution that the network usually has."""
        spec = network_spec(self.features)
        return {} if spec is None else spec.loss_layers

    def _embedding(self, default_layer: str) -> dict[str, Any]:
        """Layers, fields and estimator of the embedding."""
        spec = network_spec(self.features)
        usual = ((), (), "both") if spec is None else (
            spec.pooled_layers, spec.fields_um, spec.pooled_by,
        )  # fmt: skip
        fields_um = usual[1] if self.density_fields_um is None else self.density_fields_um
        layers = self.density_layers or usual[0] or (default_layer,)
        # What an estimator knows of other tissues it knows of the usual fields at 10x.
        as_usual = (layers, fields_um) == usual[:2] and self.magnification == 10
        if self.density_estimator == "contrast" and not as_usual:
            raise UsageError(
                "The estimator contrast knows the usual layers and fields of lite0 at 10x; leave "
                'density_layers and density_fields_um out, or set density_estimator = "both".'
            )
        return {
            "layers": layers,
            "fields_um": fields_um,
            "estimator": self.density_estimator or (usual[2] if as_usual else "both"),
        }

    def dpa(self, default_layer: str) -> DpaConfig:
        """Configure ``dpa``; `default_layer` serves networks that have no usual ones."""
        architecture = self.architecture()
        usual = self._usual_loss_layers()
        layers = {
            r: dict(self.layers.get(r) or {usual.get(r, default_layer): 1.0})
            for r in architecture.growth()
        }
        growth = GrowthConfig(
            layers=layers,
            learning_rate=self.learning_rate,
            pixel_weight=self.pixel_weight,
            adversarial_weight=self.adversarial_weight,
        )
        stages: tuple[Stage, ...] = growing_stages(architecture, self.steps)
        loop = LoopConfig(validate_every=self.validate_every, patience=self.patience)
        return DpaConfig(
            architecture, growth, stages, self.batch_size, self.seed, self.flips, loop=loop
        )

    def density(self, default_layer: str) -> DensityConfig:
        """Configure ``density``."""
        config = self.settings("density", default_layer)
        assert isinstance(config, DensityConfig)
        return config

    def settings(self, name: str, default_layer: str) -> Settings | DpaConfig:
        """Configure a detector; `default_layer` serves networks that have no usual ones."""
        if name == "dpa":
            return self.dpa(default_layer)
        kind: type[Settings] = DETECTORS.get(name).config_type
        own = dict(self.options.get(name, {}))
        resolution = own.get("resolution", self.resolution)
        shared = {
            **self._embedding(default_layer),
            "layer": self._usual_loss_layers().get(resolution, default_layer),
            "resolution": resolution,
            "flips": kind.may_flip and self.flips,
            "seed": self.seed,
        }
        known = {f.name for f in fields(kind)}
        shared = {key: value for key, value in shared.items() if key in known}
        return kind.from_dict(shared | own, f"The options of {name}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        value = asdict(self)
        for name in _LISTS:
            value[name] = None if value[name] is None else list(value[name])
        value["steps"] = {str(r): list(pair) for r, pair in self.steps.items()}
        value["layers"] = {str(r): dict(layers) for r, layers in self.layers.items()}
        value["options"] = {name: dict(own) for name, own in self.options.items()}
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], source: str) -> Self:
        """Read plain values over those of the ``fast`` preset; `source` is named in errors.

        Raises
        ------
        UsageError
            A key is unknown or a value makes no sense.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            raise UsageError(
                f"{source} has an unknown entry {unknown[0]!r}; known are "
                f"{', '.join(sorted(known))}."
            )
        found = dict(value)
        try:
            if "steps" in found:
                found["steps"] = {
                    int(r): (int(pair[0]), int(pair[1])) for r, pair in found["steps"].items()
                }
            if "layers" in found:
                found["layers"] = {
                    int(r): {one: 1.0}
                    if isinstance(one, str)
                    else {str(name): float(w) for name, w in one.items()}
                    for r, one in found["layers"].items()
                }
            for name in _LISTS:
                if found.get(name) is not None:
                    found[name] = tuple(found[name])
            if "options" in found:
                found["options"] = over_quick(found["options"])
            for name in ("learning_rate", "pixel_weight", "adversarial_weight"):
                if name in found:
                    found[name] = float(found[name])
            return replace(PRESETS["fast"], **found)  # type: ignore[return-value]
        except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            raise UsageError(f"{source} makes no sense: {error}.") from error


PRESETS: dict[str, TrainConfig] = {
    "fast": TrainConfig(
        features="lite0",
        # The better one on drawn slides, and quick to fit (docs/results.md); the paper's method
        # stands beside it.
        detector="density",
        beside=("dpa",),
        steps={16: (0, 300), 32: (200, 300), 64: (300, 1200)},
        batch_size=32,
        learning_rate=3e-3,
        validate_every=200,
        options=QUICK,
    ),
    "paper": TrainConfig(
        features="vgg19",
        steps={16: (0, 20_000), 32: (20_000, 20_000), 64: (20_000, 8_666)},
        # The published length of the last stage already is the mean of early stopping.
        validate_every=8_666,
        options=PUBLISHED,
    ),
}


def load_config(name: str) -> TrainConfig:
    """Read a preset by name, or a TOML or JSON file.

    Raises
    ------
    UsageError
        It is neither, or cannot be read.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"{name} is no configuration: give {' or '.join(PRESETS)}, or a .toml or .json file."
        )
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as a configuration: {error}.") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} should hold named entries, such as batch_size = 64.")
    return TrainConfig.from_dict(value, str(path))


def chosen_config(config: str | TrainConfig, options: TrainOptions | TuneOptions) -> TrainConfig:
    """Take a configuration, and over it what the options say.

    Raises
    ------
    UsageError
        It is none, or an option makes no sense.
    """
    chosen = load_config(config) if isinstance(config, str) else config
    changes: dict[str, Any] = {"seed": options.seed}
    if isinstance(options, TrainOptions):
        changes |= {"features": options.features, "magnification": options.magnification}
        if options.detector is not None:
            chosen = chosen.ranked_by(options.detector)
    return replace(chosen, **{k: v for k, v in changes.items() if v is not None})

"""The configurations that a search chooses among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.options.train import SEARCHED
from wsi_anomaly.training.config import TrainConfig

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

# Of deep networks the layers around the published one; of others all layers.
_WORTH_TRYING = {
    "vgg19": ("r22", "r32", "r42", "r52"),
    "squeezenet": ("fire3", "fire5", "fire7", "fire8", "fire9"),
}
_JOIN = "+"


@dataclass(frozen=True)
class Space:
    """What may be chosen. Every entry is a tuple of choices, but for `learning_rate`.

    Attributes
    ----------
    detectors
        "dpa" and "density", or one of them.
    views
        Name of a view to its magnification and the side of its tiles in um; for images that are
        no slides 10 and their side in px.
    view_name
        What a view is called: "magnification", or "preprocessing".
    layers
        Perceptual network to the layers for the loss at the final resolution of ``dpa``; several
        are joined by "+". The first choice is that of the base configuration.
    density_layers
        The same for ``density``.
    fields_um
        Network to the sides of the fields that ``density`` judges with it; no entry: tiles.
    estimators
        Of ``density``; where its usual one is another, that one too.
    widths
        Channels of the autoencoder at each resolution, or one number for all.
    latent_channels, latent_resolutions
        Of the bottleneck; the resolutions also say how deep the autoencoder is.
    progressive
        Whether ``dpa`` grows.
    learning_rate
        Least and greatest; drawn on a logarithmic scale.
    lengths
        Factors on the steps of the base configuration.
    """

    detectors: tuple[str, ...]
    views: Mapping[str, tuple[int, int]]
    layers: Mapping[str, tuple[str, ...]]
    density_layers: Mapping[str, tuple[str, ...]]
    view_name: str = "magnification"
    fields_um: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    estimators: tuple[str, ...] = ("both", "mahalanobis", "directional", "knn")
    widths: tuple[tuple[int, ...], ...] = ((4,), (8,), (16,), (32,))
    latent_channels: tuple[int, ...] = (4, 8, 16, 32)
    latent_resolutions: tuple[int, ...] = (4, 8, 16)
    progressive: tuple[bool, ...] = (True, False)
    learning_rate: tuple[float, float] = (2e-4, 1e-2)
    lengths: tuple[float, ...] = (0.5, 1.0, 2.0)

    @classmethod
    def around(
        cls,
        base: TrainConfig,
        views: Mapping[str, tuple[int, int]],
        networks: Mapping[str, PerceptualNetwork],
        detectors: Sequence[str] = SEARCHED,
        view_name: str = "magnification",
        fields_um: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Space:
        """Make the space that has a base configuration in it.

        Parameters
        ----------
        base
            Its own values are among the choices.
        views
            See the class.
        networks
            Perceptual networks to choose among, by name.
        detectors
            Methods to choose among.
        view_name, fields_um
            See the class.

        Raises
        ------
        UsageError
            A method has nothing to be chosen.
        """
        unknown = [name for name in detectors if name not in SEARCHED]
        if unknown:
            raise UsageError(
                f"tune chooses for {' and '.join(SEARCHED)}, not for {unknown[0]!r}; the weights "
                "of fusion are chosen by train --detector fusion --anomalies."
            )
        layers, pooled = {}, {}
        for name, network in networks.items():
            some = _WORTH_TRYING.get(name, network.layers)
            own = with_network(base, name)
            usual = _JOIN.join(own.dpa(network.default_layer).growth.layers[base.resolution])
            layers[name] = _first(usual, some)
            joined = tuple(_JOIN.join(pair) for pair in pairwise(some))
            usual = _JOIN.join(own.density(network.default_layer).layers)
            pooled[name] = _first(usual, (*some, *joined))
        space = cls(tuple(detectors), dict(views), layers, pooled, view_name, dict(fields_um or {}))
        whole = all(size * m // 10 == base.resolution for m, size in views.values())
        resolutions = [r for r in space.latent_resolutions if r < base.resolution]
        low, high = space.learning_rate
        return replace(
            space,
            widths=tuple(sorted({*space.widths, tuple(base.widths)})),
            latent_channels=tuple(sorted({*space.latent_channels, base.latent_channels})),
            # A single vector as bottleneck cannot slide over a larger tile.
            latent_resolutions=tuple(
                sorted({*resolutions, base.latent_resolution, *([1] if whole else [])})
            ),
            learning_rate=(min(low, base.learning_rate), max(high, base.learning_rate)),
        )

    def for_reconstruction(self, base: TrainConfig) -> Space:
        """Return the part in which reconstruction losses can be compared.

        Losses of other networks, layers or magnifications have other units, and ``density``
        reconstructs nothing: these stay as the base has them.
        """
        view = next(
            (name for name, (m, um) in self.views.items() if (m, um) == _view_of(base)), None
        )
        if view is None or base.features not in self.layers:
            raise UsageError(
                f"The criterion reconstruction keeps {base.magnification}x and {base.features} of "
                "the configuration; tile at that magnification, or choose another --config."
            )
        return replace(
            self,
            detectors=("dpa",),
            views={view: self.views[view]},
            layers={base.features: self.layers[base.features][:1]},
            density_layers={},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; spaces are the same when these are."""
        return asdict(self)

    def suggest(self, trial: BaseTrial, base: TrainConfig) -> tuple[TrainConfig, str]:
        """Let a trial choose; return its configuration and its view."""

        def one(name: str, choices: Sequence[Any]) -> Any:
            return trial.suggest_categorical(name, list(choices))

        detector = one("detector", self.detectors)
        view = one(self.view_name, list(self.views))
        network = one("network", list(self.layers))
        magnification, field_um = self.views[view]
        if self.views[view] != _view_of(base) or network != base.features:
            base = replace(base, density_estimator="")  # may suit the base's own fields alone
        config = replace(
            with_network(base.ranked_by(detector), network),
            magnification=magnification,
            field_um=field_um,
        )
        if detector == "density":
            chosen = one(f"pooled layers of {network}", self.density_layers[network])
            config = self._of_places(config, chosen)
            return replace(config, density_estimator=one(*self._estimators(config, base))), view
        loss_layers = one(f"layers of {network}", self.layers[network])
        latent = one("latent resolution", self.latent_resolutions)
        widths = _widths(one("widths", [_text(w) for w in self.widths]))
        channels = one("latent channels", self.latent_channels)
        grows = one("progressive", self.progressive)
        rate = trial.suggest_float("learning rate", *self.learning_rate, log=True)
        return _autoencoder(
            config, latent=latent, widths=widths, channels=channels, rate=rate, grows=grows,
            length=one("length", self.lengths), layers=loss_layers,
        ), view  # fmt: skip

    def start(self, base: TrainConfig, detector: str) -> dict[str, Any]:
        """Choices that give the base configuration with one of the methods ranking.

        What the space does not hold (another magnification, say) is left to the sampler.
        """
        found: dict[str, Any] = {"detector": detector}
        view = [name for name, frame in self.views.items() if frame == _view_of(base)]
        if view:
            found[self.view_name] = view[0]
        if base.features not in self.layers:
            return found
        network = base.features
        found["network"] = network
        if detector == "density":
            layers = self.density_layers[network][0]
            config = self._of_places(base, layers)
            name, choices = self._estimators(config, base)
            own = base.density_estimator or config.density("").estimator
            return found | {
                f"pooled layers of {network}": layers,
                **({name: own} if own in choices else {}),
            }
        return found | {
            f"layers of {network}": self.layers[network][0],
            "latent resolution": base.latent_resolution,
            "widths": _text(base.widths),
            "latent channels": base.latent_channels,
            "progressive": base.first_resolution < base.resolution,
            "learning rate": base.learning_rate,
            "length": 1.0,
        }

    def _of_places(self, config: TrainConfig, layers: str) -> TrainConfig:
        """Let ``density`` judge fields, or tiles, by these layers and as is usual for them."""
        return replace(
            config,
            density_layers=tuple(layers.split(_JOIN)),
            density_fields_um=self.fields_um.get(config.features, ()),
            density_estimator="",
        )

    def _estimators(self, config: TrainConfig, base: TrainConfig) -> tuple[str, tuple[str, ...]]:
        """Name the choice of an estimator, and give the choices."""
        usual = config.density("").estimator
        if usual in self.estimators:
            return "estimator", self.estimators
        # What knows other tissues (contrast) does so by the usual layers of the usual fields only.
        own = base.density_estimator or usual
        return "estimator of usual fields", tuple(dict.fromkeys((*self.estimators, usual, own)))


def _autoencoder(
    base: TrainConfig,
    *,
    latent: int,
    widths: tuple[int, ...],
    channels: int,
    rate: float,
    grows: bool,
    length: float,
    layers: str,
) -> TrainConfig:
    """Put the choices for ``dpa`` into a configuration."""
    final = base.resolution
    smallest = 4 if latent == 1 else latent
    former = base.first_resolution if base.first_resolution < final else final // 4
    first = max(smallest, former) if grows else final
    whole = sum(base.steps[final])
    steps, size = {}, first
    while size <= final:
        # Where the base does not train, as much as the published schedule in proportion.
        moves, stays = base.steps.get(size, (0, max(1, whole // 4)))
        if not grows:
            moves, stays = 0, whole
        steps[size] = (
            round(moves * length) if size > first else 0,
            max(1, round(stays * length)),
        )
        size *= 2
    own = dict(base.layers)
    if layers != _JOIN.join(base.dpa("").growth.layers[final]):
        own[final] = dict.fromkeys(layers.split(_JOIN), 1.0)
    if len(widths) > 1:
        # Such networks widen towards the bottleneck: a deeper one stays as wide as it is there.
        depth = (final // smallest).bit_length()
        widths = (*widths, *[widths[-1]] * depth)[:depth]
    return replace(
        base,
        latent_resolution=latent,
        latent_channels=channels,
        widths=widths,
        first_resolution=first,
        learning_rate=rate,
        steps=steps,
        layers=own,
    )


def with_network(base: TrainConfig, network: str) -> TrainConfig:
    """Change the perceptual network; layers of another one mean nothing to it."""
    if network == base.features:
        return base
    return replace(base, features=network, layers={}, density_layers=())


def _view_of(base: TrainConfig) -> tuple[int, int]:
    return base.magnification, base.field_um


def _first(own: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Return the base's own choice, then the others."""
    return tuple(dict.fromkeys((own, *choices)))


def _text(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))


def _widths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-"))

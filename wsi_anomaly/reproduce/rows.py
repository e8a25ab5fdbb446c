"""The rows of a table: a method, its published configuration, and how far it was scaled down.

Beside the methods there are the controls: the mean colour of an image, the same method on the same
network with random weights, a classifier with labels on the pooled features; of the autoencoder
also the one that has not been trained, and the denominator of its score, 1 / mean|f_hat(x)|, alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from wsi_anomaly.autoencoder import Architecture, GrowthConfig
from wsi_anomaly.baselines import BASELINES
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.detectors import Density, DensityConfig, Detector, Dpa, DpaConfig, growing_stages
from wsi_anomaly.features import PerceptualNetwork, network_spec
from wsi_anomaly.reproduce.baseline_settings import PIAD_LAYER, published_settings
from wsi_anomaly.reproduce.plan import ASIDE, PRECISIONS, Plan
from wsi_anomaly.reproduce.published import ABLATION, GRID, Published, configuration

MEAN_COLOUR, SUPERVISED, FUSION = "mean-colour", "supervised", "fusion"
RANDOM, UNTRAINED, DENOMINATOR = "-random", "dpa-untrained", "dpa-denominator"
CONTROLS = (
    MEAN_COLOUR, f"density{RANDOM}", f"dpa{RANDOM}", UNTRAINED, DENOMINATOR, SUPERVISED,
)  # fmt: skip
ROWS = ("dpa", "density", FUSION, *BASELINES, *ABLATION, *CONTROLS)
"""Every row that can be asked for."""

DEFAULT_ROWS = (
    "dpa", "density", FUSION, "deep-if", "deep-geo", "piad",
    MEAN_COLOUR, f"density{RANDOM}", SUPERVISED,
)  # fmt: skip
"""The systems of the paper's first table, this project's own, and the controls that cost little."""

FUSED = ("dpa", "density")

_POOLED_FROM = 64
_ENLARGED = {"lite0": 128}
_IMAGE_LAYERS = {"lite0": ("b3", "b4", "b5", "b6", "b7")}
"""Of networks with a setting of their own for images: `by-layer` over these, from this side on."""

_PUBLISHED_LAYERS = ("r12", "r22", "r32", "r42")

# Layers of other networks that are as deep as VGG19's: r32 sees 4 px apart, r42 8 px.
_AS_DEEP = {
    **{vgg: {name: name for name in _PUBLISHED_LAYERS} for vgg in ("vgg19", "vgg16")},
    "squeezenet": {"r12": "fire2", "r22": "fire3", "r32": "fire4", "r42": "fire7"},
    "compact": {"r12": "c2", "r22": "c2", "r32": "c2", "r42": "c3"},
}


# Networks that cannot look at smaller images: growing starts there, with the steps of the rest.
_LEAST_PX = {"squeezenet": 16}


def check_rows(rows: tuple[str, ...], source: str, aside: float = ASIDE) -> None:
    """Refuse rows that do not exist, or have no configuration for this set.

    Raises
    ------
    UsageError
        With the names that would do.
    """
    for row in rows:
        if row not in ROWS:
            raise UsageError(f"There is no row {row!r}; choose among {', '.join(ROWS)}.")
        if row == FUSION and not aside:
            raise UsageError("The fusion is weighed by images set aside; leave --aside 0 away.")
        if row in ABLATION and source in ("cifar10", "svhn"):
            raise UsageError(
                f"The paper has no ablation on {source}; it has one on camelyon16 and nih, and "
                "folder takes the configurations of nih."
            )


def main_run(source: str, problem: str) -> Published:
    """Give the configuration of the published detector on a problem."""
    found = configuration(source, problem, "dpa")
    if found is None:
        raise UsageError(f"The paper has no configuration for {source} {problem}.")
    return found


def size_of(row: str, source: str, problem: str, plan: Plan) -> int:
    """Side of the images that a row sees, px.

    Small photographs are enlarged for rows that pool a network's features, as in the paper: at 32
    px little is left of them in its deep layers. Networks that train see the published size.
    """
    published = main_run(source, problem).resolution
    pooled = row.removesuffix(RANDOM) in ("density", "deep-if", SUPERVISED)
    least = _ENLARGED.get(plan.features, _POOLED_FROM)
    return plan.size or (max(least, published) if pooled else published)


def settings_of(row: str, source: str, problem: str, plan: Plan) -> dict[str, Any]:
    """Everything but the images and the seed that decides what a row gives; plain values."""
    base = "dpa" if row in (UNTRAINED, DENOMINATOR) else row.removesuffix(RANDOM)
    size = size_of(row, source, problem, plan)
    found: dict[str, Any] = {"row": row, "size": size}
    run = configuration(source, problem, base if _is_dpa(base) else "dpa")
    assert run is not None
    # The baselines were configured once for a set: nothing equalised, digits in colour.
    found["equalise"] = run.equalise and base not in BASELINES
    if source == "svhn" and base not in BASELINES:
        found["grey"] = True
    if row == MEAN_COLOUR:
        return found
    found["features"] = plan.features
    found["weights"] = fingerprint(plan.weights) if plan.weights else ""
    if plan.precision != PRECISIONS[0]:
        found["precision"] = plan.precision
    if row == FUSION:
        return found | {"of": [settings_of(name, source, problem, plan) for name in FUSED]}
    if _is_dpa(base):
        return found | _dpa(_changed(run, plan) if base == "dpa" else run, plan, size)
    layers = list(_pooled_layers(plan.features))
    if base in ("density", SUPERVISED):
        # What docs/results.md found before: the second distance helps on tissue, not elsewhere.
        estimator = "both" if source == "camelyon16" else "mahalanobis"
        if source != "camelyon16" and plan.features in _IMAGE_LAYERS:
            estimator, layers = "by-layer", list(_IMAGE_LAYERS[plan.features])
        density = {"layers": layers, "estimator": estimator}
        density |= _given("density", density, plan)
        return found | (density if base == "density" else {"layers": density["layers"]})
    return found | _baseline(base, published_settings(base, source, problem), plan, size, layers)


def _is_dpa(row: str) -> bool:
    return row == "dpa" or row in ABLATION or row in GRID


def _pooled_layers(features: str) -> tuple[str, ...]:
    """Layers whose averages make an embedding; the network's usual ones."""
    spec = network_spec(features)
    return (spec.pooled_layers if spec else ()) or ("",)


def _changed(run: Published, plan: Plan) -> Published:
    """Change a published run as the plan's options say."""
    known = {
        "learning_rate": run.learning_rate, "latent_channels": run.latent_channels,
        "width": run.widths[0], "layer": run.layers[run.resolution][-1], "flips": run.flips,
    }  # fmt: skip
    given = _given("dpa", known, plan)
    if "width" in given:
        given["widths"] = (given.pop("width"),)
    if "layer" in given:
        given["layers"] = {**run.layers, run.resolution: (given.pop("layer"),)}
    return replace(run, **given)


def _dpa(run: Published, plan: Plan, size: int) -> dict[str, Any]:
    times = size // run.resolution if size >= run.resolution else 1
    if size < run.resolution:
        raise UsageError(
            f"This configuration is made for images of {run.resolution} px; give --size "
            f"{run.resolution} or more."
        )
    smallest = _LEAST_PX.get(plan.features, 8)
    lengths = {at * times: pair for at, pair in run.steps.items() if at * times >= smallest}
    first = min(lengths)
    lengths[first] = (0, lengths[first][1])
    share = plan.scaled(run.total_steps) / sum(map(sum, lengths.values()))
    octaves_more = times.bit_length() - 1
    widths = run.widths if len(run.widths) == 1 else run.widths[:1] * octaves_more + run.widths
    return {
        "resolution": size,
        "first_resolution": first,
        "latent_resolution": run.latent_resolution,
        "latent_channels": run.latent_channels,
        "widths": list(widths),
        "image_channels": run.image_channels,
        "loss_layers": {
            str(at * times): [_as_deep(name, plan.features) for name in names]
            for at, names in run.layers.items()
            if at * times in lengths
        },
        "learning_rate": run.learning_rate,
        "batch_size": plan.batch_size or run.batch_size,
        "steps": {
            str(at): [round(a * share), max(1, round(b * share))] for at, (a, b) in lengths.items()
        },
        "adversarial_weight": run.adversarial_weight,
        "pixel_weight": run.pixel_weight,
        "flips": run.flips,
        "score_pixels": run.pixel_weight > 0,
        "published": [run.total_steps, run.batch_size],
    }


def _as_deep(layer: str, features: str) -> str:
    """Layer of a network in the place of a published one, "" for its usual one; others as given."""
    if layer not in _PUBLISHED_LAYERS:
        return layer
    return _AS_DEEP.get(features, {}).get(layer, "")


def _baseline(
    name: str, published: Mapping[str, Any], plan: Plan, size: int, layers: list[str]
) -> dict[str, Any]:
    """Own defaults of a baseline, `published` values over them, scaled like the others."""
    known: dict[str, Any] = {f.name: f.default for f in fields(BASELINES[name].config_type)}
    known |= published
    found = dict(published)
    if "layers" in known:
        found["layers"] = layers
    if "layer" in known:
        found["layer"] = _as_deep(PIAD_LAYER, plan.features)
    if "resolution" in known:
        found["resolution"] = size
    if "steps" in known:
        found["steps"] = plan.scaled(int(known["steps"]))
        found["batch_size"] = plan.batch_size or int(known["batch_size"])
        found["published"] = [known["steps"], known["batch_size"]]
    return found | _given(name, known, plan)


def _given(row: str, known: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """Options that the plan gives for a row, by name."""
    split = {option: option.partition(".") for option in plan.options}
    return {
        name: _value(option, plan.options[option], known)
        for option, (owner, _, name) in split.items()
        if owner == row
    }


def _value(option: str, text: str, known: Mapping[str, Any]) -> Any:
    """Read an option as its default is: number, true or false, name, or names joined by +."""
    default = known.get(option.partition(".")[2])
    kinds: dict[type, Any] = {
        int: int, float: float, bool: {"true": True, "false": False}.get, str: str,
        list: lambda names: names.split("+"),
    }  # fmt: skip
    value = None
    if type(default) in kinds:
        with contextlib.suppress(ValueError):
            value = kinds[type(default)](text)
    if value is None:
        names = sorted(name for name, one in known.items() if type(one) in kinds)
        raise UsageError(
            f"--option {option}={text} makes no sense; {option.partition('.')[0]} has "
            f"{', '.join(names)}."
        )
    return value


def make_detector(settings: Mapping[str, Any], features: PerceptualNetwork, seed: int) -> Detector:
    """Build the detector of a row, unfitted; of the supervised control, the one that embeds."""
    base = str(settings["row"]).removesuffix(RANDOM)
    if _is_dpa(base) or base in (UNTRAINED, DENOMINATOR):
        return Dpa(features, _dpa_config(settings, features.default_layer, seed))
    if base in ("density", SUPERVISED):
        estimator = settings.get("estimator", "both")
        return Density(features, DensityConfig(_layers(settings, features), estimator, seed=seed))
    known = {f.name for f in fields(BASELINES[base].config_type)}
    values = {k: v for k, v in settings.items() if k in known} | {"seed": seed}
    if "layers" in known:
        values["layers"] = _layers(settings, features)
    if "layer" in known:
        values["layer"] = settings["layer"] or features.default_layer
    return BASELINES[base](features, BASELINES[base].config_type(**values))


def _layers(settings: Mapping[str, Any], features: PerceptualNetwork) -> tuple[str, ...]:
    return tuple(name or features.default_layer for name in settings["layers"])


def _dpa_config(settings: Mapping[str, Any], default_layer: str, seed: int) -> DpaConfig:
    architecture = Architecture(
        resolution=settings["resolution"],
        first_resolution=settings["first_resolution"],
        latent_resolution=settings["latent_resolution"],
        latent_channels=settings["latent_channels"],
        widths=tuple(settings["widths"]),
        image_channels=settings["image_channels"],
    )
    growth = GrowthConfig(
        layers={
            int(at): dict.fromkeys((name or default_layer for name in names), 1.0)
            for at, names in settings["loss_layers"].items()
        },
        learning_rate=settings["learning_rate"],
        pixel_weight=settings["pixel_weight"],
        adversarial_weight=settings["adversarial_weight"],
    )
    steps = {int(at): (pair[0], pair[1]) for at, pair in settings["steps"].items()}
    stages = growing_stages(architecture, steps)
    return DpaConfig(
        architecture,
        growth,
        stages,
        settings["batch_size"],
        seed,
        settings["flips"],
        settings["score_pixels"],
    )


def used_layers(settings: Mapping[str, Any], features: PerceptualNetwork) -> tuple[str, ...]:
    """Layers of the network that a row looks at: those that need per-filter statistics."""
    found: list[str] = list(settings.get("layers", ()))
    found += [settings["layer"]] if "layer" in settings else []
    for names in settings.get("loss_layers", {}).values():
        found += names
    return tuple(dict.fromkeys(name or features.default_layer for name in found))

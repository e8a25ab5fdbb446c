"""Rows are configured as published, and scaled as asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors import Dpa
from wsi_anomaly.features import load_features
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.published import (
    ABLATION,
    CONFIGURATIONS,
    FIGURES,
    configuration,
)
from wsi_anomaly.reproduce.rows import (
    ROWS,
    check_rows,
    make_detector,
    settings_of,
)

PLAN = Plan(features="compact")


def test_camelyon16_is_configured_as_published() -> None:
    network = load_features("vgg19", random_seed=0)
    settings = settings_of("dpa", "camelyon16", "healthy", Plan())
    detector = make_detector(settings, network, 0)
    assert isinstance(detector, Dpa)
    config = detector.config
    assert sum(stage.steps for stage in config.stages) == 88_666
    assert config.batch_size == 128
    assert config.growth.layers == {16: {"r32": 1.0}, 32: {"r32": 1.0}, 64: {"r42": 1.0}}
    from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder

    grown = ProgressiveAutoencoder(config.architecture).grown()
    assert sum(p.numel() for p in grown.parameters()) == 4_959


def test_every_published_run_can_be_built() -> None:
    network = load_features("vgg19", random_seed=0)
    for source, problems in CONFIGURATIONS.items():
        for problem, runs in problems.items():
            for row in runs:
                make_detector(settings_of(row, source, problem, Plan()), network, 0)


def test_each_row_of_the_ablation_changes_one_thing() -> None:
    chosen = settings_of("dpa-2", "camelyon16", "healthy", PLAN)
    for row, changed in (
        ("dpa-4", {"adversarial_weight", "learning_rate"}),
        ("dpa-5", {"pixel_weight", "score_pixels"}),
    ):
        other = settings_of(row, "camelyon16", "healthy", PLAN)
        assert {k for k in chosen if chosen[k] != other[k]} == changed | {"row"}
    assert (
        settings_of("dpa-6", "nih", "PA", PLAN)["steps"]
        == (settings_of("dpa", "nih", "PA", PLAN)["steps"])
    )


def test_the_controls_of_the_autoencoder_are_configured_as_it_is() -> None:
    own = settings_of("dpa", "cifar10", "bird", PLAN)
    for row in ("dpa-untrained", "dpa-denominator", "dpa-random"):
        assert settings_of(row, "cifar10", "bird", PLAN) == own | {"row": row}


def test_the_published_layers_are_those_of_either_vgg() -> None:
    for features in ("vgg16", "vgg19"):
        plan = Plan(features=features)
        assert settings_of("dpa", "cifar10", "airplane", plan)["loss_layers"] == {"32": ["r32"]}


def test_a_layer_that_is_asked_for_is_taken_on_any_network() -> None:
    for features in ("lite0", "compact"):
        plan = Plan(features=features, options={"dpa.layer": "b6"})
        assert settings_of("dpa", "cifar10", "bird", plan)["loss_layers"] == {"32": ["b6"]}
    usual = settings_of("dpa", "cifar10", "bird", Plan(features="lite0"))
    assert usual["loss_layers"] == {"32": [""]}


def test_lite0_judges_images_by_layer_and_enlarged_and_slides_as_before() -> None:
    plan = Plan(features="lite0")
    images = settings_of("density", "folder", "normal", plan)
    assert (images["estimator"], images["size"]) == ("by-layer", 128)
    assert images["layers"] == ["b3", "b4", "b5", "b6", "b7"]
    assert settings_of("density-random", "folder", "normal", plan) == images | {
        "row": "density-random"
    }
    slides = settings_of("density", "camelyon16", "healthy", plan)
    assert (slides["estimator"], slides["layers"]) == ("both", ["b4", "b5", "b6"])
    other = settings_of("density", "folder", "normal", PLAN)
    assert (other["estimator"], other["size"]) == ("mahalanobis", 64)


def test_lengths_are_scaled_stage_by_stage() -> None:
    tenth = settings_of("dpa", "camelyon16", "healthy", Plan(fraction=0.1))
    assert tenth["steps"] == {"16": [0, 2000], "32": [2000, 2000], "64": [2000, 867]}
    short = settings_of("dpa", "camelyon16", "healthy", Plan(steps=5))
    assert all(pair[1] >= 1 for pair in short["steps"].values())
    assert settings_of("deep-geo", "cifar10", "cat", Plan(steps=7, batch_size=4))["steps"] == 7


def test_growing_starts_at_what_the_network_can_look_at() -> None:
    features = load_features("squeezenet", random_seed=0)
    settings = settings_of("dpa", "nih", "subset", Plan(features="squeezenet", steps=1000))
    assert settings["first_resolution"] == 16
    assert set(settings["loss_layers"]) == set(settings["steps"]) == {"16", "32", "64"}
    assert sum(map(sum, settings["steps"].values())) == pytest.approx(1000, abs=3)
    images = torch.zeros(2, 3, 16, 16)
    assert features.activations(images, ["fire2"])["fire2"].shape[2] >= 1
    make_detector(settings, features, 0)


def test_larger_images_keep_the_bottleneck() -> None:
    wide = settings_of("dpa", "cifar10", "cat", Plan(size=64, features="squeezenet"))
    assert wide["widths"] == [32, 32, 64, 128, 256]
    assert wide["latent_resolution"] == 1
    assert wide["loss_layers"] == {"64": ["fire4"]}
    with pytest.raises(UsageError, match="--size 32 or more"):
        settings_of("dpa", "cifar10", "cat", Plan(size=16))


def test_detectors_take_other_values_than_their_usual_ones() -> None:
    """Those of the decisive test in docs/results.md: one latent vector, one layer, few channels."""
    options = {"dpa.width": "4", "dpa.layer": "c4", "dpa.learning_rate": "0.003"}
    plan = Plan(features="compact", size=64, steps=500, batch_size=32, options=options)
    for row in ("dpa", "dpa-random"):
        settings = settings_of(row, "cifar10", "automobile", plan)
        assert settings["widths"] == [4]
        assert (settings["latent_resolution"], settings["latent_channels"]) == (1, 8)
        assert settings["loss_layers"] == {"64": ["c4"]}
        assert settings["steps"] == {"64": [0, 500]}
        assert settings["learning_rate"] == 0.003
    layers = Plan(options={"density.layers": "r32+r42"})
    for row in ("density", "density-random", "supervised"):
        assert settings_of(row, "cifar10", "cat", layers)["layers"] == ["r32", "r42"]
    for wrong in ("density.depth", "dpa.width"):
        with pytest.raises(UsageError, match=rf"--option {wrong}=many makes no sense"):
            settings_of(wrong.split(".")[0], "cifar10", "cat", Plan(options={wrong: "many"}))
    with pytest.raises(UsageError, match="names no detector"):
        Plan(options={"mean-colour.x": "1"})


def test_what_needs_images_set_aside_is_refused_without() -> None:
    with pytest.raises(UsageError, match="--aside 0"):
        check_rows(("fusion",), "folder", aside=0)
    with pytest.raises(UsageError, match="--aside is at least 0"):
        Plan(aside=0.9)


def test_small_photographs_are_enlarged_for_pooled_features_only() -> None:
    assert settings_of("density", "cifar10", "cat", PLAN)["size"] == 64
    assert settings_of("dpa", "cifar10", "cat", PLAN)["size"] == 32
    assert settings_of("deep-geo", "cifar10", "cat", PLAN)["size"] == 32


def test_rows_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="no row 'x'"):
        check_rows(("x",), "folder")
    with pytest.raises(UsageError, match="no ablation on svhn"):
        check_rows(("dpa-3",), "svhn")
    check_rows(ROWS, "folder")
    for bad in ({"size": 48}, {"fraction": 0}, {"fraction": 2}, {"steps": 0}, {"judge": 2}):
        with pytest.raises(UsageError):
            Plan(**bad)


def test_the_papers_figures_are_where_the_paper_has_them() -> None:
    cifar = FIGURES["cifar10"]
    # The mean of the classes is the paper's own mean, to a rounding.
    for row in ("dpa", "deep-if", "deep-geo", "piad"):
        classes = list(cifar[row].tuned.values())
        assert sum(classes) / 10 == pytest.approx(cifar[row].mean[1], abs=0.06)
    svhn = FIGURES["svhn"]
    for row in ("dpa", "deep-if", "deep-geo", "piad"):
        classes = list(svhn[row].tuned.values())
        assert sum(classes) / 10 == pytest.approx(svhn[row].mean[1], abs=0.06)
    assert [FIGURES["camelyon16"][row].tuned["healthy"] for row in ABLATION][-1] == 93.4
    subset = configuration("nih", "subset", "dpa")
    assert subset is not None
    assert configuration("folder", "normal", "dpa") == replace(subset, image_channels=3)
    assert configuration("cifar10", "normal", "dpa") is None

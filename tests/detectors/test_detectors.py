"""What every detector keeps, whatever its method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SIZE, abnormal_tiles, network, normal_tiles

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, Stage
from wsi_anomaly.autoencoder.batches import ArrayTiles, to_images
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors import (
    DETECTORS,
    Density,
    DensityConfig,
    Detector,
    Dpa,
    DpaConfig,
    Fitting,
    Fusion,
    growing_stages,
)
from wsi_anomaly.detectors.compared import (
    Anogan,
    AnoganConfig,
    Daol,
    DaolConfig,
    DeepGeo,
    DeepGeoConfig,
    DeepIf,
    DeepIfConfig,
    DeepSvdd,
    DeepSvddConfig,
    Dsebm,
    DsebmConfig,
    Ganomaly,
    GanomalyConfig,
    Piad,
    PiadConfig,
)
from wsi_anomaly.features.network import PerceptualNetwork


def dpa_config(steps: int = 120) -> DpaConfig:
    architecture = Architecture(
        resolution=SIZE, first_resolution=8, latent_resolution=1, latent_channels=3, widths=(8,)
    )
    stages = growing_stages(architecture, {8: (0, steps // 2), 16: (steps // 4, steps)})
    growth = GrowthConfig(layers={8: {"a": 1.0}, 16: {"b": 1.0}}, learning_rate=5e-3)
    return DpaConfig(architecture, growth, stages, batch_size=16)


def make_dpa(features: PerceptualNetwork) -> Detector:
    return Dpa(features, dpa_config())


def make_density(features: PerceptualNetwork) -> Detector:
    return Density(features, DensityConfig(("a", "b")))


def make_deep_if(features: PerceptualNetwork) -> Detector:
    return DeepIf(features, DeepIfConfig(layers=("a", "b")))


def make_deep_geo(features: PerceptualNetwork) -> Detector:
    return DeepGeo(
        features, DeepGeoConfig(resolution=SIZE, width=1, steps=40, batch_size=32, report_every=5)
    )


def make_piad(features: PerceptualNetwork) -> Detector:
    config = PiadConfig(
        layer="b", resolution=SIZE // 2, width=8, latent=4, steps=80, batch_size=16,
        report_every=10, learning_rate=5e-3, critic_learning_rate=2e-3, critic_steps=1,
        weigh_every=10,
    )  # fmt: skip
    return Piad(features, config)


QUICK: dict[str, Any] = {"resolution": SIZE, "width": 16, "batch_size": 16, "report_every": 10}


def make_deep_svdd(features: PerceptualNetwork) -> Detector:
    config = DeepSvddConfig(pretrain_steps=40, steps=40, outputs=16, learning_rate=3e-3, **QUICK)
    return DeepSvdd(features, config)


def make_ganomaly(features: PerceptualNetwork) -> Detector:
    return Ganomaly(features, GanomalyConfig(latent=8, steps=100, learning_rate=3e-3, **QUICK))


def make_daol(features: PerceptualNetwork) -> Detector:
    return Daol(features, DaolConfig(latent=8, steps=120, learning_rate=3e-3, **QUICK))


def make_anogan(features: PerceptualNetwork) -> Detector:
    config = AnoganConfig(
        latent=4, steps=150, learning_rate=1e-3, search_steps=30, search_rate=0.1, **QUICK
    )
    return Anogan(features, config)


def make_dsebm(features: PerceptualNetwork) -> Detector:
    return Dsebm(features, DsebmConfig(hidden=64, steps=120, learning_rate=3e-3, **QUICK))


def make_fusion(features: PerceptualNetwork) -> Detector:
    tiles = ArrayTiles(normal_tiles(120))
    return Fusion([make_density(features).fit(tiles), Dpa(features, dpa_config(8)).fit(tiles)])


MAKERS: dict[str, Callable[[PerceptualNetwork], Detector]] = {
    "dpa": make_dpa,
    "density": make_density,
    "fusion": make_fusion,
    "deep-if": make_deep_if,
    "deep-geo": make_deep_geo,
    "piad": make_piad,
    "deep-svdd": make_deep_svdd,
    "ganomaly": make_ganomaly,
    "anogan": make_anogan,
    "dsebm": make_dsebm,
    "daol": make_daol,
}


WITHOUT_MAP = {"density", "deep-if", "deep-geo", "deep-svdd", "ganomaly"}


@pytest.fixture(scope="module", params=list(MAKERS))
def fitted(request: pytest.FixtureRequest) -> Detector:
    fitting = Fitting.on("cpu")
    fitting.anomalies = ArrayTiles(abnormal_tiles(10, seed=5))
    return MAKERS[request.param](network()).fit(
        ArrayTiles(normal_tiles(120)), ArrayTiles(normal_tiles(40, seed=1)), fitting
    )


def test_every_detector_is_in_this_suite():
    assert set(MAKERS) == set(DETECTORS.names())


def test_abnormal_tiles_score_higher(fitted):
    normal = fitted.score_samples(normal_tiles(40, seed=2))
    abnormal = fitted.score_samples(abnormal_tiles(40, seed=2))
    assert (abnormal[:, None] > normal[None]).mean() > 0.95


def test_scores_are_one_finite_number_a_tile(fitted):
    images = normal_tiles(200, seed=3)  # more than one batch
    scores = fitted.score_samples(images)
    assert scores.shape == (200,)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert fitted.score_samples(images[:0]).shape == (0,)


@pytest.mark.parametrize("value", [0, 255])
def test_blank_tiles_get_a_finite_score(fitted, value):
    assert np.isfinite(fitted.score_samples(np.full((3, SIZE, SIZE, 3), value, np.uint8))).all()


def test_a_score_does_not_depend_on_the_other_tiles(fitted):
    images = np.concatenate([normal_tiles(9, seed=4), abnormal_tiles(4)])
    together = fitted.score_samples(images)
    alone = np.concatenate([fitted.score_samples(images[i : i + 1]) for i in range(len(images))])
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)


def test_scoring_changes_nothing(fitted):
    images = normal_tiles(20, seed=6)
    before = images.copy()
    first = fitted.score_samples(images)
    assert np.array_equal(fitted.score_samples(images), first)
    assert np.array_equal(images, before)


def test_fitting_twice_gives_the_same_scores(fitted):
    again = MAKERS[fitted.name](network())
    fitting = Fitting.on("cpu")
    fitting.anomalies = ArrayTiles(abnormal_tiles(10, seed=5))
    again.fit(ArrayTiles(normal_tiles(120)), ArrayTiles(normal_tiles(40, seed=1)), fitting)
    images = abnormal_tiles(10)
    assert np.array_equal(again.score_samples(images), fitted.score_samples(images))


def test_state_goes_to_json_and_tensors_and_back(fitted):
    tensors, config = fitted.to_state()
    assert all(isinstance(t, torch.Tensor) for t in tensors.values())
    others = {m.name: m for m in getattr(fitted, "members", ())}
    rebuilt = type(fitted).from_state(tensors, config, fitted.features, others)
    images = abnormal_tiles(10)
    assert np.array_equal(rebuilt.score_samples(images), fitted.score_samples(images))


def test_damaged_state_is_noticed(fitted):
    tensors, config = fitted.to_state()
    others = {m.name: m for m in getattr(fitted, "members", ())}
    for name in list(tensors)[:3]:
        nothing = float("nan") if tensors[name].is_floating_point() else -1
        broken = {**tensors, name: torch.full_like(tensors[name], nothing)}
        with pytest.raises((ValueError, KeyError, RuntimeError)):
            type(fitted).from_state(broken, config, fitted.features, others)
        missing = {k: v for k, v in tensors.items() if k != name}
        with pytest.raises((ValueError, KeyError, RuntimeError)):
            type(fitted).from_state(missing, config, fitted.features, others)


def test_a_map_has_the_size_of_the_tile_or_does_not_exist(fitted):
    x = to_images(abnormal_tiles(3))
    with torch.inference_mode():
        found = fitted.map_batch(x, fitted.features(x, fitted.layers))
    if fitted.name in WITHOUT_MAP:
        assert found is None
    else:
        assert found.shape == (3, SIZE, SIZE)
        assert (found >= 0).all()


# -- what is particular to one method ------------------------------------------------------------


def test_the_map_of_dpa_averages_to_its_score():
    detector = make_dpa(network()).fit(ArrayTiles(normal_tiles(60)))
    images = abnormal_tiles(4)
    x = to_images(images)
    with torch.inference_mode():
        found = detector.map_batch(x, detector.features(x, detector.layers)).mean((1, 2))
    assert found.numpy() == pytest.approx(detector.score_samples(images), rel=0.02)


def test_dpa_refuses_tiles_of_another_size():
    with pytest.raises(ModelError, match="16 px"):
        make_dpa(network()).fit(ArrayTiles(np.zeros((30, 32, 32, 3), np.uint8)))


def test_dpa_rebuilds_larger_tiles_whole():
    config = dpa_config(30)
    architecture = replace(config.architecture, resolution=8, latent_resolution=4)
    stages = growing_stages(architecture, {8: (0, 30)})
    growth = GrowthConfig(layers={8: {"b": 1.0}}, learning_rate=5e-3)
    detector = Dpa(network(), DpaConfig(architecture, growth, stages, batch_size=16))
    detector.fit(ArrayTiles(normal_tiles(60)), ArrayTiles(normal_tiles(10, seed=1)))
    scores = detector.score_samples(abnormal_tiles(5))
    assert scores.shape == (5,)
    assert np.isfinite(scores).all()
    x = to_images(abnormal_tiles(5))
    with torch.inference_mode():
        assert detector.autoencoder_(x).shape == x.shape
        assert detector.map_batch(x, detector.features(x, ("b",))).shape == (5, SIZE, SIZE)


def reporting_often(detector: Detector) -> Detector:
    config: Any = detector.config  # type: ignore[attr-defined]
    if isinstance(config, DpaConfig):
        config = replace(config, loop=replace(config.loop, report_every=10))
    detector.config = config  # type: ignore[attr-defined]
    return detector


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in ("density", "fusion", "deep-if")])
def test_training_resumes_from_its_checkpoint(name, tmp_path):
    tiles, straight = ArrayTiles(normal_tiles(60)), MAKERS[name](network())
    straight.fit(tiles)
    fitting = Fitting.on("cpu")
    fitting.checkpoint = tmp_path
    interrupted = reporting_often(MAKERS[name](network()))
    seen = []

    def stop(report) -> None:
        seen.append(report.step)
        if len(seen) == 5:
            raise KeyboardInterrupt

    fitting.progress = stop
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(tiles, None, fitting)
    fitting.progress = lambda report: seen.append(report.step)
    interrupted.fit(tiles, None, fitting)
    assert seen == sorted(set(seen))  # no step was done twice
    images = abnormal_tiles(5)
    assert np.array_equal(interrupted.score_samples(images), straight.score_samples(images))


def test_a_schedule_grows_to_the_final_resolution():
    architecture = Architecture(resolution=64, first_resolution=16)
    stages = growing_stages(architecture, {16: (0, 20), 32: (5, 20), 64: (5, 8)})
    assert stages == (
        Stage(16, transition=False, steps=20),
        Stage(32, transition=True, steps=5),
        Stage(32, transition=False, steps=20),
        Stage(64, transition=True, steps=5),
        Stage(64, transition=False, steps=8),
    )
    with pytest.raises(UsageError, match="64 px"):
        DpaConfig(architecture, GrowthConfig(), stages[:3])

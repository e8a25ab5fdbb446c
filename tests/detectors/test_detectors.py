"""Our detectors keep what every detector keeps, and what is particular to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contract import DetectorContract
from drawn import SIZE, abnormal_tiles, network, normal_tiles

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, Stage
from wsi_anomaly.baselines import (
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
from wsi_anomaly.features.network import PerceptualNetwork
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream, to_images


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
        layer="b", resolution=SIZE // 2, width=8, latent=4, steps=160, batch_size=16,
        report_every=10, learning_rate=5e-3, critic_learning_rate=2e-3, critic_steps=1,
        weigh_every=10,
    )  # fmt: skip
    return Piad(features, config)


QUICK: dict[str, Any] = {"resolution": SIZE, "width": 16, "batch_size": 16, "report_every": 10}


def make_deep_svdd(features: PerceptualNetwork) -> Detector:
    config = DeepSvddConfig(pretrain_steps=40, steps=40, outputs=16, learning_rate=3e-3, **QUICK)
    return DeepSvdd(features, config)


def make_ganomaly(features: PerceptualNetwork) -> Detector:
    return Ganomaly(features, GanomalyConfig(latent=8, steps=150, learning_rate=1e-3, **QUICK))


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


class TestOurs(DetectorContract):
    @pytest.fixture(scope="class", params=list(MAKERS))
    @classmethod
    def make(cls, request: pytest.FixtureRequest) -> Callable[[PerceptualNetwork], Detector]:
        return MAKERS[request.param]

    def test_those_that_rebuild_the_tile_have_a_map(self, fitted):
        x = to_images(abnormal_tiles(3))
        with torch.inference_mode():
            found = fitted.map_batch(x, fitted.features(x, fitted.layers))
        assert (found is None) == (fitted.name in WITHOUT_MAP)


def test_every_detector_is_in_this_suite():
    assert set(MAKERS) == set(DETECTORS.names())


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


def test_flips_are_the_configurations_and_stored_with_the_model(monkeypatch):
    seen = []
    make = BatchStream.__init__

    def noted(self, *arguments, **options):
        seen.append(options["flips"])
        make(self, *arguments, **options)

    monkeypatch.setattr(BatchStream, "__init__", noted)
    for flips in (True, False):
        detector = Dpa(network(), replace(dpa_config(4), flips=flips))
        detector.fit(ArrayTiles(normal_tiles(20)))
        assert DpaConfig.from_dict(detector.to_state()[1]).flips is flips
    assert seen == [True, False]
    former = {
        k: v for k, v in dpa_config(4).to_dict().items() if k not in ("flips", "score_pixels")
    }
    assert DpaConfig.from_dict(former) == dpa_config(4)  # 0.1.0 flipped always


def test_the_score_holds_the_pixel_term_where_it_is_asked_for():
    config = dpa_config(4)
    config = replace(config, growth=replace(config.growth, pixel_weight=0.5))
    plain = Dpa(network(), config).fit(ArrayTiles(normal_tiles(20)))
    with_pixels = Dpa(plain.features, replace(config, score_pixels=True))
    with_pixels.autoencoder_ = plain.autoencoder_
    images = to_images(abnormal_tiles(3))
    with torch.no_grad():
        difference = (images - plain.autoencoder_(images)).abs().mean((1, 2, 3))
    extra = with_pixels.score_samples(abnormal_tiles(3)) - plain.score_samples(abnormal_tiles(3))
    assert extra == pytest.approx(0.5 * difference.numpy(), abs=1e-5)


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

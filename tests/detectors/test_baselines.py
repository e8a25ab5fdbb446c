"""What is particular to other compared systems; the common suite is in test_detectors.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import torch
from drawn import abnormal_tiles, network, normal_tiles

from wsi_anomaly.baselines import (
    Anogan,
    AnoganConfig,
    Daol,
    DaolConfig,
    DeepGeo,
    DeepGeoConfig,
    DeepSvdd,
    DeepSvddConfig,
    Dsebm,
    DsebmConfig,
    Ganomaly,
    GanomalyConfig,
    Piad,
    PiadConfig,
)
from wsi_anomaly.baselines.deep_svdd import SvddEncoder, contrast_normalised
from wsi_anomaly.baselines.dsebm import Energy
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors import Fitting
from wsi_anomaly.learning.batches import ArrayTiles, to_images
from wsi_anomaly.learning.loop import NotFiniteError

# -- deep-svdd -----------------------------------------------------------------------------------

TINY = {"resolution": 16, "width": 8, "batch_size": 8}


def test_the_encoder_of_deep_svdd_has_nothing_that_maps_all_images_to_one_point():
    encoder = SvddEncoder(DeepSvddConfig(resolution=32))
    names = [name for name, _ in encoder.named_parameters()]
    assert len(names) == 4  # three convolutions and one matrix
    assert not any("bias" in name for name in names)
    assert [p.shape[0] for p in encoder.parameters()] == [32, 64, 128, 128]


def test_deep_svdd_does_not_collapse():
    config = DeepSvddConfig(
        pretrain_steps=20, steps=80, outputs=16, learning_rate=3e-3, report_every=20, **TINY
    )
    detector = DeepSvdd(network(), config).fit(ArrayTiles(normal_tiles(60)))
    centre = detector.networks_["centre"].point
    assert (centre.abs() >= 0.1).all()
    with torch.inference_mode():
        normal, other = (
            detector.networks_["encoder"](to_images(tiles))
            for tiles in (normal_tiles(20, seed=3), abnormal_tiles(20))
        )
    # Normal images stay apart, and others are much farther away.
    assert float(normal.std(0).mean()) > 1e-3
    assert float((other - centre).norm(dim=1).min()) > 2 * float(
        (normal - centre).norm(dim=1).max()
    )
    stages = {entry["stage"] for entry in detector.log_}
    assert stages == {"deep-svdd: autoencoder", "deep-svdd: towards the centre"}


def test_the_score_of_deep_svdd_is_the_squared_distance():
    config = DeepSvddConfig(pretrain_steps=2, steps=2, outputs=16, **TINY)
    detector = DeepSvdd(network(), config).fit(ArrayTiles(normal_tiles(12)))
    with torch.inference_mode():
        found = detector.networks_["encoder"](to_images(abnormal_tiles(3)))
    expected = ((found - detector.networks_["centre"].point) ** 2).sum(1)
    assert detector.score_samples(abnormal_tiles(3)) == pytest.approx(expected.numpy(), rel=1e-4)


def test_contrast_is_normalised_image_by_image():
    images = torch.randn(4, 3, 8, 8) * torch.tensor([0.1, 1, 5, 0]).view(-1, 1, 1, 1) + 0.3
    found = contrast_normalised(images)
    assert found.mean((1, 2, 3)).numpy() == pytest.approx(np.zeros(4), abs=1e-5)
    sizes = found.abs().mean((1, 2, 3)).numpy()
    assert sizes == pytest.approx(np.array([1, 1, 1, 0]), abs=1e-4)


# -- ganomaly and daol ---------------------------------------------------------------------------


def test_the_score_of_ganomaly_is_the_difference_of_the_two_vectors():
    detector = Ganomaly(network(), GanomalyConfig(latent=5, steps=2, **TINY))
    detector.fit(ArrayTiles(normal_tiles(12)))
    x, n = to_images(abnormal_tiles(3)), detector.networks_
    with torch.inference_mode():
        vector = n["encoder"](x)
        again = n["second"](n["decoder"](vector))
    assert vector.shape == (3, 5, 1, 1)
    expected = ((vector - again) ** 2).flatten(1).mean(1).numpy()
    assert detector.score_samples(abnormal_tiles(3)) == pytest.approx(expected, rel=1e-4)


def test_the_score_of_daol_is_the_error_of_the_rebuilt_image():
    detector = Daol(network(), DaolConfig(latent=5, steps=2, **TINY))
    detector.fit(ArrayTiles(normal_tiles(12)))
    x, n = to_images(abnormal_tiles(3)), detector.networks_
    with torch.inference_mode():
        expected = (x - n["decoder"](n["encoder"](x))).abs().mean((1, 2, 3)).numpy()
        map_ = detector.map_batch(x, {})
    assert detector.score_samples(abnormal_tiles(3)) == pytest.approx(expected, rel=1e-4)
    assert map_.mean((1, 2)).numpy() == pytest.approx(expected, rel=1e-4)


# -- anogan --------------------------------------------------------------------------------------


def test_the_residual_of_anogan_falls_with_the_search():
    config = AnoganConfig(latent=4, steps=60, learning_rate=1e-3, search_rate=0.1, **TINY)
    detector = Anogan(network(), config).fit(ArrayTiles(normal_tiles(60)))
    images = to_images(normal_tiles(6, seed=4))
    scores = [detector.search(images, steps)[0].mean() for steps in (0, 10, 60)]
    assert scores[0] > scores[1] > scores[2]
    painted = detector.search(images, 60)[1]
    assert painted.shape == images.shape
    assert painted.abs().max() <= 1


def test_the_score_of_anogan_weighs_pixels_and_features():
    images = to_images(abnormal_tiles(2))
    config = AnoganConfig(latent=4, steps=2, search_steps=3, **TINY)
    detector = Anogan(network(), config).fit(ArrayTiles(normal_tiles(12)))
    score, painted = detector.search(images, 3)
    body = detector.networks_["discriminator"].body
    with torch.inference_mode():
        features = (body(images) - body(painted)).abs().sum((1, 2, 3))
    residual = (images - painted).abs().sum((1, 2, 3))
    expected = 0.9 * residual + 0.1 * features
    assert score.numpy() == pytest.approx(expected.numpy(), rel=1e-4)


# -- dsebm ---------------------------------------------------------------------------------------


def test_the_gradient_of_the_energy_is_the_residual_of_the_reconstruction():
    torch.manual_seed(0)
    energy = Energy(DsebmConfig(hidden=12, **TINY)).double()
    torch.nn.init.normal_(energy.template)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    residual = (x - energy.reconstruction(x)).detach()
    # By finite differences, at a few pixels.
    for place in ((0, 0, 0, 0), (0, 2, 7, 9), (1, 1, 15, 3)):
        step = torch.zeros_like(x)
        step[place] = 1e-5
        with torch.no_grad():
            slope = (energy(x + step) - energy(x - step)).sum() / 2e-5
        assert float(residual[place]) == pytest.approx(float(slope), rel=1e-6)


def test_without_a_network_the_energy_is_the_distance_to_the_template():
    energy = Energy(DsebmConfig(hidden=12, **TINY))
    for parameter in energy.network.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 3, 16, 16)
    expected = x.square().sum((1, 2, 3)) / 2 - 12 * np.log(2)
    assert energy(x).detach().numpy() == pytest.approx(expected.numpy(), rel=1e-5)


def test_both_criteria_of_dsebm_find_the_abnormal():
    for criterion in ("energy", "reconstruction"):
        config = DsebmConfig(
            resolution=16, width=16, batch_size=16, hidden=64, steps=100, learning_rate=3e-3,
            criterion=criterion,
        )  # fmt: skip
        detector = Dsebm(network(), config).fit(ArrayTiles(normal_tiles(120)))
        normal = detector.score_samples(normal_tiles(30, seed=2))
        assert (detector.score_samples(abnormal_tiles(30))[:, None] > normal).mean() > 0.95


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (DeepSvddConfig, {"pretrain_steps": 0}),
        (GanomalyConfig, {"latent": 0}),
        (DaolConfig, {"resolution": 33}),
        (AnoganConfig, {"feature_share": 1.5}),
        (AnoganConfig, {"search_steps": 0}),
        (DsebmConfig, {"criterion": "magic"}),
        (DsebmConfig, {"noise": 0.0}),
    ],
)
def test_configurations_that_make_no_sense_are_refused(config, wrong):
    with pytest.raises(UsageError):
        config(**wrong)


# -- the loop ------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_training():
    config = PiadConfig(
        layer="b", resolution=8, width=4, latent=2, steps=60, batch_size=4, learning_rate=1e20,
        report_every=5,
    )  # fmt: skip
    with pytest.raises(NotFiniteError, match=r"at step \d+ \(piad: training\)"):
        Piad(network(), config).fit(ArrayTiles(normal_tiles(12)))


def test_a_checkpoint_of_version_0_1_0_is_refused_in_one_sentence(tmp_path):
    """Its networks have other blocks."""
    config = PiadConfig(
        layer="b", resolution=8, width=4, latent=2, steps=14, batch_size=4, report_every=3
    )
    fitting = Fitting.on("cpu")
    fitting.checkpoint = tmp_path
    old = Path(__file__).parents[1] / "data" / "piad_checkpoint_0.1.0.safetensors"
    copy(old, tmp_path / "piad.safetensors")
    with pytest.raises(ModelError, match=r"another configuration.*--overwrite"):
        Piad(network(), config).fit(ArrayTiles(normal_tiles(24)), None, fitting)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    tiles, fitting = ArrayTiles(normal_tiles(12)), Fitting.on("cpu")
    fitting.checkpoint = tmp_path
    config = DeepGeoConfig(resolution=8, width=1, steps=2, batch_size=4, dirichlet_tiles=4)
    DeepGeo(network(), config).fit(tiles, None, fitting)
    other = replace(config, learning_rate=0.5)
    with pytest.raises(ModelError, match="another configuration"):
        DeepGeo(network(), other).fit(tiles, None, fitting)

"""What is particular to PIAD; the common suite is in test_detectors.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import abnormal_tiles, network, normal_tiles

from wsi_anomaly.autoencoder.adversary import critic_loss
from wsi_anomaly.autoencoder.network import Encoder
from wsi_anomaly.baselines import (
    DeepGeo,
    DeepGeoConfig,
    Piad,
    PiadConfig,
)
from wsi_anomaly.baselines.networks import GradientScale
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.learning.batches import ArrayTiles, to_images

# -- piad ----------------------------------------------------------------------------------------


def test_the_scale_is_the_median_of_smoothed_gradients():
    """Every weight tensor and every look gives a ratio; biases give none."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Linear(1, 1))
    x = torch.tensor([[3.0, 4.0]])
    scale = GradientScale(network, remembered=3)
    assert float(scale.weight) == 1
    smooth = None
    for factor in (2.0, 10.0, 6.0):
        scale.note(factor * network(x).sum(), 0.5 * network(x).sum(), network)
        smooth = factor if smooth is None else 0.95 * smooth + 0.05 * factor
    # Smoothed: 2, 2.4 and 2.58 to 0.5 each; the same for either tensor.
    assert smooth == pytest.approx(2.58)
    assert float(scale.weight) == pytest.approx(2.4 / 0.5)
    for _ in range(3):  # older ones are forgotten
        scale.note(network(x).sum(), network(x).sum(), network)
    assert float(scale.weight) == pytest.approx(1)


def test_a_perfect_critic_pays_no_penalty():
    real, fake = torch.randn(8, 4), torch.randn(8, 4) + 3

    class Slope(torch.nn.Module):
        def forward(self, x):
            return x.sum(1) / 2  # a slope of 1 everywhere

    distance = fake.sum(1).mean() / 2 - real.sum(1).mean() / 2
    drift = 1e-3 * sum((x.sum(1) / 2).square().mean() for x in (real, fake))
    found = float(critic_loss(Slope(), real, fake))
    assert found == pytest.approx(float(distance + drift), abs=1e-4)

    class Steep(torch.nn.Module):
        def forward(self, x):
            return x.sum(1)  # a slope of 2: a penalty of 10 (2 - 1)^2

    found = float(critic_loss(Steep(), real, fake))
    assert found == pytest.approx(float(2 * distance + 10 + 4 * drift), abs=1e-3)


def test_the_score_of_piad_is_the_relative_distance_to_the_reconstruction():
    config = PiadConfig(layer="b", resolution=16, width=4, latent=2, steps=2, batch_size=4)
    detector = Piad(network(), config).fit(ArrayTiles(normal_tiles(12)))
    images = to_images(abnormal_tiles(3))
    with torch.inference_mode():
        rebuilt = detector.networks_["generator"](detector.networks_["encoder"](images))
        a, b = (detector.features(x, ("b",))["b"] for x in (images, rebuilt))
        expected = (a - b).abs().mean((1, 2, 3)) / a.abs().mean((1, 2, 3))
    assert detector.score_samples(abnormal_tiles(3)) == pytest.approx(expected.numpy(), rel=1e-4)


@pytest.mark.parametrize(
    ("resolution", "widths", "critic", "weights"),
    [
        (32, (64, 128, 256, 256), (32, 64, 128, 128), (3_452_672, 2_825_219, 603_905)),
        (64, (32, 64, 128, 256, 256), (32, 64, 128, 128, 128), (3_453_952, 2_854_147, 899_073)),
    ],
)
def test_the_networks_of_piad_are_the_published_ones(resolution, widths, critic, weights):
    """Widths as configured, and the numbers of weights that the authors' program counts."""
    config = PiadConfig(layer="b", resolution=resolution)
    assert config.architecture().widths == widths
    assert config.critic().widths == critic
    networks = Piad(network(), config).build()
    judge = Encoder(config.critic(), blocks=1)
    found = [sum(p.numel() for p in n.parameters()) for n in (*networks.values(), judge)]
    assert tuple(found) == weights


def test_grey_images_have_one_channel_in_piad_and_deep_geo():
    tiles = np.repeat(normal_tiles(12)[..., :1], 3, -1)
    small = {"resolution": 16, "steps": 2, "batch_size": 4, "image_channels": 1}
    piad = Piad(network(), PiadConfig(layer="b", width=8, latent=2, **small)).fit(ArrayTiles(tiles))
    rebuilt = piad.networks_["generator"](torch.zeros(2, 2, 1, 1))
    assert rebuilt.shape == (2, 3, 16, 16)
    assert torch.equal(rebuilt[:, 0], rebuilt[:, 2])
    geo = DeepGeo(network(), DeepGeoConfig(width=1, **small)).fit(ArrayTiles(tiles))
    assert geo.networks_["classifier"][0].weight.shape == (16, 1, 3, 3)
    for detector in (piad, geo):
        assert np.isfinite(detector.score_samples(tiles[:2])).all()


@pytest.mark.parametrize(
    "wrong", [{"resolution": 24}, {"resolution": 4}, {"latent": 0}, {"critic_steps": 0}]
)
def test_piad_refuses_what_makes_no_sense(wrong):
    with pytest.raises(UsageError):
        PiadConfig(**{"layer": "b", **wrong})
    with pytest.raises(ModelError, match="no layer"):
        Piad(network(), PiadConfig(layer="nowhere"))

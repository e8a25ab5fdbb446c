"""What is particular to one of the compared systems; the common suite is in test_detectors.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import torch
from drawn import abnormal_tiles, network, normal_tiles

from wsi_anomaly.autoencoder.adversary import critic_loss
from wsi_anomaly.autoencoder.network import Encoder
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
from wsi_anomaly.baselines.deep_geo import WideResNet, transform_table, transformed
from wsi_anomaly.baselines.deep_svdd import SvddEncoder, contrast_normalised
from wsi_anomaly.baselines.dirichlet import fit_dirichlet
from wsi_anomaly.baselines.dsebm import Energy
from wsi_anomaly.baselines.forest import IsolationTrees, expected_length
from wsi_anomaly.baselines.networks import GradientScale
from wsi_anomaly.core.errors import ModelError, UsageError, WsiAnomalyError
from wsi_anomaly.detectors import Fitting
from wsi_anomaly.learning.batches import ArrayTiles, to_images
from wsi_anomaly.learning.loop import NotFiniteError

# -- deep-if -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "samples"), [(300, 256), (40, 40), (2, 2)])
def test_exported_trees_score_as_scikit_learn_does(count, samples):
    from sklearn.ensemble import IsolationForest

    rng = np.random.default_rng(count)
    known = rng.normal(size=(count, 7)).astype(np.float32)
    new = np.concatenate([known, 3 * rng.normal(size=(200, 7)).astype(np.float32)])
    forest = IsolationForest(max_samples=samples, random_state=3).fit(known)
    found = IsolationTrees.exported(forest).score(torch.from_numpy(new))
    assert found.numpy() == pytest.approx(-forest.score_samples(new), rel=1e-6)


def test_deep_if_is_scikit_learns_forest_on_pooled_features():
    from sklearn.ensemble import IsolationForest

    detector = DeepIf(network(), DeepIfConfig(layers=("a", "b"), seed=4))
    images, new = normal_tiles(300), abnormal_tiles(20)
    detector.fit(ArrayTiles(images))

    def embed(tiles):
        with torch.inference_mode():
            return detector.embed(detector.features(to_images(tiles), ("a", "b"))).numpy()

    forest = IsolationForest(random_state=4).fit(embed(images))
    assert detector.score_samples(new) == pytest.approx(-forest.score_samples(embed(new)), rel=1e-5)


def test_expected_path_lengths_of_small_trees():
    assert expected_length(np.array([1, 2])).tolist() == [0, 1]
    # c(256) of Liu, Ting and Zhou (2008).
    assert float(expected_length(np.array([256]))[0]) == pytest.approx(10.24, abs=0.01)


@pytest.mark.parametrize(
    ("name", "value"), [("left", 10**6), ("right", 0), ("feature", -1), ("feature", 10**6)]
)
def test_nodes_that_lead_nowhere_are_refused(name, value):
    detector = DeepIf(network(), DeepIfConfig(layers=("b",))).fit(ArrayTiles(normal_tiles(60)))
    tensors, config = detector.to_state()
    tensors[name] = torch.full_like(tensors[name], value)
    with pytest.raises(ValueError, match="isolation forest"):
        DeepIf.from_state(tensors, config, detector.features, {}).score_samples(normal_tiles(3))


def test_deep_if_needs_layers_and_tiles():
    with pytest.raises(UsageError, match="layer"):
        DeepIfConfig(layers=())
    with pytest.raises(ModelError, match="too few"):
        DeepIf(network(), DeepIfConfig(layers=("b",))).fit(ArrayTiles(normal_tiles(1)))


# -- deep-geo ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_72_transforms_are_distinct_and_begin_with_the_image_itself(size):
    table = transform_table(size)
    assert table.shape == (72, size * size)
    assert len(table.unique(dim=0)) == 72
    image = torch.arange(3.0 * size * size).view(1, 3, size, size)
    assert torch.equal(transformed(image, table[0]), image)
    assert torch.equal(transformed(image, table[1]), torch.rot90(image, 1, (2, 3)))
    assert torch.equal(transformed(image, table[36]), image.flip(3))


def test_a_shift_is_a_quarter_of_the_side_with_reflected_borders():
    image = torch.arange(64.0).view(1, 1, 8, 8)
    down = transformed(image, transform_table(8)[8])[0, 0]  # dx 0, dy +2, no turn
    rows = [1, 0, 0, 1, 2, 3, 4, 5]
    assert torch.equal(down, image[0, 0][rows])
    left = transformed(image, transform_table(8)[12])[0, 0]  # dx -2
    assert torch.equal(left, image[0, 0][:, [2, 3, 4, 5, 6, 7, 7, 6]])


def test_each_image_of_a_batch_gets_its_own_transform():
    images, table = torch.randn(3, 3, 16, 16), transform_table(16)
    together = transformed(images, table[[5, 40, 71]])
    for i, k in enumerate((5, 40, 71)):
        assert torch.equal(together[i : i + 1], transformed(images[i : i + 1], table[k]))


@pytest.mark.parametrize("alpha", [[2.0, 5.0, 0.7, 11.0], [0.05, 0.2, 30.0], [1.0] * 72])
def test_the_fixed_point_recovers_the_dirichlet_distribution(alpha):
    p = np.random.default_rng(0).dirichlet(alpha, 40_000).clip(1e-300)
    mean_log, mean = (torch.from_numpy(m) for m in (np.log(p).mean(0), p.mean(0)))
    found = fit_dirichlet(mean_log[None], mean[None])[0]
    assert found.numpy() == pytest.approx(np.array(alpha), rel=0.05)
    at_the_maximum = torch.digamma(found) - torch.digamma(found.sum())
    assert at_the_maximum.numpy() == pytest.approx(mean_log.numpy(), abs=1e-4)


def test_the_score_is_minus_the_mean_log_likelihood():
    detector = DeepGeo(network(), DeepGeoConfig(resolution=16, width=1, steps=3, batch_size=8))
    detector.fit(ArrayTiles(normal_tiles(20)))
    images = to_images(abnormal_tiles(2))
    alpha = detector.networks_["answers"].alpha
    by_hand = torch.zeros(2)
    with torch.inference_mode():
        for k, places in enumerate(transform_table(16)):
            p = detector.networks_["classifier"](transformed(images, places)).softmax(1)
            by_hand -= ((alpha[k] - 1) * (p + 1e-6).log()).sum(1) / 72
        assert detector.score_batch(images, {}).numpy() == pytest.approx(by_hand.numpy(), rel=1e-3)


@pytest.mark.parametrize(
    ("resolution", "depth", "width", "channels", "weights"),
    [(32, 10, 4, 3, 1_214_744), (64, 16, 8, 3, 11_103_768)],
)
def test_the_classifier_has_the_published_weights(resolution, depth, width, channels, weights):
    """As the authors' program counts them; at 64 px the head sees 2 x 2 cells."""
    classifier = WideResNet(depth, width, 72, resolution, channels)
    assert sum(p.numel() for p in classifier.parameters()) == weights
    assert classifier[-1].in_features == 64 * width * (resolution // 32) ** 2


def test_a_stride_of_two_begins_at_the_first_pixel():
    """As TensorFlow pads: the first output sees pixels 0 to 2, the last one the border."""
    unit = next(m for m in WideResNet(10, 1, 72, 32) if getattr(m, "shortcut", None) is not None
                and not isinstance(m.shortcut, torch.nn.Identity))  # fmt: skip
    images = torch.zeros(1, 16, 8, 8)
    images[..., 0, 0] = 1
    for convolution in (m for m in unit.branch if isinstance(m, torch.nn.Conv2d)):
        torch.nn.init.ones_(convolution.weight)
    first = next(m for m in unit.branch if isinstance(m, torch.nn.Conv2d))
    seen = first(unit.branch[0](images))
    assert seen.shape[2:] == (4, 4)
    assert torch.nonzero(seen[0, 0]).tolist() == [[0, 0]]
    images = images.flip((2, 3))  # the last pixel is seen from the last place alone
    assert torch.nonzero(first(unit.branch[0](images))[0, 0]).tolist() == [[3, 3]]


def test_weights_decay():
    """All of them, with the gradient of 2.5e-4 times their squares."""
    detector = DeepGeo(network(), DeepGeoConfig(width=1, steps=2))
    learner = detector.learner(detector.build(), ArrayTiles(normal_tiles(4)), torch.device("cpu"))
    (group,) = learner.optimizers["classifier"].param_groups
    assert group["weight_decay"] == 5e-4
    assert len(group["params"]) == len(list(learner.modules["classifier"].parameters()))


@pytest.mark.parametrize("kind", ["deep-geo", "piad"])
def test_networks_of_another_version_are_refused_in_one_sentence(kind):
    small = {"resolution": 16, "width": 8, "steps": 2, "batch_size": 4}
    detector = (
        DeepGeo(network(), DeepGeoConfig(**small | {"width": 1}))
        if kind == "deep-geo"
        else Piad(network(), PiadConfig(layer="b", latent=2, **small))
    ).fit(ArrayTiles(normal_tiles(12)))
    tensors, config = detector.to_state()
    for gone in ("weight_decay", "image_channels"):  # entries that were not there
        config.pop(gone, None)
    again = type(detector).from_state(tensors, config, detector.features, {})
    tiles = abnormal_tiles(2)
    assert again.score_samples(tiles) == pytest.approx(detector.score_samples(tiles))
    # Version 0.1.0 had two blocks in piad, and numbered the parts of deep-geo otherwise.
    older = {name.replace("branch.1.", "branch.0."): t for name, t in tensors.items()}
    older |= {"more": torch.zeros(1)}
    with pytest.raises(WsiAnomalyError, match=rf"{kind} has other networks.*train it anew"):
        type(detector).from_state(older, config, detector.features, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 12}, {"depth": 4}, {"flips": True}, {"width": 0}, {"weight_decay": -1.0},
        {"image_channels": 2},
    ],
)  # fmt: skip
def test_deep_geo_refuses_what_makes_no_sense(wrong):
    with pytest.raises(UsageError):
        DeepGeoConfig(**wrong)


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

"""What is particular to Deep IF and Deep GEO; the common suite is in test_detectors.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import abnormal_tiles, network, normal_tiles

from wsi_anomaly.baselines import (
    DeepGeo,
    DeepGeoConfig,
    DeepIf,
    DeepIfConfig,
    Piad,
    PiadConfig,
)
from wsi_anomaly.baselines.deep_geo import WideResNet, transform_table, transformed
from wsi_anomaly.baselines.dirichlet import fit_dirichlet
from wsi_anomaly.baselines.forest import IsolationTrees, expected_length
from wsi_anomaly.core.errors import ModelError, UsageError, WsiAnomalyError
from wsi_anomaly.learning.batches import ArrayTiles, to_images

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

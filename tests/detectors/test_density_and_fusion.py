"""``density`` agrees with scikit-learn; ``fusion`` takes only members that earn it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import DetectorContract
from drawn import abnormal_tiles, network, normal_tiles

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors import Density, DensityConfig, Detector, Fitting, Fusion
from wsi_anomaly.detectors.distances import shrunk_covariance
from wsi_anomaly.features.network import PerceptualNetwork
from wsi_anomaly.learning.batches import ArrayTiles, to_images


def make_density(features: PerceptualNetwork) -> Detector:
    return Density(features, DensityConfig(("a", "b")))


def density_of(estimator: str, images: np.ndarray, **config) -> tuple[Density, np.ndarray]:
    """A fitted density and the standardised embeddings of its tiles."""
    features = network()
    detector = Density(features, DensityConfig(("b",), estimator=estimator, **config))
    detector.fit(ArrayTiles(images))
    return detector, standardised(detector, images)


def standardised(detector: Density, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        embedded = detector.embed(detector.features(to_images(images), ("b",)))
    s = detector.state_
    return ((embedded - s["mean"]) / s["scale"]).double().numpy()


@pytest.mark.parametrize("shape", [(3, 5), (20, 100), (3000, 60), (50, 1)])
def test_the_shrunk_covariance_is_that_of_scikit_learn(shape: tuple[int, int]) -> None:
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(1)
    values = rng.normal(3, 1, shape) @ rng.normal(size=(shape[1], shape[1]))
    expected, _ = ledoit_wolf(values)
    np.testing.assert_allclose(shrunk_covariance(values), expected, rtol=1e-9, atol=1e-12)


def test_values_all_alike_have_no_covariance() -> None:
    assert not shrunk_covariance(np.ones((10, 4))).any()


@pytest.mark.parametrize("estimator", ["mahalanobis", "directional"])
def test_density_agrees_with_the_covariance_of_scikit_learn(estimator):
    from sklearn.covariance import LedoitWolf
    from sklearn.preprocessing import normalize

    new = abnormal_tiles(12)
    detector, known = density_of(estimator, normal_tiles(80), variance=1.0)
    found = standardised(detector, new)
    if estimator == "directional":
        known, found = normalize(known), normalize(found)
    axes = detector.state_[f"{estimator}.components"].double().numpy()
    model = LedoitWolf().fit(known @ axes.T)
    expected = np.sqrt(model.mahalanobis(found @ axes.T))
    middle, spread = detector.state_["units"][:, 0].tolist()
    assert detector.score_samples(new) * spread + middle == pytest.approx(expected, rel=1e-2)


def test_density_agrees_with_the_neighbours_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    new = abnormal_tiles(12)
    detector, known = density_of("knn", normal_tiles(80))
    nearest = NearestNeighbors(n_neighbors=5, metric="cosine").fit(known)
    expected = nearest.kneighbors(standardised(detector, new))[0].mean(1)
    middle, spread = detector.state_["units"][:, 0].tolist()
    assert detector.score_samples(new) * spread + middle == pytest.approx(expected, abs=1e-4)


def test_both_is_the_mean_of_the_two_in_robust_units():
    images, new = normal_tiles(80), abnormal_tiles(9)
    parts = [density_of(e, images)[0].score_samples(new) for e in ("mahalanobis", "directional")]
    both = density_of("both", images)[0].score_samples(new)
    assert both == pytest.approx(np.mean(parts, axis=0), rel=1e-4)


def test_by_layer_is_the_mean_over_layers_of_two_distances_in_robust_units():
    images, new, features = normal_tiles(80), abnormal_tiles(9), network()

    def scores(layers: tuple[str, ...], estimator: str) -> np.ndarray:
        config = DensityConfig(layers, estimator=estimator)
        return Density(features, config).fit(ArrayTiles(images)).score_samples(new)

    parts = [scores((layer,), e) for layer in ("a", "b") for e in ("mahalanobis", "knn")]
    assert scores(("a", "b"), "by-layer") == pytest.approx(np.mean(parts, axis=0), rel=1e-4)


class TestByLayer(DetectorContract):
    """A state for each layer: saved, read back and held to its shapes as any other."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls):
        return lambda features: Density(features, DensityConfig(("a", "b"), estimator="by-layer"))


def test_by_layer_judges_each_size_of_field_by_itself():
    rng = torch.Generator().manual_seed(0)
    normal = {um: torch.randn(200, 12, generator=rng) for um in (64, 128)}
    features = network()
    features.set_statistics("a", torch.zeros(4), torch.ones(4))
    features.set_statistics("b", torch.zeros(8), torch.ones(8))
    config = DensityConfig(("a", "b"), estimator="by-layer", fields_um=(64, 128))
    fitted = Density(features, config).fit_fields(normal)
    again = Density.from_state(*fitted.to_state(), features, {})
    new = {um: 5 + torch.randn(9, 12, generator=rng) for um in (64, 128)}
    assert torch.equal(again.score_fields(new), fitted.score_fields(new))
    assert (fitted.score_fields(new) > fitted.score_fields(normal).max()).all()


def test_the_units_are_those_of_tiles_that_were_left_out():
    detector, _ = density_of("both", normal_tiles(300))
    fresh = detector.score_samples(normal_tiles(300, seed=8))
    assert abs(float(np.median(fresh))) < 0.5


@pytest.mark.parametrize(
    "wrong", [{"layers": ()}, {"estimator": "magic"}, {"variance": 0.0}, {"neighbours": 0}]
)
def test_density_refuses_what_makes_no_sense(wrong):
    with pytest.raises(UsageError):
        DensityConfig(**{"layers": ("a",), **wrong})


def test_density_needs_more_than_a_few_tiles():
    with pytest.raises(ModelError, match="too few"):
        make_density(network()).fit(ArrayTiles(normal_tiles(6)))


class Chance(Density):
    """Scores that say nothing."""

    def score_batch(self, images, truth):
        return torch.as_tensor(
            np.random.default_rng(int(images.abs().sum() * 1e3)).normal(size=len(images))
        ).float()


def test_fusion_takes_only_members_that_known_anomalies_support():
    features, tiles = network(), ArrayTiles(normal_tiles(100))
    good = make_density(features).fit(tiles)
    chance = Chance(features, DensityConfig(("a",))).fit(tiles)
    fitting = Fitting.on("cpu")
    fitting.anomalies = ArrayTiles(abnormal_tiles(60))
    held_out = ArrayTiles(normal_tiles(60, seed=7))
    fusion = Fusion([chance, good]).fit(tiles, held_out, fitting)
    assert fusion.support_[1] > 0.95
    assert float(fusion.weights_[1]) > 0.8
    assert float(fusion.weights_.sum()) == pytest.approx(1)


def test_fusion_without_known_anomalies_is_its_first_member():
    features, tiles = network(), ArrayTiles(normal_tiles(100))
    first, second = make_density(features).fit(tiles), make_density(features).fit(tiles)
    fusion = Fusion([first, second]).fit(tiles)
    assert fusion.weights_.tolist() == [1.0, 0.0]
    images = abnormal_tiles(9)
    order = np.argsort(fusion.score_samples(images))
    assert np.array_equal(order, np.argsort(first.score_samples(images)))

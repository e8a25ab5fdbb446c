"""What is particular to one of the compared systems; the common suite is in test_detectors.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import abnormal_tiles, network, normal_tiles

from wsi_anomaly.autoencoder.batches import ArrayTiles, to_images
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors.compared import DeepIf, DeepIfConfig
from wsi_anomaly.detectors.compared.forest import IsolationTrees, expected_length

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

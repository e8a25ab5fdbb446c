"""What every detector keeps, whatever its method: ours, and those of other packages.

Derive a class from :class:`DetectorContract` and give it a fixture ``make`` of class scope: a
function from a network, whose layers are "a" and "b", to an unfitted detector.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import SIZE, abnormal_tiles, network, normal_tiles

from wsi_anomaly.detectors import Detector, Fitting
from wsi_anomaly.learning.batches import ArrayTiles, to_images


def fit(detector: Detector) -> Detector:
    """Fit on drawn tiles; the same every time."""
    fitting = Fitting.on("cpu")
    fitting.anomalies = ArrayTiles(abnormal_tiles(10, seed=5))
    return detector.fit(
        ArrayTiles(normal_tiles(120)), ArrayTiles(normal_tiles(40, seed=1)), fitting
    )


class DetectorContract:
    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, make):
        return fit(make(network()))

    def test_abnormal_tiles_score_higher(self, fitted):
        normal = fitted.score_samples(normal_tiles(40, seed=2))
        abnormal = fitted.score_samples(abnormal_tiles(40, seed=2))
        assert (abnormal[:, None] > normal[None]).mean() > 0.95

    def test_scores_are_one_finite_number_a_tile(self, fitted):
        images = normal_tiles(200, seed=3)  # more than one batch
        scores = fitted.score_samples(images)
        assert scores.shape == (200,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert fitted.score_samples(images[:0]).shape == (0,)

    @pytest.mark.parametrize("value", [0, 255])
    def test_blank_tiles_get_a_finite_score(self, fitted, value):
        assert np.isfinite(fitted.score_samples(np.full((3, SIZE, SIZE, 3), value, np.uint8))).all()

    def test_a_score_does_not_depend_on_the_other_tiles(self, fitted):
        images = np.concatenate([normal_tiles(9, seed=4), abnormal_tiles(4)])
        together = fitted.score_samples(images)
        alone = np.concatenate(
            [fitted.score_samples(images[i : i + 1]) for i in range(len(images))]
        )
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)

    def test_scoring_changes_nothing(self, fitted):
        images = normal_tiles(20, seed=6)
        before = images.copy()
        first = fitted.score_samples(images)
        assert np.array_equal(fitted.score_samples(images), first)
        assert np.array_equal(images, before)

    def test_fitting_twice_gives_the_same_scores(self, fitted, make):
        again = fit(make(network()))
        images = abnormal_tiles(10)
        assert np.array_equal(again.score_samples(images), fitted.score_samples(images))

    def test_state_goes_to_json_and_tensors_and_back(self, fitted):
        tensors, config = fitted.to_state()
        assert all(isinstance(t, torch.Tensor) for t in tensors.values())
        others = {m.name: m for m in getattr(fitted, "members", ())}
        rebuilt = type(fitted).from_state(tensors, config, fitted.features, others)
        images = abnormal_tiles(10)
        assert np.array_equal(rebuilt.score_samples(images), fitted.score_samples(images))

    def test_damaged_state_is_noticed(self, fitted):
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

    def test_a_map_has_the_size_of_the_tile_or_does_not_exist(self, fitted):
        x = to_images(abnormal_tiles(3))
        with torch.inference_mode():
            found = fitted.map_batch(x, fitted.features(x, fitted.layers))
        assert found is None or found.shape == (3, SIZE, SIZE)
        assert found is None or (found >= 0).all()

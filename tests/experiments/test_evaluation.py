"""Figures of quality: right, and honest about what they rest on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from wsi_anomaly.experiments import ColourControl, label_fields, roc_auc, slide_bootstrap


@given(st.integers(0, 10_000), st.integers(2, 60))
def test_the_auc_agrees_with_scikit_learn(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], generator.integers(0, 2, n)])
    scores = generator.integers(0, 8, n + 2).astype(float)  # many ties
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_border_tiles_and_unassessed_tiles_do_not_count() -> None:
    labels = np.array([0, 0, 1, 1, -1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.4, -9.0, np.nan])
    assert roc_auc(labels, scores) == 1.0
    assert slide_bootstrap([labels], [scores]).abnormal == 2


def test_one_class_gives_no_figure() -> None:
    assert math.isnan(roc_auc(np.array([0, 0]), np.array([0.1, 0.2])))


def test_labels_need_half_of_the_tile_and_leave_the_border_out() -> None:
    inside = np.array([0.0, 1e-6, 0.49, 0.5, 1.0])
    assert label_fields(inside).tolist() == [0, -1, -1, 1, 1]


def test_the_interval_is_over_slides_not_tiles() -> None:
    """Slides that differ give a wide interval, however many tiles each has."""
    generator = np.random.default_rng(0)
    labels = [np.repeat([0, 1], 5000) for _ in range(4)]
    shift = [0.0, 0.0, 3.0, 3.0]
    scores = [
        label * s + generator.normal(size=10_000) for label, s in zip(labels, shift, strict=True)
    ]
    auc = slide_bootstrap(labels, scores)
    assert auc.low < 0.7
    assert auc.high > 0.9
    two = slide_bootstrap(labels[:2], scores[:2])
    assert math.isnan(two.low)
    assert "[" not in str(two)


def test_the_colour_control_sees_colour_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    normal = generator.normal([200, 150, 180], [5, 8, 4], (500, 3))
    control = ColourControl().fit(normal)
    labels = np.repeat([0, 1], 200)
    same = generator.normal([200, 150, 180], [5, 8, 4], (400, 3))
    assert roc_auc(labels, control.score_samples(same)) == pytest.approx(0.5, abs=0.1)
    other = same + np.outer(labels, [0, -40, 0])
    assert roc_auc(labels, control.score_samples(other)) > 0.95

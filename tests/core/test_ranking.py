"""The one area under the ROC curve is scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from wsi_anomaly.core.ranking import roc_auc

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(scores, scores)
def test_it_is_that_of_scikit_learn_ties_too(normal: list[float], abnormal: list[float]) -> None:
    labels = [0] * len(normal) + [1] * len(abnormal)
    expected = roc_auc_score(labels, normal + abnormal)
    assert roc_auc(np.array(normal), np.array(abnormal)) == pytest.approx(expected)


def test_without_both_classes_or_with_a_score_missing_there_is_none() -> None:
    one, none, missing = np.ones(1), np.empty(0), np.array([1.0, np.nan])
    for pair in ((one, none), (none, one), (one, missing), (missing, one)):
        assert math.isnan(roc_auc(*pair))

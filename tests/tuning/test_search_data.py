"""Folds keep cases together; what the published folds do shows why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_cases import DENSITY, cohort, compact, images, known

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.tuning.fold_scores import FoldScorer
from wsi_anomaly.tuning.search_data import Fold, Part, SearchData, at_most, grouped_folds

NAMES = st.lists(st.integers(1, 20), min_size=2, max_size=12).map(
    lambda sizes: np.array([f"case {k}" for k, n in enumerate(sizes) for _ in range(n)])
)


@given(NAMES, st.integers(2, 6), st.integers(0, 3))
def test_every_case_is_judged_once_by_folds_that_never_saw_it(cases, count, seed):
    folds = grouped_folds(cases, count, seed)
    assert len(folds) == min(count, len(np.unique(cases)))
    judged = np.concatenate([fold.judged for fold in folds])
    assert sorted(judged) == list(range(len(cases)))
    for fold in folds:
        parts = [set(cases[part]) for part in (fold.train, fold.validation, fold.judged)]
        assert parts[0]
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
        assert sum(map(len, (fold.train, fold.validation, fold.judged))) == len(cases)


def test_one_case_cannot_be_judged_by_another():
    with pytest.raises(UsageError, match="at least two normal cases"):
        grouped_folds(np.array(["a"] * 9), 3)
    with pytest.raises(UsageError, match="at least 2 folds"):
        grouped_folds(np.array(["a", "b"]), 1)


@given(NAMES, st.integers(1, 8))
def test_large_cases_are_cut_down_and_small_ones_kept(cases, most):
    kept = at_most(cases, most)
    assert (np.diff(kept) > 0).all()
    for name in np.unique(cases):
        assert (cases[kept] == name).sum() == min(most, (cases == name).sum())


def test_a_part_hands_out_its_own_tiles():
    whole = ArrayTiles(images(0, 10, side=32), 16)
    part = Part(whole, np.array([7, 2, 5]))
    assert len(part) == 3
    assert np.array_equal(part.batch([2, 0]), whole.batch([5, 7]))
    corners = np.array([[3, 9]])
    assert np.array_equal(part.cut([1], corners), whole.cut([2], corners))


def published_folds(cases: np.ndarray) -> list[Fold]:
    """As in the authors' lists: what a fold judges holds the tiles that it has learned from."""
    everything = np.arange(len(cases))
    return [replace(fold, judged=everything) for fold in grouped_folds(cases, 3)]


def test_the_published_folds_leak():
    """A method that only remembers its tiles looks perfect there, and is a guess by case.

    Cases differ from one another as much as the anomalies from all of them, and the tiles of a
    case are alike. To the nearest neighbour a new case is as strange as an anomaly.
    """
    normal, cases = cohort(9, count=8, spread=2)
    abnormal = np.concatenate([images(200 + k, 8, spread=2) for k in range(6)])
    groups = np.repeat([f"slide {k}" for k in range(6)], 8)
    data = SearchData(
        {"10x": ArrayTiles(normal)}, np.array(cases), {"10x": ArrayTiles(abnormal)}, groups
    )
    remembers = replace(DENSITY, density_estimator="knn")

    def mean(folds: list[Fold]) -> float:
        scorer = FoldScorer(data, folds, {"compact": compact()})
        return float(np.mean([scorer.fold(remembers, "10x", k, print).value for k in range(3)]))

    grouped, leaking = mean(grouped_folds(data.cases, 3)), mean(published_folds(data.cases))
    assert leaking > 0.75
    assert grouped < 0.6
    assert leaking - grouped > 0.2


def test_views_hold_the_same_fields():
    normal, cases = cohort(2)
    abnormal, groups = known(1)
    with pytest.raises(ValueError, match="one tile for each label"):
        SearchData(
            {"10x": ArrayTiles(normal), "20x": ArrayTiles(normal[1:])}, np.array(cases),
            {"10x": ArrayTiles(abnormal)}, np.array(groups),
        )  # fmt: skip

"""Figures of quality: scikit-learn's, and honest about what they rest on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from wsi_anomaly.evaluation import (
    ColourControl,
    label_fields,
    performance,
    pr_auc,
    roc_auc,
)
from wsi_anomaly.evaluation.metrics import interval, resampled, roc_auc_difference


def some_scores(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both classes and scores with many ties."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], generator.integers(0, 2, n)])
    return labels, generator.integers(0, 8, n + 2).astype(float)


def sensitivity_at(labels, scores, specificity: float) -> float:
    found = performance(labels, scores, np.zeros(len(labels)), specificities=(specificity,))
    return found.sensitivity[specificity].value


@given(st.integers(0, 10_000), st.integers(2, 60))
def test_the_figures_are_scikit_learns(seed: int, n: int) -> None:
    labels, scores = some_scores(seed, n)
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert pr_auc(labels, scores) == pytest.approx(average_precision_score(labels, scores))


@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]))
def test_the_sensitivity_is_that_of_the_best_threshold(
    seed: int, n: int, specificity: float
) -> None:
    labels, scores = some_scores(seed, n)
    best = 0.0
    for threshold in [*scores, np.inf]:
        called = scores >= threshold
        if (~called[labels == 0]).mean() >= specificity - 1e-9:
            best = max(best, called[labels == 1].mean())
    assert sensitivity_at(labels, scores, specificity) == pytest.approx(best)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 6))
def test_resampling_is_scikit_learn_with_weights(seed: int, n: int, groups: int) -> None:
    labels, scores = some_scores(seed, n)
    group = np.random.default_rng(seed).integers(0, groups, n + 2)
    weights = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), 8)
    found = resampled(labels == 1, scores, group, weights.astype(float), (0.9,))
    for draw, counts in enumerate(weights):
        weight = counts[group]
        if min(weight[labels == 1].sum(), weight[labels == 0].sum()) == 0:
            assert all(math.isnan(values[draw]) for values in found.values())
            continue
        given_weights = {"sample_weight": weight}
        auc = roc_auc_score(labels, scores, **given_weights)
        average = average_precision_score(labels, scores, **given_weights)
        false, true, _ = roc_curve(labels, scores, drop_intermediate=False, **given_weights)
        assert found["roc_auc"][draw] == pytest.approx(auc)
        assert found["pr_auc"][draw] == pytest.approx(average)
        assert found[0.9][draw] == pytest.approx(true[false <= 0.1 + 1e-9].max())


def test_resampling_stays_close_with_more_scores_than_it_can_hold() -> None:
    generator = np.random.default_rng(3)
    labels = np.arange(30_000) < 9_000
    scores = generator.normal(size=30_000) + labels
    found = resampled(labels, scores, np.zeros(30_000, int), np.ones((1, 1)), (0.9,))
    assert found["roc_auc"][0] == pytest.approx(roc_auc(labels.astype(int), scores), abs=1e-3)
    assert found["pr_auc"][0] == pytest.approx(pr_auc(labels.astype(int), scores), abs=1e-3)
    exact = sensitivity_at(labels.astype(int), scores, 0.9)
    assert found[0.9][0] == pytest.approx(exact, abs=1e-3)


def test_border_fields_and_fields_not_assessed_do_not_count() -> None:
    labels = np.array([0, 0, 1, 1, -1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.4, -9.0, np.nan])
    assert roc_auc(labels, scores) == 1.0
    found = performance(labels, scores, ["a", "a", "b", "b", "b", "c"])
    assert (found.abnormal, found.normal, found.groups, found.prevalence) == (2, 2, 2, 0.5)


def test_one_class_gives_no_figure() -> None:
    labels, scores = [0, 0], [0.1, 0.2]
    assert math.isnan(roc_auc(labels, scores))
    assert math.isnan(pr_auc(labels, scores))
    assert math.isnan(sensitivity_at(labels, scores, 0.9))
    found = performance(labels, scores, [0, 1])
    assert math.isnan(found.roc_auc.value)
    assert found.prevalence == 0
    assert math.isnan(performance([], [], []).prevalence)


def test_labels_need_half_of_the_field_and_leave_the_border_out() -> None:
    inside = np.array([0.0, 1e-6, 0.49, 0.5, 1.0])
    assert label_fields(inside).tolist() == [0, -1, -1, 1, 1]


def slides_that_differ(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half of the slides separate perfectly well, the others not at all."""
    generator = np.random.default_rng(0)
    labels = np.tile(np.repeat([0, 1], 5000), count)
    group = np.repeat(np.arange(count), 10_000)
    shift = np.where(group < count // 2, 0.0, 3.0)
    return labels, labels * shift + generator.normal(size=len(labels)), group


def test_the_interval_is_over_slides_not_fields() -> None:
    """Slides that differ give a wide interval, however many fields each has."""
    labels, scores, slide = slides_that_differ(6)
    found = performance(labels, scores, slide)
    assert found.roc_auc.low < 0.7
    assert found.roc_auc.high > 0.9
    assert found.sensitivity[0.9].low < found.sensitivity[0.9].value < found.sensitivity[0.9].high
    # As if every field were a slide: a hundred times too sure.
    alone = performance(labels, scores, np.arange(len(labels)) // 100)
    assert alone.roc_auc.high - alone.roc_auc.low < 0.1


def test_slides_of_one_case_are_drawn_together() -> None:
    labels, scores, slide = slides_that_differ(12)
    by_slide = performance(labels, scores, slide).roc_auc
    by_case = performance(labels, scores, slide // 2).roc_auc
    assert by_case.value == by_slide.value
    assert by_case.high - by_case.low > by_slide.high - by_slide.low


@pytest.mark.parametrize("kept", ["four slides", "one abnormal slide"])
def test_there_is_no_interval_where_nothing_can_vary(kept: str) -> None:
    labels, scores, slide = slides_that_differ(6)
    few = slide < 4 if kept == "four slides" else (slide == 0) | (labels == 0)
    found = performance(labels[few], scores[few], slide[few]).roc_auc
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert "[" not in str(found)


@pytest.mark.parametrize("auc", [0.75, 0.95])
@pytest.mark.parametrize("slides", [6, 10])
def test_intervals_cover_what_they_say(slides: int, auc: float) -> None:
    """The percentiles of a bootstrap, which were here before, cover 83% to 90%."""
    rng = np.random.default_rng(0)
    apart = np.sqrt(2) * stats.norm.ppf(auc)
    covered = []
    for _ in range(300):
        labels = np.tile(np.repeat([0, 1], 10), slides)
        slide = np.repeat(np.arange(slides), 20)
        own = rng.normal(size=(slides, 2)) * np.sqrt(0.3)
        scores = labels * apart + own[slide, labels] + rng.normal(size=len(labels)) * np.sqrt(0.7)
        found = performance(labels, scores, slide, specificities=()).roc_auc
        covered.append(found.low <= auc <= found.high)
    assert np.mean(covered) > 0.92


def test_an_interval_of_a_share_stays_within_it() -> None:
    low, high = interval(0.98, [0.97, 0.99, 0.98, 0.96, 0.995, 0.98])
    assert 0 < low < 0.98 < high < 1
    assert math.isnan(interval(0.98, [1.0, 0.95, 0.98, 0.97, 0.98, 0.98])[0])  # or nearly so
    assert math.isnan(interval(0.9, [0.8, 0.9, 0.95, 0.9, 0.9])[0])  # too few


def test_figures_that_all_agree_are_no_certainty() -> None:
    labels, group = np.tile([0, 1], 6), np.repeat(np.arange(6), 2)
    found = performance(labels, labels.astype(float), group)
    assert found.roc_auc.value == 1.0
    assert math.isnan(found.roc_auc.low)
    assert str(found.roc_auc) == "1.000"


def test_a_difference_is_resampled_in_pairs() -> None:
    """Two scores that rise and fall together differ by much less than each is unsure."""
    labels, scores, slide = slides_that_differ(6)
    worse = scores - 0.3 * labels
    found = roc_auc_difference(labels, scores, worse, slide)
    assert found.value == pytest.approx(roc_auc(labels, scores) - roc_auc(labels, worse))
    assert 0 < found.low < found.value < found.high
    alone = performance(labels, scores, slide).roc_auc
    assert found.high - found.low < (alone.high - alone.low) / 3
    same = roc_auc_difference(labels, scores, scores, slide)
    assert same.value == 0
    assert math.isnan(same.low)
    assert math.isnan(roc_auc_difference(labels * 0, scores, worse, slide).value)


def test_a_difference_is_about_entries_with_both_scores() -> None:
    control = [0.9, np.nan, 0.1, 0.2]
    found = roc_auc_difference([0, 0, 1, 1], [0.0, 9.0, 1.0, 2.0], control, [0, 1, 2, 3])
    assert found.value == 1.0 - 0.0


def test_the_colour_control_sees_colour_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    normal = generator.normal([200, 150, 180], [5, 8, 4], (500, 3))
    control = ColourControl().fit(normal)
    labels = np.repeat([0, 1], 200)
    same = generator.normal([200, 150, 180], [5, 8, 4], (400, 3))
    assert roc_auc(labels, control.score_samples(same)) == pytest.approx(0.5, abs=0.1)
    other = same + np.outer(labels, [0, -40, 0])
    assert roc_auc(labels, control.score_samples(other)) > 0.95

"""``contrast`` hears what tells tissues apart, and little of what tells slides apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import network
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.ranking import roc_auc
from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.detectors.contrast import (
    MOST_OF_A_SLIDE,
    Tissues,
    contrast,
    known_tissues,
    learn_contrast,
    learn_marked,
    tissues_of,
)
from wsi_anomaly.features import load_features, network_spec
from wsi_anomaly.training.config import PRESETS

WIDTH, TISSUES = 40, 6


def world(seed: int = 0) -> tuple[Callable[..., np.ndarray], list[np.ndarray]]:
    """Slides of several tissues: what a tissue is lies in ten numbers, the stain in all others."""
    rng = np.random.default_rng(seed)
    kinds = np.zeros((TISSUES + 1, WIDTH))
    kinds[:, :10] = rng.normal(0, 2, (TISSUES + 1, 10))

    def slide(kind: int, count: int = 300, stain: float = 0.6) -> np.ndarray:
        shift = np.r_[np.zeros(10), rng.normal(0, stain, WIDTH - 10)]
        return kinds[kind] + shift + rng.normal(0, 1, (count, WIDTH))

    return slide, [slide(kind) for kind in range(1, TISSUES + 1)]


def distances(reference: np.ndarray, tissues: Tissues, found: np.ndarray) -> np.ndarray:
    state = learn_contrast(torch.from_numpy(reference), tissues)
    return contrast(state, torch.from_numpy(found)).numpy()


def fitted_on(reference: np.ndarray, known: Tissues) -> Density:
    """``density`` that knows these tissues, learned from a slide."""

    class Knowing(Density):
        def tissues(self, um: int) -> Tissues:
            return known

    config = DensityConfig(("b",), "contrast", fields_um=(256,))
    return Knowing(network(), config).fit_fields({256: torch.from_numpy(reference)})


def test_another_stain_of_the_same_tissue_is_nearer_than_another_tissue():
    slide, others = world()
    reference = slide(0)
    own, other = slide(0, stain=1.5), 0.6 * slide(0) + 0.4 * others[2]
    tissues = tissues_of(others)
    assert roc_auc(distances(reference, tissues, own), distances(reference, tissues, other)) > 0.95
    density = Density(network(), DensityConfig(("b",), "mahalanobis", fields_um=(256,)))
    density.fit_fields({256: torch.from_numpy(reference)})
    scores = [density.score_fields({256: torch.from_numpy(x)}).numpy() for x in (own, other)]
    assert roc_auc(*scores) < 0.5  # a plain distance takes the stain for the anomaly


def test_a_tissue_that_is_learned_from_and_known_changes_nothing():
    slide, others = world()
    reference, new = slide(0), slide(0)
    known = tissues_of(others)
    again = Tissues(
        known.mean, known.scale,
        np.vstack([known.centres, known.directions(reference).mean(0)]), known.within,
    )  # fmt: skip
    expected = distances(reference, known, new)
    assert distances(reference, again, new) == pytest.approx(expected, rel=1e-4)


def test_each_slide_has_the_same_weight_and_its_cells_are_drawn_by_no_chance():
    _, others = world()
    larger = [others[0], np.concatenate([others[1]] * 20), *others[2:]]
    assert len(larger[1]) > MOST_OF_A_SLIDE
    once, twice = tissues_of(larger), tissues_of(larger)
    np.testing.assert_array_equal(once.centres, twice.centres)
    assert len(once.centres) == TISSUES
    covariances = [np.cov(once.directions(slide).T) for slide in others]
    assert np.abs(once.within - np.mean(covariances, 0)).max() < 0.01


def test_the_model_keeps_the_axes_and_what_marks_need():
    slide, others = world()
    known = tissues_of(others)

    fitted = fitted_on(slide(0), known)
    assert fitted.state_["256um.contrast.axes"].shape == (TISSUES, WIDTH)
    shapes = {name: tuple(value.shape) for name, value in fitted.state_.items()}
    assert fitted.state_shapes(fitted.state_) == shapes
    new = slide(0)
    score = fitted.score_fields({256: torch.from_numpy(new)}).numpy()
    middle, spread = fitted.state_["256um.units"][:, 0].tolist()
    expected = contrast(learn_contrast(torch.from_numpy(new), known), torch.from_numpy(new))
    assert score.shape == tuple(expected.shape)
    assert abs(float(np.median(score))) < 3
    assert min(middle, spread) > 0


@st.composite
def marked_kinds(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Kinds of tissue that somebody marked, and how many fields of each."""
    kinds = st.tuples(st.integers(0, TISSUES), st.integers(1, 30))
    return draw(st.lists(kinds, min_size=1, max_size=4))


@given(marked=marked_kinds(), seed=st.integers(0, 20))
@settings(deadline=None, max_examples=25)
def test_what_a_person_marks_as_normal_raises_no_score(marked, seed):
    slide, others = world(seed)
    density = fitted_on(slide(0), tissues_of(others))
    asked = {256: torch.from_numpy(np.concatenate([slide(kind, 20) for kind in range(4)]))}
    kinds = [{256: torch.from_numpy(slide(kind, count))} for kind, count in marked]
    before, after = density.score_fields(asked), density.of_slide(kinds).score_fields(asked)
    assert (after <= before).all()
    again = density.of_slide(kinds[::-1]).score_fields(asked)
    torch.testing.assert_close(again, after)  # whichever was marked first
    torch.testing.assert_close(density.score_fields(asked), before)  # the model stays as it was


def test_every_marked_kind_is_a_reference_of_its_own():
    slide, others = world()
    density = fitted_on(slide(0), tissues_of(others))
    stained = [slide(kind, 60, stain=1.5) for kind in (1, 2, 3)]
    muscle, fat, lesion = [{256: torch.from_numpy(part[20:])} for part in stained]
    marks = [{256: torch.from_numpy(part[:20])} for part in stained[:2]]

    def above(marked, normal) -> float:
        model = density.of_slide(marked)
        return roc_auc(model.score_fields(normal).numpy(), model.score_fields(lesion).numpy())

    assert above(marks, muscle) > 0.99
    assert above(marks, fat) > 0.99
    joined = [{256: torch.cat([mark[256] for mark in marks])}]  # one reference, between the two
    assert above(joined, muscle) + above(joined, fat) < above(marks, muscle) + above(marks, fat)
    assert above(marks[:1], fat) < above(marks, fat)  # a kind that was forgotten


def test_a_model_of_before_marks_takes_none():
    slide, others = world()
    density = fitted_on(slide(0), tissues_of(others))
    assert density.takes_own
    density.state_ = {k: v for k, v in density.state_.items() if "root" not in k}
    assert not density.takes_own


def test_the_tissues_that_ship_are_those_of_the_default():
    spec = network_spec("lite0")
    assert spec is not None
    known = known_tissues(load_features("lite0"), spec.pooled_layers, *spec.fields_um)
    width = 80 + 112 + 192
    assert known.centres.shape[1:] == known.mean.shape == known.scale.shape == (width,)
    assert known.within.shape == (width, width)
    assert all(np.isfinite(array).all() for array in (known.centres, known.within))
    assert np.linalg.eigvalsh(known.within).min() > -1e-5  # as float16 keeps it


@pytest.mark.parametrize(
    ("name", "seed", "layers", "um"),
    [
        ("lite0", None, ("b6",), 256),
        ("lite0", None, ("b4", "b5", "b6"), 128),
        ("lite0", 0, ("b4", "b5", "b6"), 256),
        ("compact", None, ("c2", "c3"), 256),
    ],
)
def test_where_no_tissues_are_known_one_sentence_says_so(name, seed, layers, um):
    with pytest.raises(ModelError, match="or set density_estimator"):
        known_tissues(load_features(name, random_seed=seed), layers, um)


def test_contrast_is_for_fields():
    with pytest.raises(UsageError, match="fields, not tiles"):
        DensityConfig(("b4",), "contrast")


def test_it_is_usual_for_the_fields_of_lite0_at_10x_alone():
    fast = PRESETS["fast"]
    estimator = {
        "fast": fast.density("").estimator,
        "20x": replace(fast, magnification=20).density("").estimator,
        "tiles": replace(fast, density_fields_um=()).density("").estimator,
        "compact": replace(fast, features="compact").density("").estimator,
    }
    assert estimator == {"fast": "contrast", "20x": "both", "tiles": "both", "compact": "both"}
    with pytest.raises(UsageError, match="at 10x"):
        replace(fast, magnification=20, density_estimator="contrast").density("")


def test_marked_kinds_alone_are_what_fields_are_measured_from() -> None:
    slide, known = world()
    tissues = tissues_of(known)
    first, second, other = (slide(kind, stain=0.0) for kind in (0, 1, 2))
    marks = [torch.from_numpy(first[:12]), torch.from_numpy(second[:12])]
    state = learn_marked(marks, tissues)
    near = contrast(state, torch.from_numpy(np.concatenate([first[12:], second[12:]]))).numpy()
    far = contrast(state, torch.from_numpy(other)).numpy()
    assert roc_auc(near, far) > 0.99
    one = contrast(learn_marked(marks[:1], tissues), torch.from_numpy(second[12:])).numpy()
    assert roc_auc(near, one) > 0.99  # a kind that is not marked stands out


@given(st.permutations(range(3)))
@settings(max_examples=6, deadline=None)
def test_the_order_of_marked_kinds_changes_nothing(order: list[int]) -> None:
    slide, known = world()
    kinds, found = [torch.from_numpy(slide(k, 12)) for k in range(3)], torch.from_numpy(slide(4))
    tissues = tissues_of(known)
    there = contrast(learn_marked([kinds[i] for i in order], tissues), found)
    torch.testing.assert_close(there, contrast(learn_marked(kinds, tissues), found))

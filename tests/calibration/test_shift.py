"""Whether a batch of slides is another one: seen where it is, rarely where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_anomaly.calibration.shift import AXIS, LEVEL, batch_shift


def slides(rng: np.random.Generator, count: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Slides that differ by half a unit, with measures that say nothing."""
    return {
        "median score": 0.5 * rng.normal(size=count) + shift,
        "sharpness": rng.normal(size=count),
        "strength of eosin": rng.standard_t(2, size=count),
    }


@pytest.mark.parametrize(("shift", "normal"), [(0.0, 8), (0.0, 20), (1.0, 8), (1.0, 20)])
def test_a_shift_is_seen_and_seldom_where_there_is_none(shift, normal):
    rng = np.random.default_rng(3)
    found = [
        batch_shift(slides(rng, normal), slides(rng, 20, shift), seed=seed).differs
        for seed in range(100)
    ]
    assert np.mean(found) >= 0.9 if shift else np.mean(found) <= 0.1


def test_the_sentence_names_what_differs_and_what_to_do():
    rng = np.random.default_rng(0)
    found = batch_shift(slides(rng, 8), slides(rng, 20, 2.0))
    assert next(iter(found.effects)) == "median score"
    assert "its median score is higher" in found.sentence
    assert "20 new slides beside 8 normal ones" in found.sentence
    assert "calibrate" in found.sentence


def test_too_few_slides_are_no_proof_that_nothing_differs():
    rng = np.random.default_rng(0)
    found = batch_shift(slides(rng, 2), slides(rng, 2, 9.0))
    assert found.least_p_value > LEVEL
    assert not found.differs
    assert "Too few slides" in found.sentence
    assert batch_shift(slides(rng, 1), slides(rng, 9)) is None
    assert batch_shift(slides(rng, 9), slides(rng, 1)) is None
    assert batch_shift({"a": [1.0, 2.0]}, {"b": [1.0, 2.0]}) is None


def test_values_that_are_unknown_leave_a_slide_out():
    normal = {"a": [1.0, 2.0, np.nan, 3.0]}
    assert batch_shift(normal, {"a": [2.0, 2.5]}).normal == 3


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_another_place_of_the_tissue_is_seen_where_no_measure_tells(shift):
    """Embeddings of eight axes, one of which lies elsewhere."""
    rng = np.random.default_rng(5)

    def places(count: int, by: float) -> dict[str, np.ndarray]:
        axes = {f"{AXIS}{i}": rng.normal(size=count) for i in range(1, 9)}
        return slides(rng, count) | axes | {f"{AXIS}1": rng.normal(size=count) + by}

    found = [batch_shift(places(12, 0.0), places(20, shift), seed=i) for i in range(120)]
    seen = np.mean([f.differs for f in found])
    assert seen >= 0.5 if shift else seen <= 0.07
    assert not any(name.startswith(AXIS) for f in found for name in f.effects)


def test_a_far_embedding_is_what_the_sentence_names():
    rng = np.random.default_rng(0)
    near, far = ({f"{AXIS}{i}": rng.normal(size=9) + by for i in range(3)} for by in (0.0, 9.0))
    found = batch_shift(near, far)
    assert list(found.effects) == ["embedding"]
    assert "what the network sees lies elsewhere (embedding), by" in found.sentence


def test_few_slides_are_regrouped_in_every_way():
    normal, new = {"a": [1.0, 2.0, 3.0, 4.0]}, {"a": [7.0, 8.0, 9.0]}
    found = batch_shift(normal, new)
    # As far apart as the three highest lie the three lowest.
    assert found.p_value == found.least_p_value == pytest.approx(2 / 35)
    assert "Too few slides" in found.sentence

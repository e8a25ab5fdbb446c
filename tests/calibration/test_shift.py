"""Whether a batch of slides is another one: seen where it is, rarely where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_anomaly.calibration.shift import LEVEL, batch_shift


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

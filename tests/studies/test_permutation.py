"""Groups of animals are compared by permuting animals; no effect gives no finding."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from wsi_anomaly.studies.permutation import against_controls, trend

ORGANS = ("liver", "kidney", "heart")
GROUPS = [[f"{name}{i}" for i in range(5)] for name in ("c", "low", "high")]


def study(rng: np.random.Generator, effect: float = 0.0) -> dict[str, dict[str, float]]:
    """Scores of animals, alike from organ to organ; the liver of the higher doses has an effect."""
    own = {a: rng.normal() for group in GROUPS for a in group}
    return {
        organ: {
            a: own[a] + rng.normal() + effect * dose * (organ == "liver")
            for dose, group in enumerate(GROUPS)
            for a in group
            if rng.random() > 0.05  # now and then an organ is missing
        }
        for organ in ORGANS
    }


def test_studies_without_an_effect_are_seldom_findings():
    """The smallest p-value over all organs, as a reader looks for it; by hand with 2,000: 5%."""
    rng = np.random.default_rng(0)
    groups, trends = [], []
    for _ in range(100):
        scores = study(rng)
        groups.append(min(against_controls(scores, GROUPS[0], GROUPS[2]).over_organs.values()))
        trends.append(min(trend(scores, GROUPS).over_organs.values()))
    assert np.mean(np.array(groups) <= 0.05) <= 0.1
    assert np.mean(np.array(trends) <= 0.05) <= 0.1


def test_many_organs_of_many_animals_need_little_memory():
    """All permutations at once held 40 organs of 80 animals 10,000 times over, and more: 1.1 GB."""
    rng = np.random.default_rng(0)
    groups = [[f"{name}{i}" for i in range(20)] for name in ("c", "low", "mid", "high")]
    scores = {f"organ {k}": {a: rng.normal() for group in groups for a in group} for k in range(40)}
    tracemalloc.start()
    trend(scores, groups)
    against_controls(scores, groups[0], groups[3])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6


def test_an_effect_is_found_where_it_is():
    scores = study(np.random.default_rng(0), effect=3.0)
    found = against_controls(scores, GROUPS[0], GROUPS[2])
    assert found.over_organs["liver"] < 0.05 < found.over_organs["kidney"]
    assert trend(scores, GROUPS).over_organs["liver"] < 0.01


def test_few_animals_give_exact_p_values_and_no_smaller_one():
    scores = {"liver": {"c1": 1.0, "c2": 2.0, "c3": 3.0, "t1": 4.0, "t2": 5.0, "t3": 6.0}}
    found = against_controls(scores, ["c1", "c2", "c3"], ["t1", "t2", "t3"])
    assert found.least == pytest.approx(1 / 20)
    assert found.p_value["liver"] == pytest.approx(1 / 20)
    assert found.over_organs["liver"] == pytest.approx(1 / 20)


def test_where_nothing_can_be_said_there_is_no_p_value():
    for treated in ([], ["t1"]):
        found = against_controls({"liver": {"c1": 1.0, "t1": 2.0}}, ["c1"], treated)
        assert np.isnan(found.p_value["liver"])
    assert np.isnan(against_controls({"liver": {}}, ["a", "b"], ["c", "d"]).p_value["liver"])

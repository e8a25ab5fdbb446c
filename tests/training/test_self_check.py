"""The self-check: what the normal cases show when each is left out, in words."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.training.self_check import self_check


def normals(count: int, odd: float = 0.0) -> Calibration:
    """Normal slides of 400 fields; the last has some high places."""
    rng = np.random.default_rng(0)
    row, col = np.divmod(np.arange(400), 20)
    scores = rng.normal(size=(count, 400)).astype(np.float32)
    for place in (1, 7, 13, 18):
        scores[-1, (abs(row - place) <= 1) & (abs(col - place) <= 0)] += odd
    return Calibration.fit(
        [CaseScores(f"case {i}", f"slide {i}", row, col, own) for i, own in enumerate(scores)]
    )


def check(calibration: Calibration) -> str:
    return " ".join(self_check(SimpleNamespace(calibration={"a": calibration}, primary="a")))


def test_it_counts_what_each_case_would_show_and_says_when_more_would_help():
    few = check(normals(6))
    assert few.startswith("Self-check: 6 normal cases, each left out in turn")
    assert "at most 6 on 6 slides" in few
    assert "More cases would help: so few cost 33% of what the promise allows, 20 cost 20%." in few
    assert "More cases" not in check(normals(20))


def test_a_case_that_differs_is_named():
    calibration = normals(8, odd=8.0)
    found = calibration.left_out()
    assert found["case 7"] == max(found.values()) >= 2
    assert "lie on case 7: look whether it is normal" in check(calibration)


def test_where_nothing_can_be_flagged_nothing_is_said():
    assert check(normals(4)) == ""  # three others give no flags
    assert self_check(SimpleNamespace(calibration={}, primary="a")) == []

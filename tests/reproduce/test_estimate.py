"""How long trainings take is measured before they begin."""

from __future__ import annotations

import pytest

from wsi_anomaly.reproduce import estimate
from wsi_anomaly.reproduce.estimate import training_hours
from wsi_anomaly.reproduce.plan import Plan


@pytest.fixture
def slow_stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """A step of the k-th stage takes k + 1 seconds; what was measured."""
    asked: list[tuple[str, int, int]] = []

    def seconds(settings, network, device, steps, batch):
        asked.append((settings["row"], steps, batch))
        number = len(estimate._lengths(settings, network))
        return [(k + 1.0) * steps for k in range(number)]

    monkeypatch.setattr(estimate, "_seconds", seconds)
    return asked


def test_hours_are_those_of_the_published_steps(slow_stages) -> None:
    rows = ("dpa", "density", "piad", "deep-if", "mean-colour", "dpa-untrained")
    found = training_hours(rows, "camelyon16", "healthy", Plan(features="compact"), seeds=3)
    assert list(found) == ["dpa", "piad"]  # the others train nothing
    # 20,000 at 16 px, 20,000 + 20,000 at 32 px, 20,000 + 8,666 at 64 px; 128 of them, 16 measured.
    steps = 20_000 + 2 * 20_000 + 3 * 20_000 + 4 * 20_000 + 5 * 8_666
    assert found["dpa"] == pytest.approx(3 * steps * 128 / 16 / 3600)
    assert found["piad"] == pytest.approx(3 * 100_000 * 32 / 16 / 3600)
    assert ("dpa", 4, 16) in slow_stages


def test_short_trainings_are_not_measured(slow_stages) -> None:
    plan = Plan(features="compact", steps=10)
    assert training_hours(("dpa", "deep-geo"), "camelyon16", "healthy", plan, seeds=1) == {}
    assert slow_stages == []


def test_every_system_that_trains_can_be_measured() -> None:
    rows = ("dpa", "dpa-3", "deep-geo", "piad", "deep-svdd", "ganomaly")
    options = {"deep-geo.width": "1", "deep-geo.depth": "10", "piad.width": "8"}
    plan = Plan(features="compact", steps=100, batch_size=2, options=options)
    found = training_hours(rows, "camelyon16", "healthy", plan, seeds=1)
    assert set(found) == set(rows)
    assert all(hours > 0 for hours in found.values())

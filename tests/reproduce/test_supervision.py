"""Few anomalies choose a configuration; the curve says how well."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import PLAN

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reproduce.choosing import Choice, choose
from wsi_anomaly.reproduce.published import GRID
from wsi_anomaly.reproduce.scores import Scores
from wsi_anomaly.reproduce.supervision import supervision


def scores(good: float, seed: int, kinds: int = 3) -> Scores:
    """200 judged images, half of them abnormal, `good` standard deviations apart."""
    rng = np.random.default_rng(seed)
    abnormal = np.arange(200) % 2 == 1
    kind = np.where(abnormal, np.char.add("k", (np.arange(200) % kinds).astype(str)), "normal")
    return Scores(
        rng.normal(size=200) + good * abnormal, abnormal, np.arange(200), kind,
        rng.normal(size=100), np.empty(0),
    )  # fmt: skip


def test_the_anomalies_to_choose_by_are_not_judged() -> None:
    cells = [scores(1.0, 0), scores(0.0, 1)]
    choice = Choice.of(cells, 0)
    assert len(choice.pool) == 50
    rest = ~np.isin(cells[0].judge, choice.pool[:, 0])
    assert rest.sum() == 150
    judged = Scores(*(a[rest] for a in list(vars(cells[0]).values())[:4]), np.empty(0), np.empty(0))
    assert choice.quality[0] == pytest.approx(judged.auc())


def test_the_area_under_the_curve_is_that_of_the_known_ones() -> None:
    from sklearn.metrics import roc_auc_score

    choice = Choice.of([scores(1.0, 0), scores(0.3, 1)], 0)
    chosen = np.array([1, 5, 9])
    for k, auc in enumerate(choice.aucs(chosen)):
        values = np.concatenate([choice.normal[:, k], choice.pool[chosen, k]])
        assert auc == pytest.approx(roc_auc_score([0] * 100 + [1] * 3, values))


def test_more_anomalies_choose_better_and_never_better_than_the_best() -> None:
    choices = [
        Choice.of([scores(good, 10 * seed + k) for k, good in enumerate((0.2, 1.0, 0.6))], seed)
        for seed in range(3)
    ]
    curve = choose(choices, 3)
    assert curve.counts == (1, 2, 5, 10, 20, 50)  # there are 50 to choose by
    assert curve.mean[-1] > curve.mean[0] + 0.03
    assert max(curve.high) <= max(c.quality.max() for c in choices)
    assert curve.best[-1] > 0.9
    assert choose(choices, 3) == curve


def test_few_types_give_few_anomalies() -> None:
    choice = Choice.of([scores(1.0, 0), scores(0.0, 1)], 0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = choice.draw(5, 1, rng)
        assert chosen is not None
        assert len(np.unique(choice.pool_kind[chosen])) == 1
        assert len(np.unique(chosen)) == 5
    assert choice.draw(40, 1, rng) is None
    assert choice.draw(1, 4, rng) is None


def test_the_command_trains_the_grid_once_and_draws_the_curve(finished, tmp_path: Path) -> None:
    source, _, _ = finished
    found = supervision(source, PLAN, tmp_path, seeds=1, command="typed")
    assert [curve.types for curve in found.curves] == [1, 2]
    assert list(found.quality) == list(GRID)
    assert found.oracle >= max(found.average, found.unsupervised) - 1e-9
    stamps = {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}
    assert supervision(source, PLAN, tmp_path, seeds=1, command="typed") == found
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")} == stamps
    assert (tmp_path / "supervision.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((tmp_path / "supervision.json").read_text())
    assert stored["curves"][0]["types"] == 1
    text = (tmp_path / "supervision.md").read_text()
    assert "typed" in text
    assert "Chosen by reconstruction" in text
    with pytest.raises(UsageError, match="no class 'x'"):
        supervision(source, PLAN, tmp_path, classes=("x",))

"""The table of results: right figures, honest intervals, nothing computed twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_folders import make_image_sets
from sklearn.metrics import roc_auc_score

from wsi_anomaly.experiments import cells as cells_module
from wsi_anomaly.experiments import images as images_module
from wsi_anomaly.experiments.cells import COLUMNS, measure, weighted_aucs
from wsi_anomaly.experiments.divisions import Division
from wsi_anomaly.experiments.images import main, markdown_rows, seen_by_features, summarise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_module, "DRAWS", 20)


def run(folder: Path, output: Path, *more: str, data: str = "chest") -> int:
    return main([str(folder), "--dataset", data, "--size", "32", "-o", str(output), *more])


def a_division(group: np.ndarray, abnormal: np.ndarray) -> Division:
    judge = np.arange(1, len(group))
    return Division("all", "", 0, np.array([0]), judge, judge, abnormal, group)


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_all_draws_agree_with_scikit_learn(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[False, True], rng.random(n) < 0.5])
    scores = rng.integers(0, 6, n + 2).astype(float)  # many ties
    weights = rng.integers(0, 4, (5, n + 2)).astype(float)
    weights[0] = labels  # one class only
    weights[1:, :2] = 1
    found = weighted_aucs(labels, scores, weights)
    assert np.isnan(found[0])
    for auc, row in zip(found[1:], weights[1:], strict=True):
        assert auc == pytest.approx(roc_auc_score(labels, scores, sample_weight=row))


def test_the_auc_is_that_of_the_judged_images() -> None:
    rng = np.random.default_rng(0)
    group = np.concatenate([[0], rng.integers(1, 9, 60)])
    abnormal = np.concatenate([[False], rng.random(60) < 0.5])
    scores = rng.normal(size=61) + abnormal
    scores[5] = np.nan
    found = measure({"x": scores}, a_division(group, abnormal), group)
    judged = np.isfinite(scores) & (np.arange(61) > 0)
    expected = roc_auc_score(abnormal[judged], scores[judged])
    assert found["auc"]["x"] == pytest.approx(expected, abs=1e-4)


def test_the_interval_is_over_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of the same images in the same groups make nothing more certain."""
    monkeypatch.setattr(cells_module, "DRAWS", 200)
    rng = np.random.default_rng(0)
    group = np.concatenate([[0], np.repeat(np.arange(1, 13), 4)])
    abnormal = np.concatenate([[False], np.repeat(np.arange(12) % 2 == 0, 4)])
    scores = np.concatenate([[0.0], np.repeat(rng.normal(size=12), 4)]) + abnormal

    def width(times: int) -> float:
        more = [np.concatenate([a[:1], np.repeat(a[1:], times)]) for a in (group, abnormal, scores)]
        cell = measure({"x": more[2]}, a_division(more[0], more[1]), more[0])
        _, low, high = summarise([cell], "x")
        return high - low

    assert width(20) == pytest.approx(width(1), abs=1e-3)
    assert width(1) > 0.1


def cells_of(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_cell_with_all_controls_and_a_row(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, tmp_path, "--seeds", "1") == 0
    cells = cells_of(tmp_path)
    assert len(cells) == 5
    for cell in cells:
        assert set(cell["auc"]) == set(COLUMNS)
        assert cell["seen_by_features"] is True  # the shipped network has seen radiographs
        assert cell["settings"]["data"] == "chest"
        assert "steps" not in cell["settings"]
    # Stripes of unchanged mean: features find them, the mean colour does not.
    assert summarise(cells, "method")[0] > 0.95
    out = capsys.readouterr().out
    assert "has seen the set" in out
    assert out.splitlines()[-1].endswith("| 5 |")


def test_finished_cells_are_not_computed_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    assert run(folder, tmp_path, "--seeds", "1") == 0
    first = capsys.readouterr().out
    (file,) = tmp_path.glob("*.jsonl")
    before = file.read_text().splitlines()
    file.write_text("\n".join(before[:3]) + "\n")  # stopped after three
    made: list[str] = []
    real = images_module.Bench.run
    monkeypatch.setattr(
        images_module.Bench, "run", lambda self, d: made.append(d.name) or real(self, d)
    )
    assert run(folder, tmp_path, "--seeds", "1") == 0
    assert len(made) == 2
    assert file.read_text().splitlines() == before
    assert capsys.readouterr().out == first
    # Other settings have a file of their own.
    assert run(folder, tmp_path, "--seeds", "1", "--estimator", "mahalanobis") == 0
    assert len(made) == 7
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_dpa_trains_both_networks_equally_long(folder: Path, tmp_path: Path) -> None:
    options = ("--method", "dpa", "--steps", "3", "--seeds", "1")
    assert run(folder, tmp_path, *options, data="cifar10") == 0
    for cell in cells_of(tmp_path):
        assert cell["settings"]["steps"] == 3
        assert all(cell["auc"][column] is not None for column in COLUMNS)


def test_a_row_for_each_class_and_one_for_the_mean() -> None:
    settings = {
        "data": "cifar10", "method": "density", "estimator": "both", "layers": ["a", "b"],
        "features": "f", "size": 64,
    }  # fmt: skip
    cells = [
        {
            "settings": settings,
            "seen_by_features": None,
            "row": row,
            "auc": dict.fromkeys(COLUMNS, auc),
            "draws": {column: [auc - 0.1, None, auc + 0.1] for column in COLUMNS},
        }
        for row, auc in (("bird", 0.6), ("car", 0.8))
    ]
    rows = markdown_rows(cells)
    assert rows[0].startswith("| cifar10 bird | density (both, a+b), f, 64 px | 0.600 [0.5")
    assert rows[2].startswith("| cifar10 mean of 2 |")
    assert "| 0.700 [0.605, 0.795] |" in rows[2]


def test_whether_the_network_saw_the_set(tmp_path: Path) -> None:
    weights = tmp_path / "compact.safetensors"
    assert seen_by_features("chest", "compact", weights) is None
    (tmp_path / "compact.json").write_text(json.dumps({"sources": ["glas", "lung"]}))
    assert seen_by_features("glas", "compact", weights) is True
    assert seen_by_features("chest", "compact", weights) is False
    assert seen_by_features("chest", "squeezenet", weights) is None


def test_bad_requests_end_with_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["--layers", "c9"], ["--seeds", "0"], ["--estimator", "best"], ["--size", "4"]):
        code = run(folder, tmp_path / "cells", *more)
        assert code in (1, 2), more
        error = capsys.readouterr().err
        assert error.startswith("Error: ")
        assert error.count("\n") == 1
    damaged = tmp_path / "cells"
    assert run(folder, damaged, "--seeds", "1") == 0
    next(iter(damaged.glob("*.jsonl"))).write_text("{")
    assert run(folder, damaged, "--seeds", "1") == 2
    assert "is damaged" in capsys.readouterr().err

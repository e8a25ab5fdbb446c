"""Trained against random features along a training: the same training as dpa's, never twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from image_folders import make_image_sets

from wsi_anomaly.autoencoder.batches import ArrayTiles
from wsi_anomaly.detectors import Dpa
from wsi_anomaly.experiments import curve
from wsi_anomaly.experiments.cells import Settings, measure
from wsi_anomaly.experiments.curve import learn_and_look, main, one_division_a_seed
from wsi_anomaly.experiments.image_sets import read_set
from wsi_anomaly.features import load_features
from wsi_anomaly.features.precision import fast_precision


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_sets(tmp_path_factory.mktemp("sets"))


def run(folder: Path, output: Path, *more: str) -> int:
    return main(
        [
            str(folder), "--dataset", "cifar10", "--row", "bird", "--size", "32", "--steps", "1",
            "3", "--batch-size", "4", "--seeds", "2", "-o", str(output), *more,
        ]
    )  # fmt: skip


def test_the_table_compares_both_networks_and_nothing_is_trained_twice(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    assert run(folder, tmp_path) == 0
    table = capsys.readouterr().out
    (file,) = tmp_path.glob("*.jsonl")
    cells = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(c["division"], c["network"]) for c in cells] == [
        ("seed 0 bird", "trained"), ("seed 0 bird", "random"),
        ("seed 1 bird", "trained"), ("seed 1 bird", "random"),
    ]  # fmt: skip
    for cell in cells:
        assert set(cell["auc"]) == {"1", "3"}
        assert all(0 <= auc <= 1 for auc in cell["auc"].values())
        assert cell["seen_by_features"] is True  # the shipped network saw CIFAR-10
    trained = [c["auc"]["3"] for c in cells if c["network"] == "trained"]
    assert f"| 3 | {np.mean(trained):.3f} (" in table
    monkeypatch.setattr(curve, "learn_and_look", lambda *_: pytest.fail("trained again"))
    assert run(folder, tmp_path) == 0
    assert capsys.readouterr().out == table


def test_the_last_look_is_what_dpa_itself_gives(folder: Path) -> None:
    images = read_set("cifar10", folder, 32)
    settings = Settings(
        "cifar10", 32, "dpa", "compact", "", ("c3",), steps=4, batch_size=4, loss_layer="c3"
    )
    (division,) = one_division_a_seed(images, "bird", 1)
    network = load_features("compact")
    found = learn_and_look(images, division, settings, network, [2, 4])
    same = load_features("compact").set_precision(fast_precision("cpu"))
    dpa = Dpa(same, settings.dpa(0)).fit(ArrayTiles(images.tiles_of(division.learn)))
    scores = images.mean_over_images(dpa.score_samples(images.tiles))
    assert found["4"] == measure({"": scores}, division, images.group)["auc"][""]


def test_a_row_that_does_not_exist_is_named(folder: Path, tmp_path: Path, capsys) -> None:
    assert run(folder, tmp_path, "--row", "horse") == 2
    assert "no row 'horse'" in capsys.readouterr().err


def test_a_damaged_file_is_not_written_over(folder: Path, tmp_path: Path, capsys) -> None:
    assert run(folder, tmp_path) == 0
    (file,) = tmp_path.glob("*.jsonl")
    file.write_text("not JSON", encoding="utf-8")
    assert run(folder, tmp_path) == 2
    assert "damaged" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "not JSON"

"""Labelled sets and their divisions: nothing that belongs together is ever on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_folders import make_labelled_folders
from sklearn.metrics import roc_auc_score

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.features import load_features
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.problems import Labelled, Problem
from wsi_anomaly.reproduce.run import reproduce
from wsi_anomaly.reproduce.sources.drawn import graded_slides
from wsi_anomaly.reproduce.sources.labelled import LabelledImages, cut

SETS = ("chest", "oral", "glas")
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled_folders(tmp_path_factory.mktemp("sets"))


def problem(source: LabelledImages, name: str, seed: int = 0) -> Problem:
    return source.problem(name, size=SIZE, equalise=False, seed=seed)


@given(st.integers(8, 90), st.integers(8, 90), st.integers(8, 40))
def test_tiles_cover_every_pixel_of_an_image(width: int, height: int, size: int) -> None:
    numbers = np.arange(width * height, dtype=np.int64)
    pixels = np.stack([numbers % 256, numbers // 256, 0 * numbers], 1).astype(np.uint8)
    image = pixels.reshape(height, width, 3)
    if min(width, height) < size:
        with pytest.raises(UsageError, match=r"a\.png is smaller than"):
            cut(image, size, Path("a.png"))
        return
    tiles = cut(image, size, Path("a.png"))
    assert tiles.shape[1:] == (size, size, 3)
    found = tiles.reshape(-1, 3).astype(np.int64)
    assert np.array_equal(np.unique(found[:, 0] + 256 * found[:, 1]), numbers)
    assert len(tiles) == -(-width // size) * -(-height // size)  # no more than it takes


@pytest.mark.parametrize("name", SETS)
def test_no_group_and_no_image_is_on_both_sides(folder: Path, name: str) -> None:
    source = LabelledImages(name, folder / name)
    for division in source.classes:
        found = problem(source, division)
        assert found.labelled is not None
        assert not set(found.labelled.group) & set(found.labelled.judge_group)
        assert found.learn_image is not None
        assert found.judge_image is not None
        assert not set(found.learn_image) & set(found.judge_image)
        assert 0 < found.abnormal.sum() < len(found.abnormal)
        assert len(np.unique(found.judge_image)) == len(found.abnormal)
        assert set(found.learn_image) <= set(found.labelled.image)


def test_a_division_with_a_leak_cannot_be_made() -> None:
    tiles, one = np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.intp)
    with pytest.raises(ValueError, match="both sides"):
        Labelled(tiles, one, one > 0, np.array([3]), np.array([2, 3]))


def test_chest_judges_every_image_once_a_seed_and_keeps_patients_of_both_classes_apart(
    folder: Path,
) -> None:
    source = LabelledImages("chest", folder / "chest")
    for seed in range(2):
        found = [problem(source, division, seed) for division in source.classes]
        judged = np.concatenate([np.unique(one.judge_image) for one in found])
        assert np.array_equal(np.sort(judged), np.arange(60))


def test_oral_keeps_colours_apart(folder: Path) -> None:
    source = LabelledImages("oral", folder / "oral")
    assert len(source.classes) == 20
    found = problem(source, "clusters-012")
    assert found.labelled is not None
    assert len(found.abnormal) + len(found.labelled.abnormal) == 60  # those at 400x only
    # The six tints are what the clusters find: three on each side, both classes of each.
    assert len(set(found.labelled.group)) == len(set(found.labelled.judge_group)) == 3
    assert len(found.abnormal) == 30


def test_glas_learns_from_two_healthy_patients_and_leaves_benign_growths_out(folder: Path) -> None:
    source = LabelledImages("glas", folder / "glas")
    assert len(source.classes) == 6
    for division in source.classes:
        found = problem(source, division)
        assert len(set(found.learn_group)) == 2
        assert found.labelled is not None
        assert len(found.judge) + len(found.labelled.tiles) == 20 * 3 * 2  # 70 x 50 px


def test_the_lesions_of_the_drawn_slides_differ_in_difficulty_alone() -> None:
    slides = graded_slides()
    by_difficulty = {
        d: [s for s, _ in slides if s.lesions == d] for d in ("easy", "medium", "hard")
    }
    seeds = [[s.seed for s in found] for found in by_difficulty.values()]
    assert seeds[0] == seeds[1] == seeds[2]
    learned = {s.seed for s, part in slides if part == 0}
    assert not learned & {s.seed for s, part in slides if part > 0}


def test_an_image_is_judged_by_the_mean_over_its_tiles(folder: Path, tmp_path: Path) -> None:
    source = LabelledImages("oral", folder / "oral")
    plan = Plan(
        features="compact", size=SIZE, aside=0,
        options={"density.estimator": "knn", "density.layers": "c3"},
    )  # fmt: skip
    rows = ("density", "mean-colour", "supervised")
    outcome = reproduce(source, plan, rows, tmp_path, classes=("clusters-012",), seeds=1)
    assert outcome.errors == []
    cells = [json.loads(line) for line in (tmp_path / "cells.jsonl").read_text().splitlines()]
    by_row = {cell["row"]: cell for cell in cells}
    assert by_row["density"]["settings"]["estimator"] == "knn"
    assert by_row["supervised"]["settings"]["layers"] == ["c3"]
    one = problem(source, "clusters-012")
    network = load_features("compact")
    density = Density(network, DensityConfig(("c3",), "knn")).fit(ArrayTiles(one.learn))
    scores = density.score_samples(one.judge)
    means = [scores[one.judge_image == image].mean() for image in np.unique(one.judge_image)]
    assert by_row["density"]["auc"] == pytest.approx(roc_auc_score(one.abnormal, means), abs=1e-4)
    assert by_row["density"]["groups"] == len(means)


def test_what_is_missing_or_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    for name in SETS:
        with pytest.raises(UsageError, match=str(tmp_path)):
            problem(LabelledImages(name, tmp_path), LabelledImages(name, tmp_path).classes[0])
    make_labelled_folders(tmp_path)
    bad = tmp_path / "chest" / "pneumonia" / "00000010_000.png"
    bad.write_bytes(bad.read_bytes()[:50])
    with pytest.raises(UsageError, match=r"00000010_000\.png is no readable image"):
        problem(LabelledImages("chest", tmp_path / "chest"), "fold-0")


def test_the_real_sets_divide(real_data: Path) -> None:
    source = LabelledImages("glas", real_data / "tiles" / "glas")
    found = source.problem("patients-01", size=128, equalise=False, seed=0)
    assert found.labelled is not None
    healthy = ~np.concatenate([found.abnormal, found.labelled.abnormal])
    assert healthy.sum() == 21

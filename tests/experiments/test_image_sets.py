"""Image sets and their divisions: nothing that belongs together is ever on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_folders import make_image_sets
from PIL import Image

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.experiments.divisions import CLUSTERS, Division, colour_clusters, divide
from wsi_anomaly.experiments.image_sets import SETS, cut, read_set
from wsi_anomaly.experiments.synthetic_tiles import graded_slides

IMAGE_FILES = [name for name in SETS if name != "synthetic"]
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_sets(tmp_path_factory.mktemp("sets"))


@given(st.integers(8, 90), st.integers(8, 90), st.integers(8, 40))
def test_tiles_cover_every_pixel_of_an_image(width: int, height: int, size: int) -> None:
    numbers = np.arange(width * height, dtype=np.int64)
    pixels = np.stack([numbers % 256, numbers // 256, 0 * numbers], 1).astype(np.uint8)
    image = Image.fromarray(pixels.reshape(height, width, 3))
    if min(width, height) < size:
        with pytest.raises(UsageError, match="has no"):
            cut(image, size)
        return
    tiles = np.stack(cut(image, size))
    assert tiles.shape[1:] == (size, size, 3)
    found = tiles.reshape(-1, 3).astype(np.int64)
    assert np.array_equal(np.unique(found[:, 0] + 256 * found[:, 1]), numbers)
    assert len(tiles) == -(-width // size) * -(-height // size)  # no more than it takes


@pytest.mark.parametrize("name", IMAGE_FILES)
def test_no_group_and_no_image_is_on_both_sides(folder: Path, name: str) -> None:
    images = read_set(name, folder, SIZE)
    divisions = divide(images, seeds=2)
    assert len({d.name for d in divisions}) == len(divisions)
    for division in divisions:
        learn, judge = division.learn, division.judge
        assert not set(division.group[learn]) & set(division.group[judge])
        assert not division.abnormal[learn].any()
        assert 0 < division.abnormal[judge].sum() < len(judge)
        assert np.isin(judge, division.known).all()
        tiles = len(images.tiles_of(learn)) + len(images.tiles_of(judge))
        assert tiles <= len(images.tiles)


def test_a_division_with_a_leak_cannot_be_made() -> None:
    group = np.array([0, 0, 1])
    abnormal = np.array([False, False, True])
    everything = np.arange(3)
    with pytest.raises(ValueError, match="both sides"):
        Division("x", "", 0, np.array([0]), np.array([1, 2]), everything, abnormal, group)
    with pytest.raises(ValueError, match="abnormal"):
        Division("x", "", 0, np.array([2]), np.array([0, 1]), everything, abnormal, group)


def test_chest_judges_every_image_once_a_seed_and_keeps_patients_of_both_classes_apart(
    folder: Path,
) -> None:
    images = read_set("chest", folder, SIZE)
    both = set(images.group[images.kind == 0]) & set(images.group[images.kind == 1])
    assert len(both) == 5
    divisions = divide(images, seeds=2)
    for seed in range(2):
        judged = np.concatenate([d.judge for d in divisions if d.seed == seed])
        assert np.array_equal(np.sort(judged), np.arange(images.count))


def test_oral_keeps_colours_apart_and_repeats_no_division(folder: Path) -> None:
    images = read_set("oral", folder, SIZE)
    assert images.count == 60  # those at 400x only
    cluster = colour_clusters(images, 0)
    assert len(set(cluster)) == CLUSTERS
    # The six tints are what the clusters find.
    assert all(len(set(cluster[i::6])) == 1 for i in range(6))
    divisions = divide(images, seeds=3)
    assert len(divisions) == 20  # three seeds find the same clusters
    assert len({d.judge.tobytes() for d in divisions}) == 20


def test_glas_learns_from_two_healthy_patients_and_leaves_benign_growths_out(folder: Path) -> None:
    images = read_set("glas", folder, SIZE)
    assert images.count == 20
    assert len(images.tiles) == 20 * 3 * 2  # 70 x 50 px
    divisions = divide(images, seeds=1)
    assert len(divisions) == 6
    assert all(len(set(images.group[d.learn])) == 2 for d in divisions)


def test_cifar10_learns_from_training_images_of_one_class(folder: Path) -> None:
    images = read_set("cifar10", folder, SIZE)
    for kind, division in enumerate(divide(images, seeds=1)):
        assert set(images.kind[division.learn]) == {kind}
        assert len(division.learn) == 14
        assert len(division.judge) == 12
        assert division.row == images.kinds[kind]


def test_the_lesions_of_the_drawn_slides_differ_in_difficulty_alone() -> None:
    slides = graded_slides()
    by_difficulty = {
        d: [s for s, _ in slides if s.lesions == d] for d in ("easy", "medium", "hard")
    }
    seeds = [[s.seed for s in found] for found in by_difficulty.values()]
    assert seeds[0] == seeds[1] == seeds[2]
    learned = {s.seed for s, part in slides if part == 0}
    assert not learned & {s.seed for s, part in slides if part > 0}


def test_what_is_missing_or_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image set"):
        read_set("lung", folder, SIZE)
    for name in IMAGE_FILES:
        with pytest.raises(UsageError, match=str(tmp_path)):
            read_set(name, tmp_path, SIZE)
    make_image_sets(tmp_path)
    bad = tmp_path / "tiles" / "chest_xray" / "pneumonia" / "00000010_000.png"
    bad.write_bytes(bad.read_bytes()[:50])
    with pytest.raises(UsageError, match=r"00000010_000\.png is no readable image"):
        read_set("chest", tmp_path, SIZE)


def test_the_real_sets_divide(real_data: Path) -> None:
    glas = read_set("glas", real_data, 128)
    assert len(set(glas.group[glas.kind == 0])) == 4
    assert len(divide(glas, seeds=1)) == 6

"""A tiny challenge goes the whole path: check, tile, learn, judge, table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_sets import make_camelyon

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.jobs import attempt
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.run import reproduce
from wsi_anomaly.reproduce.sources import camelyon_tiles
from wsi_anomaly.reproduce.sources.camelyon import Camelyon16
from wsi_anomaly.reproduce.sources.camelyon_files import Challenge, Side
from wsi_anomaly.slides import open_slide
from wsi_anomaly.tiles import TileStore
from wsi_anomaly.tiles.tiling import Tiling

PLAN = Plan(features="compact", steps=4, batch_size=4)


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_camelyon(tmp_path_factory.mktemp("challenge"))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tile without starting processes."""

    def one_by_one(jobs, out_dir, config, *, workers, resume=True):
        yield from (attempt(Tiling(out_dir, config, resume), job) for job in jobs)

    monkeypatch.setattr(camelyon_tiles, "tile_slides", one_by_one)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


def test_the_whole_path(download: Path, output: Path) -> None:
    told = []
    source = Camelyon16(download, output, progress=told.append)
    assert source.errors == []
    assert len(told) == 5  # all slides but the excluded one
    problem = source.problem("healthy", size=64, equalise=False, seed=0)
    assert problem.learn.shape[1:] == (192, 192, 3)
    assert problem.judge.shape[1:] == (64, 64, 3)
    assert set(problem.kind[problem.abnormal]) == {"tumour"}
    assert len(problem.known) > 0
    outcome = reproduce(source, PLAN, ("dpa", "deep-if", "mean-colour"), output, seeds=1)
    assert outcome.errors == []
    table = json.loads((output / "table.json").read_text())
    by_row = {row["row"]: row for row in table["rows"]}
    assert by_row["dpa"]["paper"]["tuned"] == 0.934
    assert by_row["deep-if"]["paper"] == {"default": 0.876, "tuned": 0.906}
    assert by_row["dpa"]["by_slide"] is not None
    assert "Stain target" in (output / "table.md").read_text()


def test_tiles_are_kept_and_those_of_tumour_lie_inside(download: Path, output: Path) -> None:
    source = Camelyon16(download, output)
    files = sorted((output / "tiles").rglob("*.h5"))
    stamps = [file.stat().st_mtime_ns for file in files]
    again = Camelyon16(download, output)
    assert [file.stat().st_mtime_ns for file in files] == stamps
    assert again.notes == source.notes
    store = TileStore.open(output / "tiles" / "anomaly" / "test_001.h5")
    assert set(store.label) == {"Tumor"}
    assert store.magnifications == (10,)
    assert store.preprocessing.per_tile
    assert not store.preprocessing.match_maxima


def test_the_very_tiles_of_the_authors_lists_are_read(download: Path, tmp_path: Path) -> None:
    """Axes are swapped in their names: x is the row."""
    place = tmp_path / "folds" / "train_test_split" / "camelyon16" / "healthy"
    for kind, side, names in (
        ("normal", "train", ["normal_001_normal_x_200_y_300", "normal_002_normal_x_0_y_12"]),
        ("normal", "test", ["test_002_normal_x_100_y_100", "test_009_normal_x_0_y_0"]),
        ("anomaly", "train", ["tumor_001_tumor_x_64_y_64"]),
        ("anomaly", "test", ["test_001_tumor_x_64_y_64", "test_001_tumor_x_64_y_128"]),
    ):
        (place / kind).mkdir(parents=True, exist_ok=True)
        lines = [f"{name}_w_768_h_768.jpg\n" for name in names]
        (place / kind / side).write_text("".join(lines))
    source = Camelyon16(download, tmp_path / "out", splits=tmp_path / "folds")
    assert any("Of the lists 1 slide not there" in note for note in source.notes)
    problem = source.problem("healthy", size=64, equalise=False, seed=0)
    assert problem.abnormal.tolist() == [False, True, True]
    with open_slide(download / "training" / "normal" / "normal_001.tif") as slide:
        expected = slide.read(300, 200, (192, 192), slide.mpp.x * 4).rgb
    found = source.problem("healthy", size=64, equalise=False, seed=0).learn[0]
    # Vahadane changes colours, not places.
    flat = [image.mean(2).ravel() for image in (expected, found)]
    assert np.corrcoef(flat)[0, 1] > 0.9
    (place / "normal" / "train").write_text("something else\n")
    with pytest.raises(UsageError, match="names no tile: 'something else'"):
        Camelyon16(download, tmp_path / "out", splits=tmp_path / "folds")


def test_all_missing_pieces_are_named_at_once(download: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(download, copy, symlinks=True)
    (copy / "testing" / "lesion_annotations.zip").unlink()
    shutil.rmtree(copy / "training" / "lesion_annotations")
    shutil.rmtree(copy / "training" / "normal")
    (copy / "testing" / "reference.csv").write_text("test_001,Tumor\n")
    with pytest.raises(UsageError) as error:
        Challenge.find(copy, tmp_path / "out")
    for piece in (
        "slides normal_*.tif",
        "labels in reference.csv for test_002",
        "lesion annotations (.xml) of test_001, tumor_001",
        "normal test slides",
        "download CAMELYON16",
    ):
        assert piece in str(error.value)
    with pytest.raises(UsageError, match=r"slides normal_.*tumor_.*test_.*reference\.csv"):
        Challenge.find(tmp_path / "out", tmp_path / "out")


def test_a_broken_annotation_costs_its_slide_alone(download: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(download, copy)
    (copy / "training" / "lesion_annotations" / "tumor_001.xml").write_text("<broken")
    challenge = Challenge.find(copy, tmp_path / "out")
    assert challenge.slides[Side("anomaly", "train")] == []
    assert [p.stem for p in challenge.slides[Side("anomaly", "test")]] == ["test_001"]
    (error,) = challenge.errors
    assert "tumor_001.xml is broken XML" in error


def test_without_any_tile_of_a_side_nothing_is_computed(download: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(download, copy)
    for name in ("normal_001", "normal_002"):
        (copy / "training" / "normal" / f"{name}.tif").write_bytes(b"no slide")
    with pytest.raises(UsageError, match=r"no tiles for normal train.*The first trouble: .*normal"):
        Camelyon16(copy, tmp_path / "out")


def test_a_full_disk_is_noticed_before_anything_is_tiled(
    download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(camelyon_tiles.shutil, "disk_usage", lambda _: little)
    with pytest.raises(UsageError, match=r"tiles of 5 slides take up to 0\.0 GB, and 0\.0 GB are"):
        Camelyon16(download, tmp_path)
    assert not (tmp_path / "tiles").exists()

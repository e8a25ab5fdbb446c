"""Where ``density`` judges fields, what it learns them from, and what is said where it cannot."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsi_anomaly.detectors import Model
from wsi_anomaly.features import load_features
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.tiles import TileStore
from wsi_anomaly.training.config import PRESETS
from wsi_anomaly.training.fields import with_fields_or_without
from wsi_anomaly.training.run import Watch, train

DENSITY = PRESETS["fast"].ranked_by("density")
OLD_TILES = Path(__file__).parents[1] / "data" / "tiles_0.1.0.h5"


def without_planes(folder: Path, copy: Path) -> Path:
    """Tile files as they were before they held planes."""
    shutil.copytree(folder, copy)
    for path in copy.glob("*.h5"):
        with h5py.File(path, "a") as file:
            for magnification in (10, 20):
                del file[f"{magnification}x/chunks"]
    return copy


def test_the_default_network_judges_fields_and_calibrates_by_them(cohort, tmp_path):
    notes: list[str] = []
    watch = Watch(note=notes.append)
    trained = train(cohort / "tiles", tmp_path / "model", DENSITY, watch=watch)
    assert notes == []
    model = Model.load(tmp_path / "model")
    assert model.fields_um == (256,)
    assert model.tile_methods == ()
    assert model.calibration["density"].n_slides == 4
    assert model.hash == trained.hash
    reference = model.calibration["density"].slides[0]
    found = score_slide(cohort / "slides" / f"{reference.slide}.tif", model)
    grid = found.grid(found.scores["density"])
    assert grid[reference.row, reference.col] == pytest.approx(reference.score, abs=1e-4)


def test_tile_files_without_planes_train_tiles_and_it_is_said(cohort, tmp_path):
    tiles = without_planes(cohort / "tiles", tmp_path / "tiles")
    notes: list[str] = []
    model = train(tiles, tmp_path / "model", DENSITY, watch=Watch(note=notes.append))
    (said,) = notes
    assert "holds single tiles only" in said
    assert "judges tiles of 64 um; run tile again for fields of 256 um" in said
    assert model.fields_um == ()
    assert model.tile_methods == ("density",)
    assert model.calibration["density"].n_slides == 4
    images = TileStore.open(tiles / "normal0.h5").images(10, slice(None))
    assert np.isfinite(model.score_tiles(images)["density"]).all()


def test_a_tile_file_of_0_1_0_is_one_without_a_plane():
    notes: list[str] = []
    stores = [TileStore.open(OLD_TILES)]
    config = with_fields_or_without(DENSITY, load_features("lite0"), stores, notes.append)
    assert config == replace(DENSITY, density_fields_um=())
    assert "tiles_0.1.0.h5 holds single tiles only" in notes[0]


def test_a_network_that_sees_whole_tiles_judges_tiles(cohort, tmp_path, monkeypatch):
    """Its pooling rounds sizes up, so what a position sees depends on the image."""
    network = load_features("squeezenet", random_seed=0)
    assert network.fields is None
    monkeypatch.setattr("wsi_anomaly.training.run.load_features", lambda *_, **__: network)
    notes: list[str] = []
    model = train(
        cohort / "tiles", tmp_path / "model",
        replace(DENSITY, features="squeezenet", density_fields_um=(256,)),
        watch=Watch(note=notes.append),
    )  # fmt: skip
    assert notes == [
        "The network squeezenet sees whole tiles only, so density judges tiles of 64 um."
    ]
    assert model.fields_um == ()
    assert model.calibration["density"].n_slides == 4


def test_what_has_no_fields_is_left_as_it_is_and_nothing_is_said():
    stores = [TileStore.open(OLD_TILES)]
    for config in (
        replace(DENSITY, features="compact"),
        replace(DENSITY, density_fields_um=()),
        replace(PRESETS["fast"], detector="dpa", beside=()),
    ):
        network = load_features(config.features)
        assert with_fields_or_without(config, network, stores, pytest.fail) == config

"""Tile files, results and models that version 0.1.0 made still open."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.detectors import Model
from wsi_anomaly.tiles import TileSet, TileStore

DATA = Path(__file__).parent / "data"


def test_a_tile_file_holds_single_tiles_and_no_plane():
    store = TileStore.open(DATA / "tiles_0.1.0.h5")
    assert store.images(10, slice(None)).shape == (len(store), 64, 64, 3)
    assert store.plane(10) is None
    assert len(TileSet([store], 10)) == (store.status == 0).sum()


def test_results_are_read(tmp_path):
    from wsi_anomaly.evaluation.folders import read_results

    with zipfile.ZipFile(DATA / "results_0.1.0.zip") as archive:
        archive.extractall(tmp_path)
    results, problems = read_results(tmp_path)
    assert not problems
    assert [result.name for result in results] == ["old"]


def test_a_model_judges_tiles():
    model = Model.load(models_folder() / "synthetic-20x")
    assert model.fields_um == ()
    assert model.tile_methods == model.methods
    side = model.tile_size
    images = np.random.default_rng(0).integers(0, 255, (3, side, side, 3), dtype=np.uint8)
    assert all(np.isfinite(values).all() for values in model.score_tiles(images).values())


def test_a_model_without_fields_has_no_maps():
    from wsi_anomaly.core.errors import ModelError

    with pytest.raises(ModelError):
        Model.load(models_folder() / "synthetic-20x").dense_maps()

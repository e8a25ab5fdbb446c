"""A search judges ``density`` as ``score`` does: in fields round the cells of its tiles."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from wsi_anomaly import tune
from wsi_anomaly.annotations import Outline
from wsi_anomaly.annotations.qupath import write_geojson
from wsi_anomaly.detectors import Density, Model
from wsi_anomaly.features import load_features
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.training.config import PRESETS
from wsi_anomaly.training.fields import cells_of_tiles
from wsi_anomaly.tuning import Watch
from wsi_anomaly.tuning.fold_scores import FoldScorer
from wsi_anomaly.tuning.inputs import read_inputs
from wsi_anomaly.tuning.search_data import Places, grouped_folds

BASE = PRESETS["fast"].ranked_by("density")
QUICK = {"detectors": ["density"], "trials": 1, "magnifications": [10]}


def scored(model: Model, places: Places, slides: Path) -> NDArray[np.float64]:
    """Scores (N,) of these cells, each slide read again and scored as a new one is."""
    out = np.full(len(places.cells), np.nan)
    for number in np.unique(places.cells[:, 0]):
        found = score_slide(slides / f"{places.stores[number].slide_name}.tif", model)
        mine = np.flatnonzero(places.cells[:, 0] == number)
        row, col = places.cells[mine, 1:].T
        out[mine] = found.grid(found.scores["density"])[row, col]
    return out


def test_a_fold_says_what_score_says_of_the_same_cells(drawn_tiles, monkeypatch):
    networks = {"lite0": load_features("lite0")}
    inputs = read_inputs(
        drawn_tiles / "tiles", [drawn_tiles / "few"], BASE, [10], networks, pytest.fail
    )
    assert inputs.fields_um == {"lite0": (256,)}
    data = inputs.data
    folds = grouped_folds(data.cases, 2)
    fitted = []
    fit = Density.fit_fields
    monkeypatch.setattr(Density, "fit_fields", lambda *own: fitted.append(own[0]) or fit(*own))
    result = FoldScorer(data, folds, networks).fold(BASE, "10x", 0, print)
    model = Model(
        name="fold", magnification=10, tile_size=64, detectors={"density": fitted[0]},
        primary="density", preprocessing=data.normal_places.stores[0].preprocessing.to_dict(),
    )  # fmt: skip
    slides = drawn_tiles / "slides"
    normal = scored(model, data.normal_places.take(folds[0].judged), slides)
    abnormal = scored(model, data.abnormal_places, slides)
    labels = np.r_[np.zeros(len(normal)), np.ones(len(abnormal))]
    auc = roc_auc_score(labels, np.concatenate((normal, abnormal)))
    assert result.value == pytest.approx(auc, abs=1e-3)
    assert result.value > 0.9, "drawn lesions stand out"


def test_the_configuration_that_is_written_judges_fields(drawn_tiles, tmp_path):
    notes: list[str] = []
    found = tune(
        drawn_tiles / "tiles", [drawn_tiles / "few"], tmp_path, BASE,
        watch=Watch(note=notes.append), **QUICK,
    )  # fmt: skip
    assert notes == []
    assert found.config.density_fields_um == (256,)
    assert found.config.density("") == BASE.density("")
    assert found.best.value > 0.9


def test_files_without_planes_are_judged_by_tiles_and_it_is_said(drawn_tiles, tmp_path):
    few = Path(shutil.copytree(drawn_tiles / "few", tmp_path / "few"))
    with h5py.File(few / "lesion 0.h5", "a") as file:
        del file["10x/chunks"], file["20x/chunks"]
    notes: list[str] = []
    found = tune(
        drawn_tiles / "tiles", [few], tmp_path / "tuned", BASE, watch=Watch(note=notes.append),
        **QUICK,
    )  # fmt: skip
    (said,) = notes
    assert "lesion 0.h5 holds single tiles only" in said
    assert "judges tiles of 64 um; run tile again for fields of 256 um" in said
    assert found.config.density_fields_um == ()


def test_a_tile_of_the_grid_is_its_own_cell(drawn_tiles):
    store = TileStore.open(drawn_tiles / "tiles" / "normal 0.h5")
    with h5py.File(store.path) as file:
        own = np.stack((file["row"][:], file["col"][:]), 1)
    for magnification in (10, 20):
        cells, judged = cells_of_tiles(store, magnification, 256)
        assert np.array_equal(cells[judged], own[judged])
        assert judged.any()


def test_a_lesion_that_holds_no_whole_cell_is_stored_with_its_surroundings(drawn_tiles, tmp_path):
    """Its tiles overlap to fit into it; nothing of it may be learned from as a cell."""
    outline = Outline("Tumour", shapely.box(260, 260, 410, 410))
    write_geojson(tmp_path / "small.geojson", [outline], "normal 0.tif")
    slide = drawn_tiles / "slides" / "normal 0.tif"
    config = TileConfig(magnifications=(10,), stride=8)
    made = tile_slide(Job(slide, annotations=tmp_path / "small.geojson"), tmp_path, config)
    store = TileStore.open(made.path)
    _, learned = store.plane(10)
    assert len(learned) == 0
    cells, judged = cells_of_tiles(store, 10, 256)
    assert judged.all()
    assert set(map(tuple, cells.tolist())) == {(2, 2)}

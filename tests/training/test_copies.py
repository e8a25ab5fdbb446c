"""Copies of a slide are one case: they train once, and do not calibrate against themselves."""

from __future__ import annotations

import shutil

import pytest

from wsi_anomaly.slides import slide_fingerprint
from wsi_anomaly.tiles import TileConfig, tile_slide
from wsi_anomaly.training.config import load_config
from wsi_anomaly.training.inputs import read_stores, tiles_of_cases
from wsi_anomaly.training.normals import NormalSlide
from wsi_anomaly.training.run import Watch, calibrate, train


@pytest.fixture(scope="module")
def config(cohort):
    return load_config(str(cohort / "tiny.toml"))


def copies_of(slide, folder, count=4):
    folder.mkdir()
    return [shutil.copy(slide, folder / f"copy{number}.tif") for number in range(count)]


def test_four_copies_of_a_slide_train_as_one_case(cohort, config, tmp_path):
    for copy in copies_of(cohort / "slides" / "normal0.tif", tmp_path / "slides"):
        tile_slide(copy, tmp_path / "tiles", TileConfig(magnifications=(10, 20)))
    notes: list[str] = []
    stores = read_stores(tmp_path / "tiles", config, notes.append)
    assert [store.case for store in stores] == ["copy0"]
    assert set(tiles_of_cases(stores)) == {"copy0"}
    assert len([n for n in notes if "is of the same slide as" in n]) == 3
    notes.clear()
    model = train(tmp_path / "tiles", tmp_path / "m", config, watch=Watch(note=notes.append))
    assert model.calibration == {}
    assert any("There is only one case" in note for note in notes)


def test_four_copies_of_a_slide_calibrate_as_one_case(cohort, config, tmp_path):
    model = train(cohort / "tiles" / "normal0.h5", tmp_path / "m", config)
    copies = copies_of(cohort / "slides" / "normal1.tif", tmp_path / "slides")
    notes: list[str] = []
    calibration, seen = calibrate(
        model, [NormalSlide(path, path.stem) for path in copies], watch=Watch(note=notes.append)
    )
    assert {found.n_cases for found in calibration.values()} == {1}
    assert seen == {slide_fingerprint(copies[0]): "calibration"}
    assert notes == [
        f"Not used for calibration: {copy} is a copy of {copies[0]}." for copy in copies[1:]
    ]

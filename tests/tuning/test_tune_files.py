"""Tile files in, a configuration for ``train`` out; what does not fit together is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from search_cases import DENSITY

import wsi_anomaly
from wsi_anomaly import tune
from wsi_anomaly.core.errors import TileStoreError, UsageError
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.training.config import load_config
from wsi_anomaly.tuning import Watch

QUICK = {"detectors": ["density"], "trials": 3}


@pytest.fixture(scope="module")
def tuned(drawn_tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    tune(drawn_tiles / "tiles", [drawn_tiles / "few"], folder, DENSITY, **QUICK)
    return folder


def test_the_folder_holds_what_the_documents_say(tuned: Path):
    shown = sorted(path.name for path in tuned.iterdir() if not path.name.startswith("."))
    assert shown == ["config.toml", "search.db", "search.png", "trials.csv", "tuned.json"]
    summary = json.loads((tuned / "tuned.json").read_text())
    assert summary["trials"] == 3
    assert summary["groups_of_anomalies"] == 2
    assert len(summary["cases"]) == 4
    assert not set(summary["cases"]) & set(summary["calibration_cases"])
    assert len((tuned / "trials.csv").read_text().splitlines()) == 4
    config = load_config(str(tuned / "config.toml"))
    assert list(config.tuned_on) == summary["cases"]
    assert config.detector == "density"
    said = (tuned / "config.toml").read_text()
    assert f"# Chosen: trial {summary['chosen']['trial']}" in said


@pytest.mark.parametrize("seed", [0, 5])
def test_the_trained_model_calibrates_on_cases_that_took_no_part(
    tuned: Path, drawn_tiles: Path, tmp_path: Path, seed: int
):
    """With another seed, too: the configuration remembers who chose it."""
    config = replace(load_config(str(tuned / "config.toml")), seed=seed)
    model = wsi_anomaly.train(drawn_tiles / "tiles", tmp_path / "model", config)
    case = {
        s.fingerprint: s.case for s in map(TileStore.open, (drawn_tiles / "tiles").glob("*.h5"))
    }
    calibrating = {case[mark] for mark, part in model.seen.items() if part == "calibration"}
    assert len(calibrating) == 3
    assert not calibrating & set(config.tuned_on)
    assert model.calibration["density"]


def test_more_trials_go_on_with_the_search(tuned: Path, drawn_tiles: Path, tmp_path: Path):
    began = []
    watch = Watch(trial=lambda number, _choices: began.append(number))
    own = Path(shutil.copytree(tuned, tmp_path / "own"))
    where = (drawn_tiles / "tiles", [drawn_tiles / "few"], own, DENSITY)
    found = tune(*where, **(QUICK | {"trials": 4}), watch=watch)
    assert len(began) == 1
    assert len(found.tried) == 4
    with pytest.raises(UsageError, match=r"other folds;.*--overwrite"):
        tune(*where, **QUICK, folds=2)
    found = tune(*where, **(QUICK | {"trials": 1}), folds=2, resume=False)
    assert len(found.tried) == 1


def test_one_abnormal_slide_at_one_magnification(drawn_tiles: Path, tmp_path: Path):
    found = tune(
        drawn_tiles / "tiles", [drawn_tiles / "few" / "lesion 0.h5"], tmp_path, DENSITY, **QUICK,
        magnifications=[20],
    )  # fmt: skip
    assert found.groups == 1
    assert found.config.magnification == 20
    assert "All anomalies come from one case" in (tmp_path / "config.toml").read_text()


def other_anomalies(drawn_tiles: Path, folder: Path, **how: object) -> Path:
    config = replace(TileConfig(magnifications=(10, 20), stride=8), **how)  # type: ignore[arg-type]
    slide = drawn_tiles / "slides" / "lesion 0.tif"
    outlines = drawn_tiles / "outlines" / "lesion 0.geojson"
    return tile_slide(Job(slide, annotations=outlines), folder, config).path


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"magnifications": (20,)}, "has tiles at 20x, the normal ones are used at 10x; tile both"),
        ({"tile_size": 48}, "has tiles of 48 px at 10x, 64 px are needed"),
        ({"stain": "none"}, "was tiled with other stain options than the normal tiles"),
    ],
)
def test_anomalies_that_were_tiled_otherwise(drawn_tiles, tmp_path, how, said):
    other = other_anomalies(drawn_tiles, tmp_path / "other", **how)
    with pytest.raises(TileStoreError, match=said):
        tune(
            drawn_tiles / "tiles", [other], tmp_path / "tuned", DENSITY, **QUICK,
            magnifications=[10],
        )  # fmt: skip
    assert not (tmp_path / "tuned").exists()


def test_no_anomalies(drawn_tiles: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"--anomalies.*--criterion reconstruction"):
        tune(drawn_tiles / "tiles", [], tmp_path / "tuned", DENSITY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="No tile file in"):
        tune(drawn_tiles / "tiles", [tmp_path / "empty"], tmp_path / "tuned", DENSITY)


def test_a_slide_is_not_normal_and_abnormal(drawn_tiles: Path, tmp_path: Path):
    both = drawn_tiles / "tiles" / "normal 1.h5"
    with pytest.raises(UsageError, match="come from one slide"):
        tune(drawn_tiles / "tiles", [both], tmp_path / "tuned", DENSITY)


def test_a_whole_slide_of_anomalies_is_taken_with_a_word(drawn_tiles: Path, tmp_path: Path):
    shutil.copytree(drawn_tiles / "tiles", tmp_path / "tiles")
    whole = tmp_path / "tiles" / "normal 6.h5"
    whole.rename(tmp_path / "whole.h5")
    notes: list[str] = []
    tune(
        tmp_path / "tiles", [tmp_path / "whole.h5"], tmp_path / "tuned", DENSITY,
        **(QUICK | {"trials": 1}), watch=Watch(note=notes.append),
    )  # fmt: skip
    assert any("every tile of it counts as abnormal" in note for note in notes)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_normal_cases(drawn_tiles: Path, tmp_path: Path, count: int):
    few = [drawn_tiles / "tiles" / f"normal {k}.h5" for k in range(count)]
    with pytest.raises(UsageError, match=f"at least 3 normal cases.*found {count};"):
        tune(few, [drawn_tiles / "few"], tmp_path / "tuned", DENSITY)


def test_three_cases_are_enough(drawn_tiles: Path, tmp_path: Path):
    three = [drawn_tiles / "tiles" / f"normal {k}.h5" for k in range(3)]
    notes: list[str] = []
    found = tune(
        three, [drawn_tiles / "few"], tmp_path / "tuned", DENSITY, **QUICK,
        watch=Watch(note=notes.append),
    )  # fmt: skip
    assert found.cases == 2
    assert all(len(t.folds) <= 2 for t in found.tried)
    assert any("2 cases take part" in note for note in notes)


def test_the_verb_of_the_package(drawn_tiles: Path, tmp_path: Path):
    found = wsi_anomaly.tune(
        drawn_tiles / "tiles", drawn_tiles / "few", tmp_path / "tuned", DENSITY, **QUICK
    )
    assert found.best in found.tried

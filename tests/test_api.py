"""The verbs for programs: the same as on the command line, and free to import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import wsi_anomaly
from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import NotASlideError, OutputError, UsageError, WsiAnomalyError
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.training.config import load_config

CONFIG = """\
detector = "density"
beside = []
"""


def slide(path: Path, seed: int, **more: object) -> Path:
    return make_slide(path, seed=seed, size_px=(700, 700), mpp=0.5, **more).path  # type: ignore[arg-type]


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, their tiles and a small model, all made by the verbs."""
    folder = tmp_path_factory.mktemp("study")
    for i in range(3):
        slide(folder / "slides" / f"s{i}.tif", 40 + i)
    slide(folder / "new" / "a.tif", 50, lesions="easy")
    slide(folder / "new" / "b.tif", 51)
    (folder / "new" / "bad.tif").write_bytes(b"no slide")
    for i in range(2):
        slide(folder / "normals" / f"n{i}.tif", 60 + i)
    (folder / "density.toml").write_text(CONFIG)
    (folder / "cases.csv").write_text("slide,case\ns0,animal 1\ns1,animal 2\n")
    (folder / "sizes.csv").write_text("slide,mpp\ns1,0.51\nn1,0.51\nb,0.51\n")
    made = wsi_anomaly.tile(
        folder / "slides", folder / "tiles", magnifications=(10, 20), max_tiles=60
    )
    assert len(made) == 3
    model = wsi_anomaly.train(folder / "tiles", folder / "model", str(folder / "density.toml"))
    assert model.primary == "density"
    return folder


@pytest.fixture(scope="module")
def results(study: Path) -> Path:
    """Results of the good slides among the new ones."""
    new = [study / "new" / "a.tif", study / "new" / "b.tif"]
    wsi_anomaly.score(new, study / "model", study / "results", workers=1)
    return study / "results"


def test_importing_costs_nothing() -> None:
    script = (
        "import sys, wsi_anomaly\n"
        "heavy = {'torch', 'numpy', 'openslide', 'click', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), wsi_anomaly.__version__)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]", wsi_anomaly.__version__]


def test_scoring_loads_nothing_that_it_does_without() -> None:
    """scikit-learn brings pandas and scipy.stats, the counter of operations a compiler: seconds."""
    script = (
        "import sys, wsi_anomaly.screening, wsi_anomaly.detectors, wsi_anomaly.scoring.alone\n"
        "print(sorted({'sklearn', 'pandas', 'scipy.stats', 'triton'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]"]


def test_an_unknown_verb_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="fly"):
        wsi_anomaly.fly  # noqa: B018


def test_a_single_slide_gives_a_single_score_map(study: Path, tmp_path: Path) -> None:
    (found,) = wsi_anomaly.score(
        study / "new" / "a.tif", study / "model", tmp_path / "results", heatmap=True
    )
    assert found.seen is None
    assert {"report.html", "heatmap.png"} <= {p.name for p in (tmp_path / "results/a").iterdir()}
    assert (tmp_path / "results" / "index.html").exists()


def stored(folder: Path) -> dict[str, object]:
    """All that the tile files of a folder hold."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            for name in ("coords", "status", "20x/images"):
                found[f"{path.name}/{name}"] = file[name][:].tobytes()
            found[f"{path.name}/attributes"] = {k: str(v) for k, v in file.attrs.items()}
    assert found
    return found


def test_tile_is_the_command(study: Path, tmp_path: Path) -> None:
    run("tile", study / "slides", "-o", tmp_path / "command", "--preset", "camelyon16",
        "--magnifications", "10,20", "--max-tiles", 7, "--min-tissue", 0.5,
        "--cases", study / "cases.csv", "--mpp-csv", study / "sizes.csv",
        "--workers", 1)  # fmt: skip
    made = wsi_anomaly.tile(
        study / "slides", tmp_path / "verb", preset="camelyon16", magnifications=(10, 20),
        max_tiles=7, min_tissue=0.5, cases={"s0": "animal 1", "s1": "animal 2"},
        mpp_csv=study / "sizes.csv", workers=1,
    )  # fmt: skip
    assert [result.path.name for result in made] == ["s0.h5", "s1.h5", "s2.h5"]
    assert stored(tmp_path / "verb") == stored(tmp_path / "command")
    with h5py.File(tmp_path / "verb" / "s1.h5") as file:
        assert (file.attrs["case"], file.attrs["mpp_x"]) == ("animal 2", 0.51)


def model_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("model.json", "model.safetensors")}


def test_train_is_the_command(study: Path, tmp_path: Path) -> None:
    run("train", study / "tiles", "-o", tmp_path / "command", "--config", study / "density.toml",
        "--magnification", 20, "--seed", 3)  # fmt: skip
    wsi_anomaly.train(
        study / "tiles", tmp_path / "verb", str(study / "density.toml"), magnification=20, seed=3
    )
    assert model_files(tmp_path / "verb") == model_files(tmp_path / "command")


def test_calibrate_is_the_command(study: Path, tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("n0,animal 7\nn1,animal 7\n")
    run("calibrate", study / "normals", "--model", study / "model", "-o", tmp_path / "command",
        "--cases", tmp_path / "cases.csv", "--mpp-csv", study / "sizes.csv")  # fmt: skip
    calibrated = wsi_anomaly.calibrate(
        study / "normals", study / "model", tmp_path / "verb", cases=tmp_path / "cases.csv",
        mpp_csv=study / "sizes.csv",
    )  # fmt: skip
    assert calibrated.calibration["density"].n_slides == 2
    assert calibrated.calibration["density"].n_cases == 1
    assert model_files(tmp_path / "verb") == model_files(tmp_path / "command")


def test_check_compares_a_batch_and_writes_nothing(
    study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run("calibrate", study / "normals", "--model", study / "model", "-o", tmp_path / "model",
        "--mpp-csv", study / "sizes.csv")  # fmt: skip
    before = model_files(tmp_path / "model")
    capfd.readouterr()
    run("check", study / "normals", "--model", tmp_path / "model",
        "--mpp-csv", study / "sizes.csv")  # fmt: skip
    said = "".join(capfd.readouterr())
    assert "2 of 2 slides looked at" in said
    assert "Too few slides to see" in said
    assert re.search(r"median score +\+0\.0 standard deviations", said)  # the reference itself
    assert model_files(tmp_path / "model") == before


def test_check_is_the_command(
    study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    normals = study / "normals"
    wsi_anomaly.calibrate(normals, study / "model", tmp_path / "model")
    run("check", normals, "--model", tmp_path / "model", "--mpp-csv", study / "sizes.csv")
    said = "".join(capfd.readouterr())
    found = wsi_anomaly.check(normals, tmp_path / "model", mpp_csv=study / "sizes.csv")
    assert found.shift is not None
    assert found.shift.sentence in said
    assert f"{found.used} of {found.slides} slides looked at" in said


def test_tune_is_the_command(study: Path, tmp_path: Path) -> None:
    common = ["--config", study / "density.toml", "--criterion", "roc-auc"]
    few = tmp_path / "few"
    wsi_anomaly.tile(study / "new" / "a.tif", few, max_tiles=20)
    run("tune", study / "tiles", "--anomalies", few, "-o", tmp_path / "command", *common,
        "--trials", 2, "--folds", 2, "--detector", "density", "--magnification", 10)  # fmt: skip
    found = wsi_anomaly.tune(
        study / "tiles", few, tmp_path / "verb", str(study / "density.toml"), trials=2, folds=2,
        detectors=["density"], magnifications=[10],
    )  # fmt: skip
    assert len(found.tried) == 2
    one, other = (load_config(str(tmp_path / by / "config.toml")) for by in ("command", "verb"))
    assert one == other


def test_score_is_the_command(study: Path, tmp_path: Path) -> None:
    new = [study / "new" / "a.tif", study / "new" / "b.tif"]
    run("score", *new, "--model", study / "model", "-o", tmp_path / "command", "--stride", 48,
        "--mpp-csv", study / "sizes.csv", "--gzip", "--workers", 1)  # fmt: skip
    wsi_anomaly.score(
        new, study / "model", tmp_path / "verb", stride_um=48, mpp_csv=study / "sizes.csv",
        gzip=True, workers=1,
    )  # fmt: skip
    for name in ("a", "b"):
        one, other = (tmp_path / by / name for by in ("command", "verb"))
        packed = "overlay.geojson.gz"
        assert (one / packed).read_bytes() == (other / packed).read_bytes()
        hashes = {json.loads((f / "summary.json").read_text())["result_hash"] for f in (one, other)}
        assert len(hashes) == 1
    assert json.loads((other / "summary.json").read_text())["slide"]["mpp"] == [0.51, 0.51]


def test_evaluate_is_the_command(results: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("slide,label\na,abnormal\nb,normal\n")
    cases = tmp_path / "cases.csv"
    cases.write_text("a,animal 1\nb,animal 2\n")
    run("evaluate", results, "--labels", labels, "--cases", cases, "--specificity", 0.8,
        "-o", tmp_path / "command")  # fmt: skip
    wsi_anomaly.evaluate(
        results, tmp_path / "verb", labels=labels, cases={"a": "animal 1", "b": "animal 2"},
        specificities=(0.8,),
    )  # fmt: skip
    one, other = ((tmp_path / by / "evaluation.json").read_bytes() for by in ("command", "verb"))
    assert one == other


@pytest.mark.parametrize("workers", [1, 2])
def test_a_list_is_scored_whole_in_its_order_and_failures_are_values(
    study: Path, results: Path, tmp_path: Path, workers: int
) -> None:
    new = study / "new"
    found = wsi_anomaly.score(
        [new / "b.tif", new / "bad.tif", new / "a.tif"], study / "model", tmp_path / "results",
        workers=workers,
    )  # fmt: skip
    assert [outcome.job.slide.name for outcome in found] == ["b.tif", "bad.tif", "a.tif"]
    b, bad, a = found
    assert bad.result is None
    assert "bad.tif" in bad.error
    assert "Traceback" in bad.traceback
    assert "score_to_folder" in bad.traceback
    assert b.result is not None
    assert a.result is not None
    assert [b.result.slide.name, a.result.slide.name] == ["b", "a"]
    assert "bad.tif" in (tmp_path / "results" / "slides.csv").read_text()


def test_what_is_done_is_kept_and_read_back_as_it_was(study: Path, tmp_path: Path) -> None:
    where = (study / "new" / "a.tif", study / "model", tmp_path / "results")
    (fresh,) = wsi_anomaly.score(*where)
    summary = tmp_path / "results" / "a" / "summary.json"
    written = summary.stat().st_mtime_ns
    (kept,) = wsi_anomaly.score(*where)
    assert summary.stat().st_mtime_ns == written
    assert kept.slide.path == fresh.slide.path
    assert kept.slide.mpp == fresh.slide.mpp
    assert kept.settings == fresh.settings
    assert kept.not_assessed_mm2() == fresh.not_assessed_mm2()
    assert kept.tissue.symmetric_difference(fresh.tissue).area < 1e-3 * fresh.tissue.area
    for name in ("coords", "row", "col", "tissue_fraction", "origin", "field_um"):
        assert np.array_equal(getattr(kept.fields, name), getattr(fresh.fields, name)), name
    assert np.array_equal(kept.score, fresh.score, equal_nan=True)
    old, new = fresh.interpretation, kept.interpretation
    for name in ("smoothed", "flagged", "percentile", "z", "slide_score", "color_range"):
        before, after = getattr(old, name), getattr(new, name)
        same = before is after is None or np.array_equal(after, before, equal_nan=True)
        assert same, name
    assert new.warnings == old.warnings
    assert new.operating_point == old.operating_point
    assert [region.area_mm2 for region in new.regions] == [r.area_mm2 for r in old.regions]
    wsi_anomaly.score(*where, resume=False)
    assert summary.stat().st_mtime_ns > written


def test_a_damaged_result_is_a_failure_of_its_slide_alone(study: Path, tmp_path: Path) -> None:
    where = ([study / "new" / "a.tif", study / "new" / "b.tif"], study / "model", tmp_path)
    wsi_anomaly.score(*where, workers=1)
    (tmp_path / "a" / "scores.zarr" / "tiles" / ".zattrs").write_text("{}")
    a, b = wsi_anomaly.score(*where, workers=1)
    assert a.result is None
    assert a.kind is OutputError
    assert "score the slide again" in a.error
    assert b.result is not None


def test_the_error_of_a_single_slide_is_raised_as_what_it_is(study: Path, tmp_path: Path) -> None:
    bad = study / "new" / "bad.tif"
    with pytest.raises(NotASlideError, match=r"bad\.tif"):
        wsi_anomaly.score(bad, study / "model", tmp_path / "results")
    with pytest.raises(NotASlideError, match=r"bad\.tif"):
        wsi_anomaly.tile(bad, tmp_path / "tiles")
    assert list(tmp_path.glob("tiles/*.h5")) == []


def test_a_folder_gives_what_could_be_done_and_warns_of_the_rest(
    study: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=r"bad\.tif"):
        tiled = wsi_anomaly.tile(study / "new", tmp_path / "tiles", max_tiles=5, workers=1)
    assert [result.slide.name for result in tiled] == ["a.tif", "b.tif"]
    with pytest.warns(UserWarning, match=r"bad\.tif"):
        scored = wsi_anomaly.score(study / "new", study / "model", tmp_path / "results", workers=1)
    assert [found.slide.name for found in scored] == ["a", "b"]


def test_a_list_of_slides_is_tiled_in_its_order(study: Path, tmp_path: Path) -> None:
    new = study / "new"
    listed = [new / "b.tif", new / "bad.tif", new / "a.tif"]
    found = wsi_anomaly.tile(listed, tmp_path / "tiles", max_tiles=5, workers=1)
    assert [outcome.job.slide for outcome in found] == listed
    assert [outcome.result is None for outcome in found] == [False, True, False]
    assert "Traceback" in found[1].traceback


def test_without_a_model_the_shipped_one_is_taken(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = wsi_anomaly.score(study / "new" / "a.tif")
    assert found.model["name"]
    assert (tmp_path / "results" / "a" / "report.html").exists()


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        wsi_anomaly.tile(tmp_path / "nowhere", tmp_path / "tiles")
    (tmp_path / "bad.tif").write_bytes(b"no slide")
    with pytest.raises(WsiAnomalyError, match=r"bad\.tif"):
        wsi_anomaly.tile(tmp_path / "bad.tif", tmp_path / "tiles")


def test_a_plain_script_may_call_the_verbs_with_several_workers(
    study: Path, tmp_path: Path
) -> None:
    """Its processes do not run the script again, so it needs no guard around what it does."""
    script = tmp_path / "script.py"
    script.write_text(
        "import wsi_anomaly\n"
        f"found = wsi_anomaly.tile({str(study / 'slides')!r}, 'tiles', max_tiles=5, workers=2)\n"
        "print(len(found), 'slides')\n"
    )
    out = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert out.stdout == "3 slides\n", out.stderr

"""A slide whose decoder ends the process that reads it: it is named, the others are done.

For ``tile`` and ``score`` see ``test_surroundings.py``.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import pytest
from faults_running import Ended, end, fresh, leftovers, run, start
from faults_world import SCORE

from wsi_anomaly.core import journal
from wsi_anomaly.slides import slide_fingerprint
from wsi_anomaly.training.run import _working_folder

FIRST, SECOND = "new0", "new1"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are guarded there")


def is_said(ended: Ended, slide: str = f"new/{FIRST}.tif") -> None:
    """That a process was ended, by which slide, and that the command ends by itself after it."""
    assert ended.code == 1, ended.printed
    notice, *_ = ended.printed.splitlines()
    assert notice == (
        "The command's process was ended (SIGSEGV: out of memory, or a fault in a slide's decoder) "
        f"while it read {slide}; once more, without it."
    )
    assert "Traceback" not in ended.printed
    reason = f"{slide} ended the command's process (SIGSEGV: out of memory, or a fault in its "
    assert reason + "decoder); leave it out" in ended.printed, ended.printed


def copy_of_new(world: Path, folder: Path) -> Path:
    shutil.copytree(world / "new", folder / "new")
    return folder


def test_info_shows_the_others_once(world: Path, tmp_path: Path) -> None:
    folder = fresh(world, tmp_path / "run", "new", "slides")
    paths = ("slides/normal0.tif", f"new/{FIRST}.tif", f"new/{SECOND}.tif")
    ended = run(folder, "info", *paths, FAULTS_CRASH_ON=FIRST)
    is_said(ended)
    assert len(ended.errors) == 1
    shown = re.findall(r"^slide (\S+)", ended.printed, re.MULTILINE)
    assert shown == ["slides/normal0.tif", f"new/{SECOND}.tif"]


def test_several_slides_are_left_out_one_after_the_other(world: Path, tmp_path: Path) -> None:
    folder = fresh(world, tmp_path / "run", "new", "slides")
    paths = (f"new/{FIRST}.tif", f"new/{SECOND}.tif", "slides/normal0.tif")
    ended = run(folder, "info", "--json", *paths, FAULTS_CRASH_ON="new")
    assert ended.code == 1
    assert len(ended.errors) == 2
    (shown,) = json.loads(ended.printed[ended.printed.index("[\n") : ended.printed.index("Error")])
    assert shown["path"] == "slides/normal0.tif"


def test_init_lists_the_slide_all_the_same(world: Path, tmp_path: Path) -> None:
    folder = copy_of_new(world, tmp_path / "run")
    is_said(run(folder, "init", "new", FAULTS_CRASH_ON=FIRST))
    assert (folder / "study.csv").read_text().splitlines()[1:] == [
        f"new/{FIRST}.tif,,,,,",
        f"new/{SECOND}.tif,,0.5,,,",
    ]


def test_preview_draws_the_others(world: Path, tmp_path: Path) -> None:
    folder = fresh(world, tmp_path / "run", "new")
    is_said(run(folder, "preview", "new", "-o", "sheets", FAULTS_CRASH_ON=FIRST))
    assert [file.name for file in (folder / "sheets").iterdir()] == [f"{SECOND}.preview.png"]
    assert not leftovers(folder)


def test_check_looks_at_the_others(world: Path, model: Path, tmp_path: Path) -> None:
    folder = fresh(world, tmp_path / "run", "new", "model")
    ended = run(folder, "check", "new", FAULTS_CRASH_ON=FIRST)
    is_said(ended)
    assert "1 of 2 slides looked at." in ended.printed


def test_calibrate_takes_the_others(world: Path, model: Path, tmp_path: Path) -> None:
    folder = fresh(world, tmp_path / "run", "new", "model")
    ended = run(folder, "calibrate", "new", "-o", "calibrated", FAULTS_CRASH_ON=FIRST)
    is_said(ended)
    assert "1 of 2 slides used; model in calibrated/" in ended.printed
    assert (folder / "calibrated" / "model.json").exists()
    assert not leftovers(folder)


def test_train_calibrates_on_the_others(
    world: Path, tiles: Path, model: Path, tmp_path: Path
) -> None:
    folder = fresh(world, tmp_path / "run", "slides", "tiles", "train.toml")
    seen = json.loads((model / "model.json").read_text())["seen"]
    slides = sorted((world / "slides").iterdir())
    calibrates = next(s.stem for s in slides if seen[slide_fingerprint(s)] == "calibration")
    arguments = ("train", "--config", "train.toml", "--detector", "density")
    ended = run(folder, *arguments, FAULTS_CRASH_ON=calibrates)
    assert ended.code == 0, ended.printed
    assert "once more, without it." in ended.printed
    assert re.search(rf"Not used for calibration: \S*{calibrates}\.tif ended the", ended.printed)
    assert not leftovers(folder)


def test_a_training_that_was_to_begin_anew_does_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = _working_folder(tmp_path / "model", resume=False)
    working.mkdir()
    monkeypatch.setattr(journal, "again", lambda: True)
    assert _working_folder(tmp_path / "model", resume=False).exists()
    monkeypatch.undo()
    assert not _working_folder(tmp_path / "model", resume=False).exists()


def test_evaluate_gives_the_figures_without_colour(
    world: Path, results: Path, tmp_path: Path
) -> None:
    folder = fresh(world, tmp_path / "run", "new", "results")
    half = [[0, 0], [256, 0], [256, 512], [0, 512], [0, 0]]
    outline = {"type": "Polygon", "coordinates": [half]}
    (folder / "outlines").mkdir()
    for name in (FIRST, SECOND):
        feature = {"type": "Feature", "geometry": outline, "properties": {}}
        (folder / "outlines" / f"{name}.geojson").write_text(json.dumps(feature))
    ended = run(folder, "evaluate", "--annotations", "outlines", FAULTS_CRASH_ON=FIRST)
    assert ended.code == 1, ended.printed
    assert f"{FIRST}.tif ended the command's process" in ended.printed
    assert "No control by colour" in ended.printed
    assert (folder / "evaluation" / "evaluation.html").exists()


def test_view_says_which_slide_ended_it(world: Path, results: Path, tmp_path: Path) -> None:
    folder = fresh(world, tmp_path / "run", "new", "results")
    process = start(folder, "view", "results", "--no-browser", FAULTS_CRASH_ON=FIRST)
    assert process.stdout is not None
    address = re.search(r"http://\S+/", process.stdout.readline())
    assert address is not None
    with pytest.raises((URLError, ConnectionError, HTTPException)):
        urllib.request.urlopen(f"{address[0]}tile/{FIRST}/0/0/0.jpg").read()
    ended = end(process)
    assert ended.code == 1
    (error,) = ended.errors
    assert re.fullmatch(rf"Error: .* while it read \S*{FIRST}\.tif; start it again\.", error)


def test_what_was_finished_before_is_not_overwritten_twice(
    world: Path, model: Path, tmp_path: Path
) -> None:
    folder = fresh(world, tmp_path / "run", "new", "model")
    assert run(folder, *SCORE).code == 0
    ended = run(folder, *SCORE, "--overwrite", FAULTS_CRASH_ON=SECOND)
    assert ended.code == 1, ended.printed
    assert ended.errors[0].startswith(f"Error: new/{SECOND}.tif ended its process")
    lines = [line for line in ended.printed.splitlines() if f"{FIRST}.tif: " in line]
    assert ["kept" in line for line in lines] == [False, True]

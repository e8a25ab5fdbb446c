"""Each command reads a slide for its fingerprint once; where it opens it twice, it says why."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from scoring_fakes import make_slide

from wsi_anomaly.cli.main import main
from wsi_anomaly.core import files
from wsi_anomaly.jobs import run_jobs
from wsi_anomaly.slides import opening
from wsi_anomaly.synthetic import make_slide as draw_slide
from wsi_anomaly.tiles import tiling


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], Counter[str]]:
    """How often each slide is opened, and read for its fingerprint; all in this process."""
    opened: Counter[str] = Counter()
    marked: Counter[str] = Counter()
    real_open, real_digest = opening._open, files._digest

    def count_open(path, *rest):
        opened[path.name] += 1
        return real_open(path, *rest)

    def count_digest(path):
        marked[Path(path).name] += 1
        return real_digest(path)

    def run_here(work, jobs, **options):
        return run_jobs(work, jobs, **options | {"workers": 0})

    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)  # the slides here are drawn just now
    monkeypatch.setattr(opening, "_open", count_open)
    monkeypatch.setattr(files, "_digest", count_digest)
    monkeypatch.setattr(tiling, "run_jobs", run_here)
    return opened, marked


def run(read, *arguments: object) -> tuple[dict[str, int], dict[str, int]]:
    """Run a command as a process would that knows nothing yet; what it opens and reads."""
    for counts in read:
        counts.clear()
    files._known.clear()
    assert main(list(map(str, arguments))) == 0
    opened, marked = (dict(counts) for counts in read)
    return opened, {name: n for name, n in marked.items() if name.endswith(".tif")}


def test_score(here, model, slide, read):
    once = {"lesion.tif": 1}
    command = ["score", slide, "--model", model, "--device", "cpu"]
    assert run(read, *command) == (once, once)
    assert run(read, *command) == ({}, once)  # kept
    assert run(read, *command, "--heatmap") == (once, once)  # done anew


def test_score_of_slides_of_one_name(here, model, slide, read):
    for name in ("a", "b"):
        (here / name).mkdir()
        make_slide(here / name / "scan.tif", seed=ord(name))
    twice = {"scan.tif": 2}  # two slides
    command = ["score", "a", "b", "--model", model, "--device", "cpu", "--workers", 1]
    assert run(read, *command) == (twice, twice)


def test_calibrate(here, model, slide, read):
    once, twice = {"lesion.tif": 1}, {"lesion.tif": 2}  # again for the pictures of the self-check
    assert run(read, "calibrate", slide, "--model", model, "-o", "other") == (twice, once)


def test_tile_then_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read) -> None:
    monkeypatch.chdir(tmp_path)
    slides = tmp_path / "slides"
    for k in range(6):
        draw_slide(slides / f"s{k}.tif", seed=k, size_px=(640, 640))
    once = {f"s{k}.tif": 1 for k in range(6)}
    twice = dict.fromkeys(once, 2)  # at most 30 slides are asked how much room they take
    assert run(read, "tile", slides) == (twice, once)
    assert run(read, "tile", slides) == (once, once)  # kept: it is opened for its pixel size
    (tmp_path / "more").mkdir()
    shutil.copy(slides / "s1.tif", tmp_path / "more" / "s0.tif")
    assert run(read, "tile", "more") == ({"s0.tif": 2}, {"s0.tif": 1})  # has a name of its own

    steps = {"steps": {"16": [0, 2], "32": [1, 2], "64": [1, 4]}, "batch_size": 8}
    (tmp_path / "few.json").write_text(json.dumps(steps))
    opened, marked = run(read, "train", "--config", "few.json", "--device", "cpu")
    assert set(opened) == set(marked)
    assert set(marked.values()) == {1}
    assert set(opened.values()) == {2}  # again for the pictures of the self-check

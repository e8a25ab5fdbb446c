"""``wsi-anomaly tile`` as a user types it."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.stain import reference_target
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileStore

FEW = ["--magnifications", "10", "--max-tiles", "20", "--workers", "1"]


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small slides and one file that is none."""
    folder = tmp_path_factory.mktemp("tile command")
    make_slide(folder / "normal.tif", seed=1, size_px=(1024, 1024))
    make_slide(
        folder / "lesion.tif", seed=2, size_px=(1536, 1536), lesions="easy",
        outlines_path=folder / "outlines" / "lesion.geojson",
    )  # fmt: skip
    (folder / "broken.tif").write_bytes(b"II*\0 no more")
    return folder


def run(*arguments: object) -> int:
    return main(["tile", *map(str, arguments)])


def table(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "slides.csv", newline="") as file:
        return {Path(row["slide"]).name: row for row in csv.DictReader(file)}


def test_a_folder_with_one_bad_slide(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tiles"
    assert run(slides, "-o", out, *FEW) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "2 of 3 slides done" in printed.err
    errors = [line for line in printed.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "broken.tif" in errors[0]
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "lesion.h5", "lesion.png", "normal.h5", "normal.png", "slides.csv",
    }  # fmt: skip
    assert {row["status"] for row in table(out).values()} == {"done", "error", "not a slide"}

    assert run(slides / "normal.tif", "-o", out, *FEW) == 0
    assert "kept" in capsys.readouterr().err
    assert table(out)["normal.tif"]["status"] == "kept"
    assert run(slides / "normal.tif", "-o", out, *FEW, "--seed", "1", "-q") == 0
    assert "configuration has changed" in table(out)["normal.tif"]["reason"]
    assert capsys.readouterr().err == ""


def test_a_slide_alone_needs_no_second_process(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would load every package twice."""
    monkeypatch.setattr("wsi_anomaly.jobs.run.run_in_processes", None)
    assert run(slides / "normal.tif", "-o", tmp_path, *FEW[:-2]) == 0
    assert table(tmp_path)["normal.tif"]["status"] == "done"


def test_the_few_known_anomalies_are_cut_from_their_outlines(slides: Path, tmp_path: Path) -> None:
    options = ["--annotations", slides / "outlines", "--label", "Lesion", "--stride", "16"]
    assert run(slides / "lesion.tif", "-o", tmp_path, *FEW, *options) == 0
    store = TileStore.open(tmp_path / "lesion.h5")
    assert store.label is not None
    assert set(store.label) == {"Lesion"}
    assert run(slides / "normal.tif", "-o", tmp_path, *FEW, *options) == 1  # none is drawn on it
    assert "normal.geojson" in table(tmp_path)["normal.tif"]["reason"]


def test_a_target_of_the_users_own(slides: Path, tmp_path: Path) -> None:
    from wsi_anomaly.slides import open_slide

    with open_slide(slides / "lesion.tif") as slide:
        Image.fromarray(slide.thumbnail(1024)).save(tmp_path / "target.png")
    picture = tmp_path / "target.png"
    assert run(slides / "lesion.tif", "-o", tmp_path, *FEW, "--target", picture) == 0
    store = TileStore.open(tmp_path / "lesion.h5")
    target = store.preprocessing.target
    assert target is not None
    assert target != reference_target()
    assert store.stain is not None
    degrees = np.degrees(np.arccos(np.clip((store.stain.matrix * target.matrix).sum(1), -1, 1)))
    assert degrees.max() < 8  # the slide's own stains are those of its picture


def test_a_preset_and_what_wins_over_it(slides: Path, tmp_path: Path) -> None:
    common = ["--workers", "1", "--magnifications", "10", "--preset", "camelyon16"]
    assert run(slides / "lesion.tif", "-o", tmp_path, *common, "--min-tissue", "0.9") == 0
    store = TileStore.open(tmp_path / "lesion.h5")
    assert store.tile_side(10) == 192
    assert (store.config["max_tiles"], store.config["min_tissue"]) == (50, 0.9)


def test_shards_share_the_slides_out(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [slides / "normal.tif", slides / "lesion.tif"]
    assert run(*good, "-o", tmp_path, *FEW, "--shard", "1/2") == 0
    assert [path.name for path in tmp_path.glob("*.h5")] == ["lesion.h5"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    assert run(*good, "-o", tmp_path, *FEW, "--shard", "slurm") == 0
    assert {path.name for path in tmp_path.glob("*.h5")} == {"lesion.h5", "normal.h5"}
    assert set(table(tmp_path)) == {"lesion.tif", "normal.tif"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no/such/folder"], "does not exist"),
        (["{empty}"], "No slide in"),
        (["{slide}", "--label", "Tumour"], "--annotations"),
        (["{slide}", "--annotations", "{slide}", "--label", ""], "not empty"),
        (["{slide}", "--stain", "none", "--per-tile"], "leaves colours alone"),
        (["{slide}", "--target", "{broken}"], "is no image"),
        (["{slide}", "--target", "{empty}/none.png"], "No such file"),
        (["{slide}", "--magnifications", "7"], "10, 20 and 40"),
        (["{slide}", "--magnifications", "ten"], "such as 10,20,40"),
        (["{slide}", "--mpp", "250"], "not plausible"),
        (["{slide}", "--shard", "0/4"], "counts from 1/4"),
        (["{slide}", "--workers", "0"], "workers"),
        (["{slide}", "--dask", "tcp://127.0.0.1:1"], "No Dask scheduler"),
        (["{slide}", "--dask", "nonsense"], "No Dask scheduler"),
        (["{slide}", "--tissue-mask", "{empty}/m.png"], "does not exist"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence_and_exits_2(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str],
    said: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "--dask" in arguments:
        pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
        monkeypatch.setattr("wsi_anomaly.jobs.cluster._CONNECT_SECONDS", 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    names = {"slide": slides / "normal.tif", "broken": slides / "broken.tif", "empty": empty}
    assert run(*(a.format(**names) for a in arguments), "-o", tmp_path / "tiles") == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("tiles/*.h5"))


def test_debug_shows_where_a_slide_failed_in_another_process(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [slides / "broken.tif", slides / "normal.tif"]
    assert run(*files, "-o", tmp_path, *FEW[:-1], "2", "--debug") == 1
    said = capsys.readouterr().err
    assert said.count("Traceback (most recent call last)") >= 1
    assert "in tile_slide" in said
    assert "--debug" not in said
    assert said.strip().splitlines()[-1].startswith("Error: ")


def start(slides: Path, out: Path) -> subprocess.Popen[str]:
    script = "from wsi_anomaly.cli.main import run; run()"
    command = [sys.executable, "-c", script, "tile", str(slides), "-o", str(out), *FEW]
    return subprocess.Popen(command, start_new_session=True, text=True, stderr=subprocess.PIPE)


def test_killed_at_any_moment_then_resumed(slides: Path, tmp_path: Path) -> None:
    """Nothing half-written is ever taken for whole."""
    rng = random.Random(0)
    waited = [rng.uniform(0.5, 6.0) for _ in range(3)]
    for seconds in waited:
        process = start(slides, tmp_path)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for file in tmp_path.glob("*.h5"):
            TileStore.open(file)  # raises when it is not whole
    assert run(slides, "-o", tmp_path, *FEW, "-q") == 1  # for the broken slide alone
    assert len([TileStore.open(file) for file in tmp_path.glob("*.h5")]) == 2
    assert set(table(tmp_path)) == {"normal.tif", "lesion.tif", "broken.tif", "lesion.geojson"}


def test_two_runs_on_one_folder(slides: Path, tmp_path: Path) -> None:
    runs = [start(slides, tmp_path) for _ in range(2)]
    seen = 0
    while any(process.poll() is None for process in runs):
        for file in tmp_path.glob("*.h5"):
            try:
                seen += len(TileStore.open(file)) > 0
            except TileStoreError as error:
                pytest.fail(f"a file was there before it was whole: {error}")
        time.sleep(0.05)
    assert [process.returncode for process in runs] == [1, 1]
    for process in runs:
        assert "2 of 3 slides done" in process.communicate()[1]
    assert seen
    assert set(table(tmp_path)) == {"normal.tif", "lesion.tif", "broken.tif", "lesion.geojson"}
    assert not list(tmp_path.glob(".*.partial"))


def test_slides_that_the_table_of_cases_does_not_name_are_said(slides, tmp_path, capsys):
    table = tmp_path / "cases.csv"
    table.write_text("slide,case\nnormal.tif,rat 1\nlesi0n.tif,rat 1\n", encoding="utf-8")
    chosen = [slides / "normal.tif", slides / "lesion.tif"]
    assert run(*chosen, "--cases", table, "-o", tmp_path / "tiles", *FEW) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "--cases does not name 1 of 2 slides (lesion.tif); each of them is a case" in said
    table.write_text("slide,case\nnormal,rat 1\nlesion.tif,rat 1\n", encoding="utf-8")
    assert run(*chosen, "--cases", table, "-o", tmp_path / "tiles", *FEW) == 0
    assert "does not name" not in capsys.readouterr().err

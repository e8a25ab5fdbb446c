"""``wsi-anomaly tune`` as it is typed: shared, killed, interrupted, and wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_running import run_cli

from wsi_anomaly.annotations import Outline
from wsi_anomaly.annotations.qupath import write_geojson
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, tile_slide
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.training.config import load_config

CASES = 5


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiles/`` of five normal slides; ``few/``: a piece of one with lesions."""
    import shapely

    folder = tmp_path_factory.mktemp("tune")
    config = TileConfig(magnifications=(10,))
    for k in range(CASES):
        slide = folder / "slides" / f"normal{k}.tif"
        slide.parent.mkdir(exist_ok=True)
        make_slide(slide, seed=700 + k, size_px=(640, 640), mpp=0.5)
        tile_slide(slide, folder / "tiles", config)
    slide = folder / "known.tif"
    make_slide(slide, seed=802, size_px=(640, 640), mpp=0.5, lesions="easy")
    outlines = folder / "known.geojson"
    write_geojson(outlines, [Outline("Tumour", shapely.box(100, 100, 540, 540))], "known.tif")
    tile_slide(Job(slide, annotations=outlines), folder / "few", config)
    return folder


def command(tiles: Path, output: Path, *more: str | Path) -> list[str | Path]:
    return [
        "tune", tiles / "tiles", "--anomalies", tiles / "few", "-o", output, "--detector",
        "density", "--device", "cpu", *more,
    ]  # fmt: skip


def start(arguments: list[str | Path]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wsi_anomaly", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # A shell starts what runs in the background deaf to Ctrl-C; its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip


def slow_config(folder: Path) -> Path:
    """A configuration whose training takes long enough to be interrupted."""
    path = folder / "slow.json"
    path.write_text(
        json.dumps(
            {"resolution": 16, "first_resolution": 16, "latent_resolution": 4, "field_um": 16,
             "steps": {"16": [0, 100_000]}, "batch_size": 4, "validate_every": 100_000}
        )
    )  # fmt: skip
    return path


def test_a_search_from_the_command_line(tiles: Path, tmp_path: Path) -> None:
    code, printed = run_cli(*command(tiles, tmp_path / "tuned", "--trials", "3"))
    assert code == 0
    lines = printed.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == [
        f"[{k}/3] trial {k - 1}" for k in (1, 2, 3)
    ]
    assert "left" in lines[0]
    assert "; best 0." in lines[0] or "; best 1." in lines[0]
    assert "Chosen: trial" in printed
    assert "All anomalies come from one case" in printed
    config = tmp_path / "tuned" / "config.toml"
    assert f"next: wsi-anomaly train {tiles / 'tiles'} --config {config}" in printed
    assert len(load_config(str(config)).tuned_on) == 3
    code, printed = run_cli(
        "train", tiles / "tiles", "--config", config, "-o", tmp_path / "model", "--device", "cpu"
    )
    assert code == 0
    assert (tmp_path / "model" / "model.json").exists()


def test_processes_share_the_trials(tiles: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/shared/search.db"
    both = [
        start(command(tiles, tmp_path / name, "--trials", "8", "--storage", storage))
        for name in ("one", "two")
    ]
    printed = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(printed)
    tables = [(tmp_path / name / "trials.csv").read_text() for name in ("one", "two")]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 9
    chosen = [load_config(str(tmp_path / name / "config.toml")) for name in ("one", "two")]
    assert chosen[0] == chosen[1]


def wait_for_a_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob(".folds/*/fold_1/*.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_it_goes_on(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    """The trial that was under way is tried again, from its checkpoint."""
    from wsi_anomaly.learning.loop import TrainingLoop
    from wsi_anomaly.tuning import study

    output = tmp_path / "tuned"
    arguments = [
        "tune", tiles / "tiles", "--anomalies", tiles / "few", "-o", output, "--detector", "dpa",
        "--device", "cpu", "--config", slow_config(tmp_path), "--trials", "1",
    ]  # fmt: skip
    process = start(arguments)
    wait_for_a_checkpoint(output, process)
    os.kill(process.pid, how)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == (130 if how == signal.SIGINT else -how), printed
    assert not (output / "config.toml").exists()

    begun: list[int] = []

    def only_begin(self: TrainingLoop) -> list[dict[str, object]]:
        begun.append(self._state.done)
        return [{"step": self._state.done}]

    monkeypatch.setattr(TrainingLoop, "run", only_begin)
    monkeypatch.setattr(study, "_SILENT_S", 1)
    monkeypatch.setattr(study, "_HEARTBEAT_S", 1)
    code, printed = run_cli(*arguments)
    assert code == 0, printed
    assert begun[0] > 0, "from the checkpoint, not from the first step"
    assert len((output / "trials.csv").read_text().splitlines()) == 2
    assert "start, dpa" not in printed
    summary = json.loads((output / "tuned.json").read_text())
    assert summary["start"]["trial"] == summary["chosen"]["trial"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--trials", "0"], "at least 1 trial, not 0"),
        (["--folds", "1"], "at least 2 folds, not 1"),
        (["--config", "nothing.toml"], "no configuration"),
        (["--features", "nothing"], "no network 'nothing'"),
        (["--anomalies", "nowhere"], "nowhere does not exist"),
        (["--device", "abacus"], "no device"),
    ],
)
def test_wrong_usage_is_one_sentence(tiles: Path, tmp_path: Path, more: list[str], said: str):
    code, printed = run_cli(*command(tiles, tmp_path / "tuned", *more))
    assert code == 2, printed
    assert said in printed
    assert len(printed.strip().splitlines()) == 1


def test_without_anomalies_the_user_learns_both_ways_out(tiles: Path, tmp_path: Path) -> None:
    code, printed = run_cli("tune", tiles / "tiles", "-o", tmp_path / "tuned")
    assert code == 2
    assert "tile --annotations" in printed
    assert "--criterion reconstruction" in printed


def test_a_database_of_something_else_is_one_sentence(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    storage = ["--storage", f"sqlite:///{tmp_path}/notes.txt"]
    code, printed = run_cli(*command(tiles, tmp_path / "tuned", *storage))
    assert code == 1
    assert "is no database or is damaged" in printed
    assert len(printed.strip().splitlines()) == 1
    with contextlib.suppress(FileNotFoundError):
        assert not list((tmp_path / "tuned").iterdir())

"""The world around the program fails: slides vanish or hang, disks fill, processes are killed."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults_running import (
    Ended,
    count,
    differences,
    end,
    fresh,
    leftovers,
    only_in_full,
    run,
    start,
    workers_of,
)
from faults_world import SCORE, TILE, TRAIN, command_in_process
from recording import Tally

FIRST, SECOND = "new0", "new1"


def tile_new(*more: str) -> tuple[str, ...]:
    return ("tile", "new", "--magnifications", "10", *more)


def score_new(model: Path, *more: str) -> tuple[str, ...]:
    return ("score", "new", "--model", str(model), *more)


def copy_of_new(world: Path, folder: Path) -> Path:
    """A folder with copies of the new slides, which may be harmed."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world / "new", folder / "new")
    return folder


def only_the_first_failed(ended: Ended, folder: Path, command: str) -> None:
    """Exit code 1, one sentence that names the first slide, the second slide done."""
    assert ended.code == 1, ended.printed
    assert "Traceback" not in ended.printed, ended.printed
    assert "unexpected" not in ended.printed, ended.printed
    assert len(ended.errors) == 1, ended.printed
    assert FIRST in ended.errors[0]
    assert ended.errors[0].endswith(".")
    if command == "tile":
        with open(folder / "tiles" / "slides.csv", newline="") as file:
            rows = {Path(row["slide"]).stem: row["status"] for row in csv.DictReader(file)}
        # Kept: it was whole when the process of the other slide took its own down with it.
        assert rows.keys() == {FIRST, SECOND}
        assert (rows[FIRST], rows[SECOND]) in {("error", "done"), ("error", "kept")}
        assert not (folder / "tiles" / f"{FIRST}.h5").exists()
        assert (folder / "tiles" / f"{SECOND}.h5").is_file()
    else:
        assert not (folder / "results" / FIRST).exists()
        assert (folder / "results" / SECOND / "summary.json").is_file()
        assert f">{FIRST}" in (folder / "results" / "index.html").read_text()
    assert leftovers(folder) == []


@pytest.mark.parametrize("command", ["tile", "score"])
def test_a_slide_disappears(command: str, world: Path, tmp_path: Path, model: Path) -> None:
    tally = Tally(
        f"disappears_{command}",
        f"`{command}`: a slide is removed while the run goes on",
        "one sentence names it; the other slide done",
    )
    if command == "score":
        only_in_full()
    arguments = tile_new() if command == "tile" else score_new(model)
    with tally.attempt("before it is opened"):
        folder = copy_of_new(world, tmp_path / "run")
        ended = run(folder, *arguments, FAULTS_VANISH=f"{FIRST}:1")
        only_the_first_failed(ended, folder, command)
    tally.finish()


@pytest.mark.parametrize("command", ["tile", "score"])
def test_all_reads_of_a_slide_hang(command: str, world: Path, tmp_path: Path, model: Path) -> None:
    tally = Tally(
        f"hangs_{command}",
        f"`{command}`: reads of a slide never come back (limit set to 1 s)",
        "given up after five reads, one sentence names it; the other slide done",
    )
    if command == "score":
        only_in_full()
    arguments = tile_new() if command == "tile" else score_new(model)
    with tally.attempt(command):
        folder = copy_of_new(world, tmp_path / "run")
        ended = run(folder, *arguments, FAULTS_HANG_ON=FIRST, WSI_ANOMALY_READ_TIMEOUT="1")
        only_the_first_failed(ended, folder, command)
        assert any(part in ended.errors[0] for part in ("does not answer", "cannot be read"))
    tally.finish()


@pytest.mark.parametrize("command", ["tile", "score"])
def test_a_worker_is_killed(command: str, world: Path, tmp_path: Path, model: Path) -> None:
    tally = Tally(
        f"worker_{command}",
        f"`{command} --workers 2`: a worker is killed with SIGKILL, as for memory, by one slide",
        "one sentence names the slide; the other slide done",
    )
    only_in_full()
    arguments = (tile_new() if command == "tile" else score_new(model)) + ("--workers", "2")
    for number in range(count(5, 1)):
        with tally.attempt(f"try {number}"):
            folder = copy_of_new(world, tmp_path / "run")
            ended = run(folder, *arguments, FAULTS_KILL_WORKER_ON=FIRST)
            only_the_first_failed(ended, folder, command)
            assert "ended its process" in ended.errors[0]
    tally.finish()


@pytest.mark.parametrize("command", ["tile", "score"])
def test_the_only_slide_ends_its_process(command: str, world: Path, tmp_path: Path) -> None:
    tally = Tally(
        f"alone_{command}",
        f"`{command}`: the decoder of the only slide reads where there is no memory (SIGSEGV)",
        "one sentence names the slide, the table too; nothing written of it",
    )
    folder = copy_of_new(world, tmp_path / "run")
    (folder / "new" / f"{SECOND}.tif").unlink()
    with tally.attempt("its opening"):
        ended = run(folder, command, "new", FAULTS_CRASH_ON=FIRST)
        assert ended.code == 1, ended.printed
        assert len(ended.errors) == 1, ended.printed
        assert ended.errors[0].startswith(f"Error: new/{FIRST}.tif ended its process")
        assert ended.errors[0].endswith("leave it out, or try it on a machine with more memory.")
        table = folder / {"tile": "tiles", "score": "results"}[command] / "slides.csv"
        assert "ended its process" in table.read_text()
        assert not (table.parent / f"{FIRST}.h5").exists()
        assert not (table.parent / FIRST).exists()
        assert not leftovers(folder)
    tally.finish()


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_command_that_is_ended_complains_of_nothing(world: Path, tmp_path: Path) -> None:
    """As by a batch system; its workers were to be ended, and their locks removed."""
    folder = copy_of_new(world, tmp_path / "run")
    process = start(folder, *tile_new("--workers", "2"))
    while process.poll() is None and len(workers_of(process.pid)) < 3:  # and what keeps the locks
        time.sleep(0.01)
    process.terminate()
    ended = end(process)
    assert ended.code == 128 + signal.SIGTERM, ended.printed
    assert "semaphore" not in ended.printed


COMMANDS = {
    "tile": (TILE, ("slides",), "tiles"),
    "train": (TRAIN, ("slides", "tiles", "train.toml"), "model"),
    "score": (SCORE, ("new", "model"), "results"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_two_runs_in_one_folder(
    command: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if command != "tile":
        only_in_full()
    arguments, needs, output = COMMANDS[command]
    expected = request.getfixturevalue(output)
    tally = Tally(
        f"two_{command}",
        f"two runs of `{command}` at once, into one folder",
        "both end well; the files are those of one undisturbed run",
    )
    faults = {"FAULTS_CHECKPOINT_EVERY": "3"} if command == "train" else {}
    for number in range(count(5, 1)):
        with tally.attempt(f"try {number}"):
            folder = fresh(world, tmp_path / "run", *needs)
            both = [start(folder, *arguments, **faults) for _ in range(2)]
            for ended in [end(process) for process in both]:
                assert ended.code == 0, ended.printed
            different = differences(expected, folder / output)
            assert not different, different
            assert leftovers(folder) == []
    tally.finish()


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of this size in a folder; skips where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no small file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(
    command: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if command == "tile":
        only_in_full()
    arguments, needs, output = COMMANDS[command]
    expected = request.getfixturevalue(output)
    total = sum(file.stat().st_size for file in expected.rglob("*") if file.is_file())
    tally = Tally(
        f"full_disk_{command}",
        f"`{command}`: the disk is full after a part of what it writes; then there is room again",
        "one sentence says so, nothing half-written; the same command then gives the same files",
    )
    tries = count(10, 1)
    for number in range(tries):
        kilobytes = max(8, total * (number + 1) // (tries + 1) // 1024)
        folder = fresh(world, tmp_path / "run", *needs)
        with tally.attempt(f"{kilobytes} kB"), small_disk(folder / "full", kilobytes):
            out = folder / "full" / output
            code, printed = command_in_process(folder, *arguments, "-o", str(out))
            assert code == 1, printed
            assert "the disk is full" in printed, printed
            assert "Traceback" not in printed, printed
            assert "unexpected" not in printed, printed
            half = [name for name in leftovers(folder) if not name.endswith(".training")]
            assert not half, half
            tally.note("said that the disk is full")
            subprocess.run(
                ["mount", "-o", f"remount,size={4 * total // 1024 + 4096}k", str(folder / "full")],
                check=True,
            )
            code, printed = command_in_process(folder, *arguments, "-o", str(out))
            assert code == 0, printed
            different = [
                name
                for name in differences(expected, out)
                if not (command == "tile" and name.endswith(".h5"))  # they name their folder
            ]
            assert not different, different
            assert leftovers(folder) == []
    tally.finish()


def test_a_folder_that_may_not_be_written(world: Path, tmp_path: Path, model: Path) -> None:
    tally = Tally(
        "read_only", "the output lies on a read-only file system", "one sentence says so; exit 1"
    )
    with small_disk(tmp_path / "full", 1000):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "full")], check=True)
        for arguments in (tile_new(), score_new(model)):
            with tally.attempt(arguments[0]):
                out = str(tmp_path / "full" / "out")
                code, printed = command_in_process(world, *arguments, "-o", out)
                assert code == 1, printed
                assert printed.count("Error:") == 1, printed
                assert "read-only" in printed, printed
    tally.finish()


def test_summaries_are_read_as_they_are_written(results: Path) -> None:
    """What the other tests rely on: an undisturbed run leaves what they look for."""
    for name in (FIRST, SECOND):
        assert json.loads((results / name / "summary.json").read_text())["seconds"]

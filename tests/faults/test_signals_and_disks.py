"""Signals to one or all processes, disks that fail, have no locks or cannot be written."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults_running import LONGEST_S, count, end, fresh, leftovers, only_in_full, run, start
from recording import Tally
from test_kill import MAKES, WORK, is_as_undisturbed
from test_surroundings import copy_of_new, only_the_first_failed, score_new, tile_new

AT_WORK = {"tile": ("--workers", "2"), "train": (), "score": ("--workers", "2")}


def children_of(process: int) -> list[int]:
    """Processes that one has started and that run."""
    task = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in task.read_text().split()] if task.exists() else []


def at_work(process: subprocess.Popen[str], begun: Path) -> bool:
    """Wait until a command has begun to write; False when it has ended."""
    give_up = time.monotonic() + LONGEST_S
    while not begun.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    return process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
@pytest.mark.parametrize("whom", ["parent", "worker", "group"])
@pytest.mark.parametrize("command", WORK)
def test_signals(
    command: str, whom: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    only_in_full()
    if command == "train" and whom == "worker":
        pytest.skip("train has no workers")
    expected = request.getfixturevalue(MAKES[command])
    work, folder = WORK[command], tmp_path / "run"
    tally = Tally(
        f"signal_{command}_{whom}",
        f"SIGINT, SIGTERM, SIGHUP or SIGKILL to the {whom} of `{command}`, then the same command",
        "the files of an undisturbed run, byte for byte; nothing half-written left",
    )
    arguments = (*work.arguments, *AT_WORK[command])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        fresh(world, folder, *work.needs)
        process = start(folder, *arguments, **work.faults)
        with tally.attempt(number.name):
            if at_work(process, folder / work.first):
                if whom == "group":
                    os.killpg(process.pid, number)
                else:
                    workers = children_of(process.pid)
                    target = process.pid if whom == "parent" or not workers else workers[-1]
                    os.kill(target, number)
            first = end(process)
            assert "Traceback" not in first.printed, first.printed
            ended = run(folder, *arguments, **work.faults)
            is_as_undisturbed(ended, expected, folder, work.output)
    tally.finish()


@pytest.mark.parametrize("command", WORK)
def test_a_change_of_the_file_system_fails(
    command: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A rename among them: the instant between an old folder and its successor."""
    if command == "train":
        only_in_full()
    expected = request.getfixturevalue(MAKES[command])
    work, folder, counter = WORK[command], tmp_path / "run", tmp_path / "changes"
    tally = Tally(
        f"fail_change_{command}",
        f"`{command}`: the disk answers EIO when a file is created, renamed or removed, once; then "
        "the same command",
        "an end in sentences; then the files of an undisturbed run, byte for byte",
    )
    for moment in random.Random(command).sample(range(1, 60), count(20, 1)):
        fresh(world, folder, *work.needs)
        shutil.copytree(expected, folder / work.output)
        counter.unlink(missing_ok=True)
        faults = {"FAULTS_COUNTER": str(counter), "FAULTS_BELOW": str(folder)}
        again = (*work.arguments, "--overwrite")
        with tally.attempt(f"change {moment}"):
            ended = run(folder, *again, **work.faults, **faults, FAULTS_FAIL_AT=str(moment))
            assert ended.code in (0, 1), ended.printed
            assert "Traceback" not in ended.printed, ended.printed
            ended = run(folder, *work.arguments, **work.faults)
            is_as_undisturbed(ended, expected, folder, work.output)
    tally.finish()


@pytest.mark.parametrize("command", ["tile", "score"])
def test_all_reads_of_a_slide_fail(command: str, world: Path, tmp_path: Path, model: Path) -> None:
    if command == "score":
        only_in_full()
    tally = Tally(
        f"eio_{command}",
        f"`{command}`: reads of a slide's pixels fail (EIO)",
        "one sentence names it; the other slide done",
    )
    arguments = tile_new() if command == "tile" else score_new(model)
    with tally.attempt(command):
        folder = copy_of_new(world, tmp_path / "run")
        ended = run(folder, *arguments, FAULTS_EIO_ON="new0")
        only_the_first_failed(ended, folder, command)
        assert "delete" not in ended.errors[0], "not called damaged: the disk may be"
    tally.finish()


@pytest.mark.parametrize("command", WORK)
def test_a_read_only_installation_without_a_home(
    command: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    only_in_full()
    expected = request.getfixturevalue(MAKES[command])
    work, folder = WORK[command], tmp_path / "run"
    tally = Tally(
        f"no_cache_{command}",
        f"`{command}` where no cache can be written: no home, and none beside the program",
        "the files of an undisturbed run",
    )
    nowhere = {
        "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "",
        "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator",
    }  # fmt: skip
    with tally.attempt(command):
        fresh(world, folder, *work.needs)
        ended = run(folder, *work.arguments, **work.faults, **nowhere)
        is_as_undisturbed(ended, expected, folder, work.output)
    tally.finish()


def test_hundreds_of_slides_some_of_them_broken(world: Path, tmp_path: Path) -> None:
    number, broken = count(500, 20), count(25, 1)
    tally = Tally(
        "many_slides",
        f"`tile`: {number} slides, {broken} of them broken, among files that are none",
        "each broken one is named in one sentence, all others done, every file is in slides.csv",
    )
    slides = tmp_path / "slides"
    slides.mkdir()
    whole = (world / "new" / "new0.tif").read_bytes()
    for i in range(number):
        data = whole[: 100 + 37 * i] if i % (number // broken) == 0 else whole + b"%d" % i
        (slides / f"slide{i:03}.tif").write_bytes(data)
    (slides / "readme.txt").write_text("an archive")
    ended = run(tmp_path, "tile", "slides", "--magnifications", "10", "--stain", "none",
                "--max-tiles", "4", "--workers", "2")  # fmt: skip
    with open(tmp_path / "tiles" / "slides.csv", newline="") as file:
        status = {Path(row["slide"]).name: row["status"] for row in csv.DictReader(file)}
    for i in range(number):
        name = f"slide{i:03}.tif"
        with tally.attempt(name):
            expected = "error" if i % (number // broken) == 0 else "done"
            assert status[name] == expected, ended.printed[-300:]
            assert sum(name in error for error in ended.errors) == (expected == "error")
    with tally.check("the run as a whole"):
        assert ended.code == 1
        assert status["readme.txt"] == "not a slide"
        assert len(status) == number + 1
        assert leftovers(tmp_path) == []
    tally.finish()

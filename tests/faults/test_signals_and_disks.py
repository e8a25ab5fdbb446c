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
from collections.abc import Callable
from pathlib import Path

import pytest
from faults_running import (
    LONGEST_S,
    count,
    end,
    fresh,
    is_as_undisturbed,
    leftovers,
    only_in_full,
    run,
    start,
    workers_of,
)
from faults_world import LONG, WORK
from preloaded import library_with_eio, library_without_locks
from recording import Tally
from test_surroundings import copy_of_new, only_the_first_failed, tile_new

OVERWRITES = ("tile", "train", "score", "tune")
SAME = {
    "check": "what an undisturbed run prints",
    "tune": "the search goes on: trials with the figures of an undisturbed run, and a choice",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


def at_work(process: subprocess.Popen[str], begun: Path) -> bool:
    """Wait until a command has begun to write; False when it has ended."""
    give_up = time.monotonic() + LONGEST_S
    while not begun.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    return process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
@pytest.mark.parametrize("whom", ["parent", "worker", "group"])
@pytest.mark.parametrize("command", LONG)
def test_signals(
    command: str, whom: str, world: Path, tmp_path: Path, undisturbed: Callable[[str], Path]
) -> None:
    only_in_full()
    work, folder, begun = LONG[command], tmp_path / "run", tmp_path / "begun"
    if whom == "worker" and not work.workers:
        pytest.skip(f"{command} has no workers")
    expected, moments = undisturbed(command), random.Random(f"{command} {whom}")
    tally = Tally(
        f"signal_{command}_{whom}",
        f"SIGINT, SIGTERM, SIGHUP or SIGKILL to the {whom} of `{command}`, then the same command",
        SAME.get(command, "the files of an undisturbed run, byte for byte; nothing half-written"),
    )
    arguments = (*work.arguments, *work.workers)
    for number in SIGNALS:
        fresh(world, folder, *work.needs)
        begun.unlink(missing_ok=True)
        marked = {"FAULTS_BEGUN": str(begun), "FAULTS_BELOW": str(folder)}
        process = start(folder, *arguments, **work.faults, **marked)
        with tally.attempt(number.name):
            if at_work(process, folder / work.first if work.first else begun):
                time.sleep(0 if work.first else moments.uniform(0, 2))
                workers = workers_of(process.pid) if whom == "worker" else []
                if process.poll() is not None:
                    tally.note("had ended before")
                elif whom == "group":
                    os.killpg(process.pid, number)
                else:
                    os.kill(workers[-1] if workers else process.pid, number)
            first = end(process)
            assert "Traceback" not in first.printed, first.printed
            ended = run(folder, *arguments, **work.faults)
            is_as_undisturbed(ended, expected, folder, work.output)
    tally.finish()


@pytest.mark.parametrize("command", [name for name, work in LONG.items() if work.output])
def test_a_change_of_the_file_system_fails(
    command: str, world: Path, tmp_path: Path, undisturbed: Callable[[str], Path]
) -> None:
    """A rename among them: the instant between an old folder and its successor."""
    if command not in ("tile", "score"):
        only_in_full()
    expected = undisturbed(command)
    work, folder, counter = LONG[command], tmp_path / "run", tmp_path / "changes"
    tally = Tally(
        f"fail_change_{command}",
        f"`{command}`: the disk answers EIO when a file is created, renamed or removed, once; then "
        "the same command",
        "an end in sentences; then the files of an undisturbed run, byte for byte",
    )
    many = 60 if command in WORK else 10
    for moment in random.Random(command).sample(range(1, many), count(many // 3, 1)):
        fresh(world, folder, *work.needs)
        shutil.copytree(expected, folder / work.output)
        counter.unlink(missing_ok=True)
        faults = {"FAULTS_COUNTER": str(counter), "FAULTS_BELOW": str(folder)}
        again = (*work.arguments, *(("--overwrite",) if command in OVERWRITES else ()))
        with tally.attempt(f"change {moment}"):
            ended = run(folder, *again, **work.faults, **faults, FAULTS_FAIL_AT=str(moment))
            assert ended.code in (0, 1), ended.printed
            assert "Traceback" not in ended.printed, ended.printed
            ended = run(folder, *work.arguments, **work.faults)
            is_as_undisturbed(ended, expected, folder, work.output)
    tally.finish()


READING = {
    "tile": tile_new(),
    "score": ("score", "new", "--model", "model"),
    "calibrate": LONG["calibrate"].arguments,
    "check": LONG["check"].arguments,
    "preview": LONG["preview"].arguments,
}


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
@pytest.mark.parametrize("command", READING)
def test_all_reads_of_a_slide_fail(
    command: str, reader: str, world: Path, tmp_path: Path, model: Path
) -> None:
    if (command, reader) != ("tile", "tiff"):
        only_in_full()
    tally = Tally(
        f"eio_{command}_{reader}",
        f"`{command}`: reads of a slide's pixels fail (EIO; reader: {reader})",
        "one sentence names it and does not call it damaged; the other slide done",
    )
    with tally.attempt(command):
        folder = copy_of_new(world, tmp_path / "run")
        (folder / "model").symlink_to(model)
        faults = {"LD_PRELOAD": library_with_eio(tmp_path), "FAULTS_EIO_ON": "new0"}
        ended = run(folder, *READING[command], **faults, FAULTS_READER=reader)
        if command in ("tile", "score"):
            only_the_first_failed(ended, folder, command)
        assert ended.code in (0, 1), ended.printed  # preview shows that nothing can be read
        assert "Traceback" not in ended.printed, ended.printed
        assert [line for line in ended.printed.splitlines() if "new0" in line], ended.printed
        assert "1 of 2" in ended.printed or command == "preview", ended.printed
        assert "damaged" not in ended.printed, "the disk may be"
        assert "delete" not in ended.printed, ended.printed
    tally.finish()


def _without_caches(_folder: Path) -> dict[str, str]:
    return {
        "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "",
        "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator",
    }  # fmt: skip


SURROUNDINGS: dict[str, tuple[str, Callable[[Path], dict[str, str]]]] = {
    "no_cache": ("where no cache can be written: no home, none in the program", _without_caches),
    "no_locks": (
        "on a disk without locks (ENOLCK)", lambda folder: {
            "LD_PRELOAD": library_without_locks(folder)
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SURROUNDINGS)
@pytest.mark.parametrize("command", LONG)
def test_surroundings_that_lack_something(
    command: str, name: str, world: Path, tmp_path: Path, undisturbed: Callable[[str], Path]
) -> None:
    only_in_full()
    where, lacking = SURROUNDINGS[name]
    work, folder = LONG[command], tmp_path / "run"
    tally = Tally(f"{name}_{command}", f"`{command}` {where}", "the result of an undisturbed run")
    expected = undisturbed(command)
    with tally.attempt(command):
        fresh(world, folder, *work.needs)
        ended = run(folder, *work.arguments, **work.faults, **lacking(tmp_path))
        is_as_undisturbed(ended, expected, folder, work.output)
    tally.finish()


NAMES = [
    b"plain.tif", b"two words.tif", b"'quoted' \"twice\".tif", b"=1+1.tif", b"-o.tif", b"a%2Fb.tif",
    b"<b>bold.tif", b"line\nbreak.tif", "\N{GREEK SMALL LETTER ALPHA}\N{SNOWMAN}.tif".encode(),
    "\N{RIGHT-TO-LEFT OVERRIDE}fit.tif".encode(), "e\N{COMBINING ACUTE ACCENT}.tif".encode(),
    "\N{LATIN SMALL LETTER E WITH ACUTE}.tif".encode(), b"Pr\xe4parat.tif", b"..tif", b"CON.tif",
    b"index.html.tif", b"slides.csv.tif", b"summary.json.tif", b"x" * 241 + b".tif", b"dot..tif",
    b"space .tif", b"[a-z]*.tif", b"{}.tif", b"$HOME.tif", b"a;b,c.tif", b"UPPER.TIF", b"upper.tif",
]  # fmt: skip


@pytest.mark.parametrize("command", ["tile", "score"])
def test_names_of_every_kind(command: str, world: Path, tmp_path: Path, model: Path) -> None:
    only_in_full()
    tally = Tally(
        f"names_{command}",
        f"`{command}`: slides whose names no file system or program expects",
        "done, hidden, or one sentence that says to rename it; every one is in slides.csv",
    )
    slides = tmp_path / "slides"
    slides.mkdir()
    data = (world / "new" / "new0.tif").read_bytes()
    for number, name in enumerate(NAMES):
        Path(os.fsdecode(os.path.join(os.fsencode(slides), name))).write_bytes(  # noqa: PTH118
            data + b"%d" % number
        )
    work = {"tile": ("-o", "out"), "score": ("--model", str(model), "-o", "out")}
    coarse = ("--magnifications", "10", "--stain", "none") if command == "tile" else ()
    ended = run(tmp_path, command, "slides", *work[command], *coarse, "--workers", "2")
    with open(tmp_path / "out" / "slides.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    errors = " ".join(ended.errors)
    with tally.check("the run as a whole"):
        assert "Traceback" not in ended.printed, ended.printed
        assert "unexpected" not in ended.printed, ended.printed
        assert len(rows) == len(NAMES), ended.printed
        assert ended.code == bool(ended.errors)
    for row in rows:
        with tally.attempt(row["slide"][:60]):
            tally.note(row["status"])
            if row["status"] == "not a slide":
                assert "hidden" in row.values(), row
            elif row["status"] != "done":
                assert "rename" in errors, errors
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

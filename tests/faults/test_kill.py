"""``kill -9`` of everything at any moment: the same command goes on, to the same bytes."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
from faults_running import (
    end,
    fresh,
    is_as_undisturbed,
    kill_after,
    only_in_full,
    run,
    start,
)
from faults_world import WORK, Work
from recording import Tally


def _seconds_of_work(world: Path, folder: Path, work: Work) -> float:
    """From the beginning of the work to its end."""
    fresh(world, folder, *work.needs)
    process = start(folder, *work.arguments, **work.faults)
    while not (folder / work.first).exists():
        time.sleep(0.002)
    began = time.monotonic()
    assert end(process).code == 0
    return time.monotonic() - began


@pytest.mark.parametrize("command", WORK)
def test_kill_at_random_moments(
    command: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    only_in_full()
    expected = request.getfixturevalue(WORK[command].output)
    work, folder = WORK[command], tmp_path / "run"
    tally = Tally(
        f"kill_{command}",
        f"`kill -9` of all processes of `{command}` at a random moment, then the same command",
        "the files of an undisturbed run, byte for byte; nothing half-written left",
    )
    moments = random.Random(command)
    seconds = _seconds_of_work(world, folder, work)
    while tally.tried < 20:
        fresh(world, folder, *work.needs)
        wait = moments.uniform(0, seconds)
        process = start(folder, *work.arguments, **work.faults)
        if not kill_after(process, (folder / work.first).exists, wait):
            continue  # it had ended before: no try
        with tally.attempt(f"{wait:.2f} s after its beginning"):
            ended = run(folder, *work.arguments, **work.faults)
            is_as_undisturbed(ended, expected, folder, work.output)
    tally.finish()


@pytest.mark.parametrize("command", WORK)
def test_killed_at_work(
    command: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One kill that no load can come too late for: the work itself says when."""
    expected = request.getfixturevalue(WORK[command].output)
    work, folder, counter = WORK[command], tmp_path / "run", tmp_path / "changes"
    fresh(world, folder, *work.needs)
    moment = random.Random(command).randint(5, 15)
    faults = {"FAULTS_COUNTER": str(counter), "FAULTS_BELOW": str(folder)}
    ended = run(folder, *work.arguments, **work.faults, **faults, FAULTS_DIE_AT=str(moment))
    assert ended.code == -9, ended.printed
    ended = run(folder, *work.arguments, **work.faults)
    is_as_undisturbed(ended, expected, folder, work.output)


@pytest.mark.parametrize("command", WORK)
def test_kill_right_before_changes_of_the_file_system(
    command: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The moments that matter most are short: they are sought out, not waited for."""
    only_in_full()
    expected = request.getfixturevalue(WORK[command].output)
    work, folder, counter = WORK[command], tmp_path / "run", tmp_path / "changes"
    tally = Tally(
        f"kill_change_{command}",
        f"`kill -9` of all processes of `{command}` right before it creates, renames or removes "
        "a file, then the same command",
        "the files of an undisturbed run, byte for byte; nothing half-written left",
    )
    faults = work.faults | {"FAULTS_COUNTER": str(counter), "FAULTS_BELOW": str(folder)}
    fresh(world, folder, *work.needs)
    # A former result stands there: it is replaced, which is the hardest moment.
    shutil.copytree(expected, folder / work.output)
    again = (*work.arguments, "--overwrite")
    assert run(folder, *again, **faults).code == 0
    changes = counter.stat().st_size
    moments = random.Random(command).sample(range(1, changes + 1), min(20, changes))
    for moment in moments:
        fresh(world, folder, *work.needs)
        shutil.copytree(expected, folder / work.output)
        counter.unlink()
        ended = end(start(folder, *again, **faults, FAULTS_DIE_AT=str(moment)))
        tally.note("killed at work" if ended.code == -9 else "had ended before the kill")
        with tally.attempt(f"before change {moment} of {changes}"):
            ended = run(folder, *work.arguments, **work.faults)
            is_as_undisturbed(ended, expected, folder, work.output)
    tally.note("changes of the file system in a whole run", changes)
    tally.finish()

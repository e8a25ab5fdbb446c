"""Run commands that are to be disturbed, and compare what they leave with an undisturbed run."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsi_anomaly.results.audit import audit_results
from wsi_anomaly.results.reviews import Review, standing
from wsi_anomaly.results.trail import TRAIL

PROGRAM = Path(__file__).with_name("one_run.py")
IN_WORKERS = PROGRAM.with_name("in_workers")
FULL = os.environ.get("FAULTS", "") == "all"
LONGEST_S = 3600.0 if FULL else 300.0  # five hundred slides, on a machine that others use


def only_in_full() -> None:
    """Leave a test to ``make faults``: a sample of its kind runs in ``make test``."""
    if not FULL:
        pytest.skip("a part of make faults")


def count(all_of_them: int, sample: int) -> int:
    """How often: all under ``make faults``, a sample in ``make test``."""
    return all_of_them if FULL else sample


_started: list[subprocess.Popen[str]] = []


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    printed: str

    @property
    def errors(self) -> list[str]:
        """Its sentences."""
        return [line for line in self.printed.splitlines() if line.startswith("Error:")]


def start(
    folder: Path, *arguments: str, program: Path = PROGRAM, **faults: str
) -> subprocess.Popen[str]:
    """Start a command in a folder, as a process group of its own."""
    _started[:] = [one for one in _started if one.poll() is None]
    paths = os.pathsep.join([str(IN_WORKERS), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "1000", "PYTHONPATH": paths, **faults},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


def kill_all() -> None:
    """``kill -9`` of every command that still runs: when who started them must end."""
    for process in _started:
        if process.poll() is None:
            kill_group(process)


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for a command; one that hangs is a failure."""
    try:
        printed, _ = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        kill_group(process)
        raise AssertionError("the command hangs") from None
    return Ended(process.returncode, printed)


def run(folder: Path, *arguments: str, program: Path = PROGRAM, **faults: str) -> Ended:
    """Run a command to its end."""
    return end(start(folder, *arguments, program=program, **faults))


def kill_group(process: subprocess.Popen[str]) -> None:
    """``kill -9`` of a command and all its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill_after(process: subprocess.Popen[str], begun: Callable[[], bool], seconds: float) -> bool:
    """Kill a command some time after it has begun to write; False when it had ended before."""
    give_up = time.monotonic() + LONGEST_S
    while not begun() and process.poll() is None:
        if time.monotonic() > give_up:
            kill_group(process)
            raise AssertionError("the command does not begin")
        time.sleep(0.002)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill_group(process)
        return True
    process.communicate()
    return False


def children_of(process: int) -> list[int]:
    """Processes that one has started and that run."""
    task = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in task.read_text().split()] if task.exists() else []


def workers_of(process: int) -> list[int]:
    """Workers of a command, which runs beside the process that was started."""
    return [worker for command in children_of(process) for worker in children_of(command)]


def leftovers(folder: Path) -> list[str]:
    """What a killed process may have left and a finished run must not."""
    return sorted(
        str(path.relative_to(folder))
        for pattern in (".*.partial", ".*.former", ".*.training")
        for path in folder.rglob(pattern)
    )


_WHEN = rb'20\d\d-\d\d-\d\d(T[\d:.+]+)?|"id": "[0-9a-f]{32}"'
_PASSED_OVER = {
    # A former result that came back was copied from elsewhere.
    ".groovy": re.compile(rb"(?<=new File\(')[^']*/"),
    # QuPath's project says when it was made and changed.
    ".qpproj": re.compile(rb'"(create|modify)Timestamp": *\d+'),
}


def _nameless(path: Path, folder: Path) -> bytes:
    """Content of a file, unpacked, without where it lies and without hashes of models and results.

    The hash of a model that learned from reviews changes with the time of a review.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix in {".groovy", ".json", ".html", ".csv", ".gz"}:
        facts = [json.loads(file.read_bytes()) for file in folder.rglob("summary.json")]
        slides = {str(Path(fact["slide"]["path"]).parent) for fact in facts}
        hashes = {text for fact in facts for text in (fact["model"]["hash"], fact["result_hash"])}
        for named in {str(folder.resolve())} | slides | hashes:
            content = content.replace(named.encode(), b"")
    return content


def _comparable(path: Path, folder: Path) -> bytes:
    """Content of a file but for the seconds that the work took, and for names of folders."""
    content = _nameless(path, folder)
    if path.suffix in _PASSED_OVER:
        return _PASSED_OVER[path.suffix].sub(b"", content)
    if path.suffix == ".jsonl":  # reviews: those that stand, whenever they were made
        made = [Review.read(line) for line in content.splitlines()]
        return repr([(r.verdict, r.finding, r.outline.wkt) for r in standing(made)]).encode()
    if path.name in ("model.json", "README.md"):  # when it was trained, and on which reviews
        return re.sub(_WHEN, b"", content)
    if path.name == "summary.json":
        summary = json.loads(content)
        del summary["seconds"], summary["checksums"]  # the report's holds the seconds too
        return json.dumps(summary).encode()
    if path.name == "report.html":
        text, found = re.subn(rb"<tr><td>Time</td><td>[^<]*</td></tr>", b"", content)
        assert found == 1
        return text
    if path.name == "slides.csv":
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        if rows and "seconds" in rows[0]:
            kept = {"kept": "done"}  # finished before the kill
            rows = [
                row | {"seconds": "", "status": kept.get(row["status"], row["status"])}
                for row in rows
            ]
            return json.dumps(rows).encode()
    return content


def differences(expected: Path, found: Path) -> list[str]:
    """Files that one has and the other has not, or that differ in a byte.

    Only these may differ: the seconds that the work took (``summary.json``, ``report.html``,
    ``slides.csv``), the folders of results and slides where a path is written, TensorBoard's log,
    whose events carry the time of day, and the trail, which must agree with what is there.
    """

    def files(folder: Path) -> dict[str, Path]:
        return {
            str(path.relative_to(folder)): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and "tfevents" not in path.name
            and not path.name.endswith(".lock")
            and path.name != TRAIL
        }

    here, there = files(expected), files(found)
    if (found / TRAIL).exists() and (problems := audit_results(found).problems):
        return problems
    assert here, f"{expected} holds nothing to compare with"
    return sorted(
        name
        for name in here.keys() | there.keys()
        if name not in here
        or name not in there
        or _comparable(here[name], expected) != _comparable(there[name], found)
    )


def is_the_same_search(expected: Path, found: Path) -> None:
    """Configurations that both have judged have the same figures, and one is chosen.

    A search that was killed draws on: it may judge others, as those of a lost trial.
    """

    def judged(folder: Path) -> dict[tuple[str, ...], tuple[str, ...]]:
        with open(folder / "trials.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["state"] == "complete"]
        figures = ("value", "fold_1", "fold_2", "fold_3")
        others = ("trial", "state", "seconds", *figures)
        return {
            tuple(text for name, text in row.items() if name not in others): tuple(
                row[name] for name in figures
            )
            for row in rows
        }

    before, now = judged(expected), judged(found)
    assert len(now) >= len(before)
    both = before.keys() & now.keys()
    assert both, "the configuration that the search begins with is judged in any case"
    assert all(before[choice] == now[choice] for choice in both)
    assert (found / "config.toml").is_file()


def is_as_undisturbed(ended: Ended, expected: Path, folder: Path, output: str) -> None:
    """It ended well, its files are those of an undisturbed run, and nothing else lies about.

    What a command prints is in the file `expected` where it has no `output`.
    """
    assert ended.code == 0, ended.printed
    if output == "tuned":
        is_the_same_search(expected, folder / output)
    elif output:
        different = differences(expected, folder / output)
        assert not different, f"differ: {different}"
    else:
        assert ended.printed == expected.read_text()
    left = leftovers(folder)
    assert not left, f"left behind: {left}"


def fresh(world: Path, folder: Path, *names: str) -> Path:
    """A folder with links to parts of the world, in which a command can run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).symlink_to(world / name)
    return folder

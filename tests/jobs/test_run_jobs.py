"""Many jobs: the same outcomes wherever they run, one sentence and a traceback for each failure."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from wsi_anomaly.core import files
from wsi_anomaly.core.errors import NoTissueError, OutputError
from wsi_anomaly.jobs import Outcome, Progress, Running, StopError, attempt, run_jobs


@dataclass(frozen=True)
class FakeJob:
    slide: Path

    def from_anywhere(self) -> FakeJob:
        return FakeJob(self.slide.absolute())


ERRORS = {
    "tissue": NoTissueError("tissue has none; leave it out."),
    "disk": OSError(5, "Input/output error"),
    "memory": MemoryError(),
    "output": OutputError("The disk is full.", for_all=True),
    "one output": OutputError("A file stands there."),
    "model": StopError("The model is missing."),
    "bug": KeyError("odd\nkey"),
}


@dataclass(frozen=True)
class Lengths:
    """Work that gives the length of a name, or goes wrong as the name says."""

    verb: ClassVar[str] = "measured"

    def __call__(self, job: FakeJob, report: Progress) -> int:
        report(1, 2, 3)
        if job.slide.name == "killer":
            os._exit(9)
        if job.slide.name in ERRORS:
            raise ERRORS[job.slide.name]
        return len(job.slide.name)

    def from_anywhere(self) -> Lengths:
        return self


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tissue", "tissue has none; leave it out."),
        ("disk", "disk cannot be read any more (Input/output error); check the disk and run"),
        ("memory", "memory needs more memory than there is; use fewer --workers."),
        ("output", "The disk is full."),
        ("one output", "A file stands there."),
        ("model", "The model is missing."),
        ("bug", "bug could not be measured: unexpected KeyError: 'odd\\nkey' (please report it)."),
    ],
)
def test_every_error_is_a_sentence_with_its_traceback(name: str, said: str) -> None:
    outcome = attempt(Lengths(), FakeJob(Path(name)))
    assert outcome.result is None
    assert outcome.error.startswith(said)
    assert outcome.fatal == (name in {"output", "model"})
    assert outcome.unexpected == (name == "bug")
    assert "Traceback" in outcome.traceback
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert outcome.traceback in outcome.as_error().__notes__


def found(workers: int, names: list[str]) -> dict[str, Outcome[FakeJob, int]]:
    jobs = [FakeJob(Path(name)) for name in names]
    return {str(o.job.slide): o for o in run_jobs(Lengths(), jobs, workers=workers)}


def test_this_process_and_others_give_the_same() -> None:
    names = ["a", "bug", "four"]
    here, there = found(0, names), found(2, names)
    for name in names:
        assert (here[name].result, here[name].error) == (there[name].result, there[name].error)
        assert ("in __call__" in there[name].traceback) == (name == "bug")


def test_a_job_that_ends_its_process_is_named_and_the_others_are_done() -> None:
    outcomes = found(2, ["a", "killer", "four"])
    assert "killer ended its process" in outcomes["killer"].error
    assert (outcomes["a"].result, outcomes["four"].result) == (1, 4)


def test_whoever_watches_sees_the_jobs_under_way() -> None:
    seen: list[Running[FakeJob]] = []
    job = FakeJob(Path("a"))
    list(run_jobs(Lengths(), [job], workers=0, watch=seen.extend))
    assert seen == [Running(job, 1, 2, 3)]


@dataclass(frozen=True)
class Fingerprints:
    """Work that gives the fingerprint of a file without reading it."""

    verb: ClassVar[str] = "told"

    def __call__(self, job: FakeJob, report: Progress) -> str:
        files._digest = None
        return files.fingerprint(job.slide)

    def from_anywhere(self) -> Fingerprints:
        return self


def test_what_is_known_of_a_file_goes_along_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)
    (tmp_path / "a.tif").write_bytes(b"a slide")
    mark = files.fingerprint(tmp_path / "a.tif")
    (outcome,) = run_jobs(Fingerprints(), [FakeJob(tmp_path / "a.tif")], workers=1)
    assert outcome.result == mark, outcome.error

"""Many slides: in this process, on the processes of this machine, or on a Dask cluster.

The same function scores each slide everywhere; only where it runs differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wsi_anomaly.core.cluster import run_on_cluster
from wsi_anomaly.core.errors import OutputError, WsiAnomalyError
from wsi_anomaly.core.files import remove_left_behind
from wsi_anomaly.core.pool import Finished, Report, available_cores, run_in_processes
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.overlays.jobs import ScoreOptions, is_done, score_to_folder
from wsi_anomaly.overlays.worklist import read_summary
from wsi_anomaly.scoring import Controls, ScoringModel, load_model

Progress = Callable[["ScoreJob", int, int], None]


@dataclass(frozen=True)
class ScoreJob:
    """One slide to score, and the folder of its results.

    Attributes
    ----------
    slide, folder
        From where to where.
    controls
        Concurrent controls that are its reference.
    shown_as
        Name under which its results show it, in place of its own.
    """

    slide: Path
    folder: Path
    controls: Controls | None = None
    shown_as: str | None = None

    def options(self, common: ScoreOptions) -> ScoreOptions:
        """Options of this slide: those of all, and its own."""
        return replace(common, controls=self.controls, shown_as=self.shown_as)


@dataclass(frozen=True)
class Scored:
    """What became of a slide.

    Attributes
    ----------
    job
        The slide.
    summary
        Its ``summary.json``; empty when there is none.
    kept
        Whether the result was there already.
    error
        The sentence that says why there is no result.
    fatal
        Whether the next slides would fare no better (the results cannot be written).
    seconds
        How long it took.
    """

    job: ScoreJob
    summary: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False
    error: str = ""
    fatal: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Scoring:
    """How slides are scored, wherever that is: can be sent to another process or machine.

    Attributes
    ----------
    model
        Folder of the model; every process loads it once.
    device
        Where its networks compute.
    options
        What is computed and written.
    resume
        Keep results that are there.
    threads
        Of torch in each process; None: as many as it likes.
    """

    model: Path
    device: str
    options: ScoreOptions
    resume: bool = True
    threads: int | None = None

    def __call__(self, job: ScoreJob, report: Report) -> Scored:
        """Score one slide in a process of its own."""
        try:
            model = load_model(self.model, self.device, self.threads)
        except WsiAnomalyError as error:
            return Scored(job, error=str(error), fatal=True)
        if self.resume and (kept := self.kept(job, model)) is not None:
            return kept
        return self.score(job, model, report)

    def kept(self, job: ScoreJob, model: ScoringModel) -> Scored | None:
        """Look for a result of this very model and these settings."""
        if not is_done(job.slide, model, job.folder, job.options(self.options)):
            return None
        return Scored(job, read_summary(job.folder) or {}, kept=True)

    def score(
        self, job: ScoreJob, model: ScoringModel, report: Callable[[int, int], None]
    ) -> Scored:
        """Score one slide into its folder; every error becomes part of the outcome."""

        def work() -> Mapping[str, Any]:
            score_to_folder(job.slide, model, job.folder, job.options(self.options), report)
            return read_summary(job.folder) or {}

        return attempt(job, work)


def attempt(job: ScoreJob, work: Callable[[], Mapping[str, Any]]) -> Scored:
    """Do the work on a slide; every error becomes part of the outcome."""
    started = time.perf_counter()
    summary: Mapping[str, Any] = {}
    error, fatal = "", False
    try:
        summary = work()
    except OutputError as problem:
        error, fatal = str(problem), True
    except WsiAnomalyError as problem:
        error = str(problem)
    except OSError as problem:
        error = (
            f"{job.slide} cannot be read any more ({problem.strerror or problem}); check the disk "
            "and run the same command again."
        )
    except MemoryError:
        error = f"{job.slide} needs more memory than there is; use fewer --workers."
    except Exception as problem:  # noqa: BLE001 - one bad slide must not stop the others
        text = " ".join(str(problem).split()) or "no message"
        error = (
            f"{job.slide} could not be scored: unexpected {type(problem).__name__}: {text} (please "
            "report it)."
        )
    return Scored(job, summary, error=error, fatal=fatal, seconds=time.perf_counter() - started)


def score_slides(
    jobs: Sequence[ScoreJob],
    model: ScoringModel,
    scoring: Scoring,
    *,
    workers: int = 1,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Generator[Scored]:
    """Score slides, several at a time.

    Parameters
    ----------
    jobs
        The slides.
    model
        Already loaded, for work in this process and to tell what is done.
    scoring
        What other processes do.
    workers
        Processes; 1: this one.
    dask
        Address of a Dask scheduler, in place of processes.
    progress
        Called with a slide under way, its fields done and in all.

    Yields
    ------
    Each slide as it is done, those that are kept first.

    Raises
    ------
    OutputError
        The results cannot be written; what is finished stays.
    """
    for results in {job.folder.parent for job in jobs}:
        remove_left_behind(results)
    left: list[ScoreJob] = []
    for job in jobs:
        if scoring.resume and (kept := scoring.kept(job, model)) is not None:
            yield kept
        else:
            left.append(job)
    for outcome in _run(left, model, scoring, workers, dask, progress or _quiet):
        if outcome.fatal:
            raise OutputError(outcome.error)
        yield outcome


def _run(
    jobs: Sequence[ScoreJob],
    model: ScoringModel,
    scoring: Scoring,
    workers: int,
    dask: str | None,
    progress: Progress,
) -> Iterator[Scored]:
    if dask is None and (workers == 1 or len(jobs) < 2):
        for job in jobs:

            def report(done: int, total: int, job: ScoreJob = job) -> None:
                progress(job, done, total)

            yield scoring.score(job, model, report)
        return
    events: Iterator[Finished[Scored] | list[Any]]
    if dask is None:
        events = run_in_processes(scoring, jobs, workers)
    else:
        # A worker elsewhere runs in another folder.
        there = replace(scoring, model=scoring.model.absolute())
        elsewhere = [
            replace(job, slide=from_anywhere(job.slide), folder=job.folder.absolute())
            for job in jobs
        ]
        events = run_on_cluster(there, elsewhere, dask)
    for event in events:
        if isinstance(event, Finished):
            job = jobs[event.index]
            yield replace(event.result or Scored(job, error=_lost(job, dask)), job=job)
        else:
            for running in event:
                progress(jobs[running.index], running.done, running.total)


def _lost(job: ScoreJob, dask: str | None) -> str:
    where = "its Dask worker" if dask else "its process"
    return (
        f"{job.slide} ended {where} (out of memory, or a fault in the slide's decoder); use fewer "
        "workers or leave it out."
    )


def _quiet(job: ScoreJob, done: int, total: int) -> None:
    pass


def default_workers(device: str, slides: int) -> int:
    """Choose the number of processes: one for each core, a single one with a GPU."""
    return 1 if device != "cpu" else max(1, min(slides, available_cores()))

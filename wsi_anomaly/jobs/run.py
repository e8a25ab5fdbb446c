"""Many jobs: one after another in this process, in several processes, or on a Dask cluster.

The same work is done everywhere; only where it runs differs. A job that fails, or that brings its
process down, does not touch the others.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic

from wsi_anomaly.core.files import Known, known_fingerprint, remember_fingerprint
from wsi_anomaly.jobs.cluster import run_on_cluster
from wsi_anomaly.jobs.outcome import J, Job, Outcome, R, Work, attempt
from wsi_anomaly.jobs.processes import Finished, run_in_processes
from wsi_anomaly.jobs.progress import Progress, Running, Watch


def run_jobs(
    work: Work[J, R],
    jobs: Sequence[J],
    *,
    workers: int,
    dask: str | None = None,
    watch: Watch[J] | None = None,
) -> Generator[Outcome[J, R]]:
    """Do all jobs.

    Parameters
    ----------
    work
        What is done with each.
    jobs
        The jobs.
    workers
        At most so many processes; 0: this one, one job after another.
    dask
        Address of a Dask scheduler, in place of processes. Its workers need this package and see
        the same files under the same paths.
    watch
        Told what is under way; a cluster does not tell.

    Yields
    ------
    The outcome of each job as it ends. Closing the iterator (or Ctrl-C) ends the processes or
    cancels what is left; what is finished stays.

    Raises
    ------
    UsageError
        Dask is not installed, or its scheduler does not answer.
    """
    tell = watch or _nobody
    if dask is None and workers == 0:
        for job in jobs:

            def report(done: int, total: int, stage: int = 0, /, job: J = job) -> None:
                tell([Running(job, done, total, stage)])

            yield attempt(work, job, report)
        return
    if dask is None:
        with closing(run_in_processes(_Attempt(work), _sent(jobs), workers)) as events:
            for event in events:
                if isinstance(event, Finished):
                    yield _outcome(event, jobs, _ENDED)
                else:
                    tell([Running(jobs[r.job], r.done, r.total, r.stage) for r in event])
        return
    there = _Attempt(work.from_anywhere())
    sent = _sent(job.from_anywhere() for job in jobs)
    with closing(run_on_cluster(there, sent, dask)) as found:
        for finished in found:
            yield _outcome(finished, jobs, _LOST)


_ENDED = (
    "ended its process (out of memory, or a fault in the slide's decoder); use fewer --workers or "
    "leave it out."
)
_LOST = (
    "was lost with the Dask worker that had it (out of memory, a fault in the slide's decoder, or "
    "a machine that went away); run the same command again or leave it out."
)


@dataclass(frozen=True)
class _Attempt(Generic[J, R]):
    """Work whose errors become outcomes; a class, so that it can be sent."""

    work: Work[J, R]

    def __call__(self, sent: tuple[J, Known | None], report: Progress) -> Outcome[J, R]:
        job, known = sent
        if known is not None:
            remember_fingerprint(job.slide, known)
        return attempt(self.work, job, report)


def _sent(jobs: Iterable[J]) -> list[tuple[J, Known | None]]:
    """Send with a job what is known of its file, which is not read a second time for that."""
    return [(job, known_fingerprint(job.slide)) for job in jobs]


def _outcome(finished: Finished[Outcome[J, R]], jobs: Sequence[J], lost: str) -> Outcome[J, R]:
    job = jobs[finished.index]
    if finished.result is None:
        return Outcome(job, None, f"{job.slide} {lost}")
    return replace(finished.result, job=job)  # the job as it was given, not as it was sent


def _nobody(_running: Sequence[Running[Job]]) -> None:
    pass

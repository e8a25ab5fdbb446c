"""Many jobs: one after another in this process, in several processes, or on a Dask cluster.

The same work is done everywhere; only where it runs differs. A job that fails, or that brings its
process down, does not touch the others.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Generic

from wsi_anomaly.core.files import Known, known_fingerprint, remember_fingerprint
from wsi_anomaly.core.staging import Cache, Copies, Copy
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
    cache: Cache | None = None,
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
    cache
        Fast disk to which slides are copied ahead of the work; not with a cluster.

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
    if dask is not None:
        there = _Attempt(work.from_anywhere())
        sent = [_Sent.of(job.from_anywhere()) for job in jobs]
        with closing(run_on_cluster(there, sent, dask)) as found:
            for finished in found:
                yield _outcome(finished, jobs, _LOST)
        return
    here = _Attempt(work)
    with Copies(cache, [job.slide for job in jobs], max(1, workers)) as copies:
        sent = [_Sent.of(job, copies[i]) for i, job in enumerate(jobs)]
        if workers == 0:
            for i, job in enumerate(jobs):

                def report(done: int, total: int, stage: int = 0, /, job: J = job) -> None:
                    tell([Running(job, done, total, stage)])

                outcome = here(sent[i], report)
                copies.done(i)
                yield outcome
            return
        with closing(run_in_processes(here, sent, workers)) as events:
            for event in events:
                if isinstance(event, Finished):
                    copies.done(event.index)
                    yield _outcome(event, jobs, _ENDED if workers > 1 else _ENDED_ALONE)
                else:
                    tell([Running(jobs[r.job], r.done, r.total, r.stage) for r in event])


_ENDED = (
    "ended its process (out of memory, or a fault in the slide's decoder); use fewer --workers or "
    "leave it out."
)
_ENDED_ALONE = (
    "ended its process (out of memory, or a fault in the slide's decoder); leave it out, or try it "
    "on a machine with more memory."
)
_LOST = (
    "was lost with the Dask worker that had it (out of memory, a fault in the slide's decoder, or "
    "a machine that went away); run the same command again or leave it out."
)


@dataclass(frozen=True)
class _Sent(Generic[J]):
    """A job, what is known of its file, which is not read a second time for that, and its copy."""

    job: J
    known: Known | None
    copy: Copy | None

    @classmethod
    def of(cls, job: J, copy: Copy | None = None) -> _Sent[J]:
        return cls(job, known_fingerprint(job.slide), copy)


@dataclass(frozen=True)
class _Attempt(Generic[J, R]):
    """Work whose errors become outcomes; a class, so that it can be sent."""

    work: Work[J, R]

    def __call__(self, sent: _Sent[J], report: Progress) -> Outcome[J, R]:
        if sent.known is not None:
            remember_fingerprint(sent.job.slide, sent.known)
        with nullcontext() if sent.copy is None else sent.copy.used():
            return attempt(self.work, sent.job, report)


def _outcome(finished: Finished[Outcome[J, R]], jobs: Sequence[J], lost: str) -> Outcome[J, R]:
    job = jobs[finished.index]
    if finished.result is None:
        return Outcome(job, None, f"{job.slide} {lost}")
    return replace(finished.result, job=job)  # the job as it was given, not as it was sent


def _nobody(_running: Sequence[Running[Job]]) -> None:
    pass

"""What became of one job: a result, or the sentence that says why there is none."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from wsi_anomaly.core.errors import OutputError, WsiAnomalyError
from wsi_anomaly.jobs.progress import Progress, unwatched


class StopError(WsiAnomalyError):
    """What stops one job will stop all others too."""


class Job(Protocol):
    """One item of many; picklable."""

    @property
    def slide(self) -> Path:
        """The file that it is about."""

    def from_anywhere(self) -> Self:
        """Return the same job with paths that lead there from any working folder."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")
S = TypeVar("S")
J_contra = TypeVar("J_contra", bound=Job, contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Work(Protocol[J_contra, R_co]):
    """What is done with each job, wherever that is; picklable.

    Attributes
    ----------
    verb
        What it does, as "tiled", for the sentence about an unexpected error.
    """

    verb: ClassVar[str]

    def __call__(self, job: J_contra, report: Progress, /) -> R_co:
        """Do it. Raises what goes wrong: :func:`attempt` puts that into words."""

    def from_anywhere(self) -> Self:
        """Return the same work with paths that lead there from any working folder."""


@dataclass(frozen=True)
class Outcome(Generic[J, R]):
    """What became of a job; picklable.

    Attributes
    ----------
    job
        The job.
    result
        None when there is none.
    error
        The sentence that says why.
    fatal
        Whether the next jobs would fare no better: no output can be written.
    kind
        Class of the error.
    unexpected
        Whether the error is a fault of the program.
    traceback
        Where the error arose, as Python prints it, whichever process that was.
    seconds
        How long it took.
    """

    job: J
    result: R | None
    error: str = ""
    fatal: bool = False
    kind: type[WsiAnomalyError] = WsiAnomalyError
    unexpected: bool = False
    traceback: str = ""
    seconds: float = 0.0

    def then(self, change: Callable[[R], S]) -> Outcome[J, S]:
        """Go on with the result, where there is one; an error becomes part of the outcome."""
        known: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.result is None:
            return Outcome(**known)
        try:
            return Outcome(**known | {"result": change(self.result)})
        except WsiAnomalyError as error:
            return _failed(error, self.job, "read", self.seconds)

    def as_error(self) -> WsiAnomalyError:
        """Return its error to raise; the traceback of the process that had it goes along."""
        error = self.kind(self.error)
        if self.traceback:
            error.add_note(self.traceback)
        return error


def attempt(work: Work[J, R], job: J, report: Progress = unwatched) -> Outcome[J, R]:
    """Do one job; every error becomes part of the outcome."""
    started = time.perf_counter()
    try:
        result = work(job, report)
    except Exception as error:  # noqa: BLE001 - one bad slide must not stop the others
        return _failed(error, job, work.verb, time.perf_counter() - started)
    return Outcome(job, result, seconds=time.perf_counter() - started)


def _failed(error: Exception, job: J, verb: str, seconds: float) -> Outcome[J, Any]:
    return Outcome(
        job,
        None,
        _in_words(error, job, verb),
        fatal=isinstance(error, StopError) or (isinstance(error, OutputError) and error.for_all),
        kind=type(error) if isinstance(error, WsiAnomalyError) else WsiAnomalyError,
        unexpected=not isinstance(error, WsiAnomalyError | OSError | MemoryError),
        traceback="".join(traceback.format_exception(error)),
        seconds=seconds,
    )


def _in_words(error: Exception, job: Job, verb: str) -> str:
    if isinstance(error, WsiAnomalyError):
        return str(error)
    if isinstance(error, OSError):
        return (
            f"{job.slide} cannot be read any more ({error.strerror or error}); check the disk and "
            "run the same command again."
        )
    if isinstance(error, MemoryError):
        return f"{job.slide} needs more memory than there is; use fewer --workers."
    text = " ".join(str(error).split()) or "no message"
    return (
        f"{job.slide} could not be {verb}: unexpected {type(error).__name__}: {text} (please "
        "report it)."
    )

"""Many slides on the processes of one machine.

Processes are spawned, never forked (a fork of a process that has loaded OpenSlide or torch can
lock up). A slide that fails, or even kills its process, does not touch the others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Self

from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.extraction import Progress, TileResult, tile_slide
from wsi_anomaly.tiles.jobs import Job

STAGES = ("waiting", "opening", "tissue", "stain", "tiles", "done")
_POLL_SECONDS = 0.25
_FIELDS = 3  # stage, done, total


@dataclass(frozen=True)
class Outcome:
    """What became of one job: a result, or the sentence that says why there is none."""

    job: Job
    result: TileResult | None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Running:
    """How far a slide is."""

    job: Job
    stage: str
    done: int
    total: int


Event = Outcome | list[Running]
"""Either a finished slide, or, several times a second, all that are under way."""


def default_workers() -> int:
    """One process for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_job(
    job: Job, out_dir: Path, config: TileConfig, resume: bool, progress: Progress | None
) -> Outcome:
    """Tile one slide; every error becomes an outcome."""
    started = time.perf_counter()
    try:
        result = tile_slide(
            job.slide,
            out_dir,
            config,
            mpp=job.mpp,
            resume=resume,
            name=job.name,
            case=job.case,
            tissue_mask=job.tissue_mask,
            annotations=job.annotations,
            backend=job.backend,
            progress=progress,
        )
    except WsiAnomalyError as error:
        return Outcome(job, None, str(error), time.perf_counter() - started)
    except OSError as error:
        sentence = (
            f"{job.slide} cannot be read any more ({error.strerror or error}); check the disk and "
            "run the same command again."
        )
        return Outcome(job, None, sentence, time.perf_counter() - started)
    except MemoryError:
        sentence = f"{job.slide} needs more memory than there is; use fewer --workers."
        return Outcome(job, None, sentence, time.perf_counter() - started)
    except Exception as error:  # noqa: BLE001 - one bad slide must not stop the others
        text = " ".join(str(error).split()) or "no message"
        sentence = (
            f"{job.slide} could not be tiled: unexpected {type(error).__name__}: {text} (run this "
            "slide alone with --debug for the details)."
        )
        return Outcome(job, None, sentence, time.perf_counter() - started)
    return Outcome(job, result, "", time.perf_counter() - started)


def tile_slides(
    jobs: Sequence[Job],
    out_dir: Path,
    config: TileConfig,
    *,
    workers: int = 1,
    resume: bool = True,
) -> Generator[Event]:
    """Tile slides side by side.

    Yields
    ------
    An :class:`Outcome` for each job as it ends, in between the list of those under way.
    Closing the iterator (or Ctrl-C) ends the processes; what is finished stays.
    """
    left = list(range(len(jobs)))
    suspects: list[int] = []
    while left or suspects:
        # After a process has died, those that were under way run one by one, so that the culprit
        # is found and the others are not blamed.
        alone = bool(suspects)
        batch = suspects[:1] if alone else left
        finished: set[int] = set()
        with _Pool(jobs, min(1 if alone else workers, len(batch))) as pool:
            for event in pool.run(batch, out_dir, config, resume):
                if isinstance(event, tuple):
                    index, outcome = event
                    finished.add(index)
                    yield outcome
                else:
                    yield event
            started = pool.started()
        if alone:
            culprit = suspects.pop(0)
            if culprit not in finished:
                yield Outcome(
                    jobs[culprit],
                    None,
                    f"{jobs[culprit].slide} ended its process (out of memory, or a fault in the "
                    "slide's decoder); use fewer --workers or leave it out.",
                )
        else:
            suspects = [i for i in left if i in started and i not in finished]
            left = [i for i in left if i not in started and i not in finished]
            if not suspects and not finished:  # processes die before they begin: never for ever
                suspects, left = left, []


class _Pool:
    """Spawned processes that report their progress through shared memory (no locks to die with)."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self._jobs = jobs
        context = get_context("spawn")
        self._board = context.RawArray("q", len(jobs) * _FIELDS)
        self._executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(self._board,)
        )
        self._pids: set[int] = set()
        self._out_dirs: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._note_processes()
        processes = list((self._executor._processes or {}).values())
        if kind is not None:
            for process in processes:
                process.terminate()
        self._executor.shutdown(wait=True, cancel_futures=True)
        for folder in self._out_dirs:
            for pid in self._pids:
                for partial in folder.glob(f".*.{pid}.partial"):
                    with contextlib.suppress(OSError):
                        partial.unlink()

    def run(
        self, batch: Sequence[int], out_dir: Path, config: TileConfig, resume: bool
    ) -> Iterator[tuple[int, Outcome] | list[Running]]:
        """Outcomes as they come, and progress; ends early when a process dies."""
        self._out_dirs.add(out_dir)
        pending: dict[Future[Outcome], int] = {}
        try:
            for i in batch:
                future = self._executor.submit(_work, i, self._jobs[i], out_dir, config, resume)
                pending[future] = i
            while pending:
                done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                self._note_processes()
                for future in done:
                    yield pending.pop(future), future.result()
                yield self._running()
        except BrokenProcessPool:
            return

    def started(self) -> set[int]:
        """Jobs that any process has begun."""
        return {i for i in range(len(self._jobs)) if self._board[i * _FIELDS] > 0}

    def _running(self) -> list[Running]:
        under_way = []
        for i, job in enumerate(self._jobs):
            stage, done, total = self._board[i * _FIELDS : (i + 1) * _FIELDS]
            if 0 < stage < len(STAGES) - 1:
                under_way.append(Running(job, STAGES[stage], done, total))
        return under_way

    def _note_processes(self) -> None:
        self._pids.update(self._executor._processes or {})


_board: Any = None


def _start_worker(board: Any) -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends."""
    global _board  # noqa: PLW0603 - one process, one board
    _board = board
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()


def _work(index: int, job: Job, out_dir: Path, config: TileConfig, resume: bool) -> Outcome:
    def report(stage: str, done: int, total: int) -> None:
        _board[index * _FIELDS : (index + 1) * _FIELDS] = [STAGES.index(stage), done, total]

    outcome = run_job(job, out_dir, config, resume, report)
    report("done", 0, 0)
    return outcome

"""Work shared out to the processes of one machine.

Processes are spawned, never forked (a fork of a process that has loaded OpenSlide or torch can
lock up). An item that kills its process does not touch the others, nor gets them blamed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any, Generic, Self, TypeVar

from wsi_anomaly.jobs.progress import Progress, Running

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.25
_COLUMNS = 4  # of the board: started, done, total, stage


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_apart = False


def keep_apart() -> None:
    """Let no slide be worked on in this process any more: one has ended a process like it."""
    global _apart  # noqa: PLW0603 - one process, one command
    _apart = True


def kept_apart() -> bool:
    """Whether also a slide that is given alone has a process of its own."""
    return _apart


@dataclass(frozen=True)
class Finished(Generic[R]):
    """What became of an item: a result, or None when it ended its process."""

    index: int
    result: R | None


def run_in_processes(
    work: Callable[[T, Progress], R], items: Sequence[T], workers: int
) -> Generator[Finished[R] | list[Running[int]]]:
    """Work on items side by side.

    Parameters
    ----------
    work
        Picklable; turns its own errors into results.
    items
        Picklable.
    workers
        At most so many processes.

    Yields
    ------
    :class:`Finished` for each item as it ends; several times a second those under way, by number.
    Closing the iterator (or Ctrl-C) ends the processes.
    """
    left = list(range(len(items)))
    suspects: list[int] = []
    while left or suspects:
        # After a process has died, those that were under way run one by one, so that the culprit
        # is found and the others are not blamed.
        alone = bool(suspects)
        batch = suspects[:1] if alone else left
        finished: set[int] = set()
        with _Pool(len(items), min(1 if alone else workers, len(batch))) as pool:
            for event in pool.run(work, items, batch):
                if isinstance(event, Finished):
                    finished.add(event.index)
                yield event
            started = pool.started()
        if alone:
            culprit = suspects.pop(0)
            if culprit not in finished:
                yield Finished(culprit, None)
        else:
            suspects = [i for i in left if i in started and i not in finished]
            left = [i for i in left if i not in started and i not in finished]
            if not suspects and not finished:  # processes die before they begin: never for ever
                suspects, left = left, []


class _Process(SpawnProcess):
    """Runs no script of the user's again, as a spawned process would: it works on slides alone.

    So a script needs no ``if __name__ == "__main__":`` around its verbs.
    """

    def start(self) -> None:
        """Start while there is no script to be seen."""
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = script


class _Context(SpawnContext):
    Process = _Process


class _Pool:
    """Spawned processes that report through shared memory: no locks that one could die with."""

    def __init__(self, count: int, workers: int) -> None:
        context = _Context()
        self._count = count
        self._board = context.RawArray("q", count * _COLUMNS)
        self._executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(self._board,)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        processes = list((self._executor._processes or {}).values())
        if kind is not None:
            for process in processes:
                process.terminate()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def run(
        self, work: Callable[[T, Progress], R], items: Sequence[T], batch: Sequence[int]
    ) -> Iterator[Finished[R] | list[Running[int]]]:
        """Results as they come, and progress; ends early when a process dies."""
        pending: dict[Future[R], int] = {}
        try:
            for i in batch:
                pending[self._executor.submit(_work, work, i, items[i])] = i
            while pending:
                done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    yield Finished(pending.pop(future), future.result())
                yield self._running(set(pending.values()))
        except BrokenProcessPool:
            return

    def started(self) -> set[int]:
        """Items that any process has begun."""
        return {i for i in range(self._count) if self._board[i * _COLUMNS]}

    def _running(self, pending: set[int]) -> list[Running[int]]:
        return [
            Running(i, *self._board[i * _COLUMNS + 1 : (i + 1) * _COLUMNS])
            for i in sorted(self.started() & pending)
        ]


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


def _work(work: Callable[[T, Progress], R], index: int, item: T) -> R:
    def report(done: int, total: int, stage: int = 0) -> None:
        _board[index * _COLUMNS : (index + 1) * _COLUMNS] = [1, done, total, stage]

    report(0, 0)
    return work(item, report)

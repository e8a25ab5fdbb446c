"""What a process is at, for the one that waits for it: its end by a fault then leaves a name.

The process of a command (``cli/guarded.py``) keeps two files in memory, which the fork that does
the work writes: the slide that it reads, and what it has finished. Where that is ended it is done
again, and knows what was set aside and what was finished before. Without them, as in a script,
nothing is noted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_anomaly.core.errors import SlideError

_LONGEST = 1 << 16  # bytes of a path; Linux has 4,096

_lock = threading.Lock()
_at: int | None = None
_done: int | None = None
_open: list[Path] = []
_aside: dict[str, str] = {}
_before: frozenset[str] = frozenset()
_again = False


def begin() -> None:
    """Keep a journal from now on, in this process and its forks (Linux)."""
    global _at, _done
    _at, _done = os.memfd_create("slide"), os.memfd_create("finished")


# -- where slides are read -----------------------------------------------------------------------


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Note a slide that is opened; it stays noted until it is :func:`closed`, unless this fails.

    Raises
    ------
    SlideError
        It has ended a process of this command.
    """
    if (why := _aside.get(str(path))) is not None:
        raise SlideError(why)
    if _at is None:
        yield
        return
    with _lock:
        _open.append(path)
        _note()
    try:
        yield
    except BaseException:
        closed(path)
        raise


def reads(path: Path) -> None:
    """Note which of several open slides is read; its very `path`, so that this costs nothing."""
    if _at is None:
        return
    with _lock:
        if _open and _open[-1] is not path and path in _open:
            _open.remove(path)
            _open.append(path)
            _note()


def closed(path: Path) -> None:
    """Note that a slide is not read any more."""
    if _at is None:
        return
    with _lock:
        if path in _open:
            _open.remove(path)
            _note()


def _note() -> None:
    assert _at is not None
    os.pwrite(_at, os.fsencode(_open[-1] if _open else "") + b"\0", 0)


# -- where slides are finished -------------------------------------------------------------------


def finished(what: Path) -> None:
    """Note that all of something is done, and need not be done again."""
    if _done is not None:
        os.write(_done, os.fsencode(what) + b"\0")


def was_finished(what: Path) -> bool:
    """Whether the process that a fault has ended had finished it."""
    return str(what) in _before


def again() -> bool:
    """Whether this command goes on from one that a fault has ended."""
    return _again


# -- where it is waited for the process ----------------------------------------------------------


def slide_at() -> str:
    """Give the slide that a process was reading when it was ended; empty where it read none."""
    return "" if _at is None else os.fsdecode(os.pread(_at, _LONGEST, 0).partition(b"\0")[0])


def set_aside(slide: str, why: str) -> None:
    """Let no process that is begun from now on open a slide, for a reason."""
    _aside[slide] = why


def go_on() -> None:
    """Let the next process know what was finished."""
    global _before, _again
    if _at is not None and _done is not None:
        os.ftruncate(_at, 0)
        names = os.pread(_done, os.fstat(_done).st_size, 0).split(b"\0")[:-1]
        _before, _again = frozenset(map(os.fsdecode, names)), True

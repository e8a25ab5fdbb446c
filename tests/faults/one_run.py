"""One ``wsi-anomaly`` command in a process of its own, with a fault in it where a test says so.

Environment variables say what happens; without them it is the plain command.

FAULTS_COUNTER
    A file that grows by a byte with every change of the file system below FAULTS_BELOW.
FAULTS_DIE_AT
    Right before this change the whole process group is killed, as by ``kill -9``.
FAULTS_FAIL_AT
    This change fails: the disk answers "Input/output error".
FAULTS_BEGUN
    A file that appears when a file below FAULTS_BELOW is opened: the work has begun.
FAULTS_READER
    Every slide is read by this reader.
FAULTS_CHECKPOINT_EVERY
    Steps between the checkpoints of a training (500 without): a training of seconds then has as
    many moments as one of hours.
FAULTS_KILL_WORKER_ON
    The process that opens the slide with this word in its name kills itself, as Linux does with a
    process that uses too much memory.
FAULTS_CRASH_ON
    The process that opens the slide with this word in its name reads where there is no memory.
FAULTS_HANG_ON
    Reads of pixels of the slide with this word in its name never come back.
FAULTS_VANISH
    ``WORD:N``: the slide with this word in its name is removed right before its N-th opening.

Workers import this file through ``in_workers``, so the faults are in them as well.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}


def _count_changes(counter: str, below: str, die_at: int, fail_at: int) -> None:
    file = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in _CHANGES:
            return
        path = arguments[0]
        inside = isinstance(path, int) or below in os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        # What a removed folder held is named relative to it.
        if not inside and not (event in {"os.remove", "os.rmdir"} and arguments[-1] != -1):
            return
        os.write(file, b".")
        number = os.fstat(file).st_size
        if number == fail_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if number == die_at:
            os.killpg(os.getpgrp(), signal.SIGKILL)
            signal.pause()

    sys.addaudithook(hook)


def _say_when_begun(marker: str, below: str) -> None:
    begun: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and not begun and below in str(arguments[0]):
            begun.append(marker)  # first of all: to make the marker is an opening too
            Path(marker).touch()

    sys.addaudithook(hook)


def often_saved(steps: int, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let a training save itself every so many steps."""
    from wsi_anomaly.learning.loop import LoopConfig

    names = list(LoopConfig.__dataclass_fields__)
    values = list(LoopConfig.__init__.__defaults__)
    values[names.index("checkpoint_every")] = steps
    put(LoopConfig.__init__, "__defaults__", tuple(values))


def _on_opening(word: str, act: Callable[[Path], object]) -> None:
    from wsi_anomaly.slides import opening

    real = opening._open

    def opened(path: Path, *arguments: Any) -> Any:
        if word in path.name:
            act(path)
        return real(path, *arguments)

    opening._open = opened


def _kill_worker_on(word: str) -> None:
    _on_opening(word, lambda _path: os.kill(os.getpid(), signal.SIGKILL))


def _crash_on(word: str) -> None:
    _on_opening(word, lambda _path: ctypes.string_at(0))


def _vanish(word: str, number: int) -> None:
    openings: list[Path] = []

    def act(path: Path) -> None:
        openings.append(path)
        if len(openings) == number:
            path.unlink()

    _on_opening(word, act)


def _hang_on(word: str) -> None:
    from wsi_anomaly.slides.sources import LocalSource

    real = LocalSource.read

    def read(self: LocalSource, offset: int, size: int) -> bytes:
        if word in self._path.name:
            threading.Event().wait()
        return real(self, offset, size)

    LocalSource.read = read


def _read_by(reader: str) -> None:
    from wsi_anomaly.slides import opening

    real = opening._open
    opening._open = lambda path, _reader, *arguments: real(path, reader, *arguments)


_wanted = os.environ.get
if __name__ == "__main__":
    # The program has not begun, so it cannot say anything of Ctrl-C: what is prepared here ends.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
if _wanted("FAULTS_COUNTER"):  # (conftest.py imports this file without any of them)
    _count_changes(
        os.environ["FAULTS_COUNTER"],
        os.environ["FAULTS_BELOW"],
        int(_wanted("FAULTS_DIE_AT", "0")),
        int(_wanted("FAULTS_FAIL_AT", "0")),
    )
if _wanted("FAULTS_BEGUN"):
    _say_when_begun(os.environ["FAULTS_BEGUN"], os.environ["FAULTS_BELOW"])
if _wanted("FAULTS_CHECKPOINT_EVERY") and __name__ == "__main__":
    often_saved(int(os.environ["FAULTS_CHECKPOINT_EVERY"]))
if _wanted("FAULTS_KILL_WORKER_ON"):
    _kill_worker_on(os.environ["FAULTS_KILL_WORKER_ON"])
if _wanted("FAULTS_CRASH_ON"):
    _crash_on(os.environ["FAULTS_CRASH_ON"])
if _wanted("FAULTS_READER"):
    _read_by(os.environ["FAULTS_READER"])
if _wanted("FAULTS_HANG_ON"):
    _hang_on(os.environ["FAULTS_HANG_ON"])
if _wanted("FAULTS_VANISH"):
    _word, _number = os.environ["FAULTS_VANISH"].split(":")
    _vanish(_word, int(_number))

if __name__ == "__main__":
    from wsi_anomaly.cli.main import run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()

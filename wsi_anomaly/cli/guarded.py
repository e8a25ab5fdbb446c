"""A slide that ends the process of its command gets its sentence all the same.

A fault in a decoder's library, or too little memory, ends a process without a word. The command
runs in a fork of this small process, made before anything heavy is loaded, which costs
milliseconds. When that is ended, the same command runs once more: `tile` and `score` with each
slide in a process of its own, the others without the slide that was being read. So the slide is
named, and the others are done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType

import click

from wsi_anomaly.core import journal

_APART = frozenset({"tile", "score"})
_WITHOUT = frozenset(
    {"calibrate", "check", "evaluate", "info", "init", "learn", "preview", "qupath", "reproduce",
     "train"}
)  # fmt: skip
_ONCE = frozenset({"view"})  # its address is new each time
# As Linux ends a process for a fault in a library, and for its memory (SIGKILL).
_FAULTS = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGKILL"})
_ENDING = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
_PASSED_ON = (signal.SIGINT, *_ENDING)
_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>
_ONE_PRESS_SECONDS = 2.0


def guarded(work: Callable[[], int], arguments: Sequence[str]) -> int:
    """Do what a command line asks for, beside this process where a slide may end it.

    Parameters
    ----------
    work
        Runs the command and gives its exit code.
    arguments
        Of the command line.

    Returns
    -------
    The exit code; the process of the command never returns.
    """
    command = arguments[0] if arguments else ""
    if sys.platform != "linux" or command not in _APART | _WITHOUT | _ONCE:
        return work()
    if "LOCAL_RANK" in os.environ:  # torchrun: no process may begin again without the others
        return work()
    journal.begin()
    ended = _beside(work)
    if command in _APART:
        ended = _apart(ended, work)
    elif command in _WITHOUT:
        ended = _without(ended, work)
    elif ended in _FAULTS:
        ended = _failed(f"{_ended(ended, journal.slide_at())}; start it again.")
    if isinstance(ended, str):  # by who asked for it: this process ends in the same way
        signal.signal(signal.Signals[ended], signal.SIG_DFL)
        os.kill(os.getpid(), signal.Signals[ended])
        return 1
    return ended


def _apart(ended: int | str, work: Callable[[], int]) -> int | str:
    """Do it again after a fault, with a process for each slide."""
    if ended not in _FAULTS:
        return ended
    # (no slide is named: in a blinded reading none may be)
    click.echo(f"{_ended(ended)}; once more, with a process for each slide.", err=True)

    def again() -> int:
        from wsi_anomaly.jobs.processes import keep_apart

        keep_apart()
        return work()

    journal.go_on()
    ended = _beside(again)
    if ended not in _FAULTS:
        return ended
    return _failed(
        f"The command's process was ended twice ({ended}), not by the work on a slide; run "
        "wsi-anomaly doctor, and see whether there is enough memory."
    )


def _without(ended: int | str, work: Callable[[], int]) -> int | str:
    """Do it again after a fault, without the slide that was read; as often as there is another."""
    aside: set[str] = set()
    while ended in _FAULTS:
        slide = journal.slide_at()
        if not slide or slide in aside:
            return _failed(
                f"The command's process was ended ({ended}: out of memory, or a fault in a "
                "library) while no slide was read; run wsi-anomaly doctor, and see whether there "
                "is enough memory."
            )
        aside.add(slide)
        click.echo(f"{_ended(ended, slide)}; once more, without it.", err=True)
        journal.set_aside(
            slide,
            f"{slide} ended the command's process ({ended}: out of memory, or a fault in its "
            "decoder); leave it out, or try it on a machine with more memory.",
        )
        journal.go_on()
        ended = _beside(work)
    return ended


def _ended(by: int | str, slide: str = "") -> str:
    while_reading = f" while it read {slide}" if slide else ""
    return (
        f"The command's process was ended ({by}: out of memory, or a fault in a slide's decoder)"
        f"{while_reading}"
    )


def _failed(sentence: str) -> int:
    click.echo(f"Error: {sentence}", err=True)
    return 1


def _beside(work: Callable[[], int]) -> int | str:
    """Do it in a fork; give its exit code, or the name of the signal that ended it."""
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        _end_with(parent)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _Once(signal.default_int_handler))
        end_once = _Once(_end)
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        sys.exit(work())

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.getsignal(number) for number in _PASSED_ON}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    _, status = os.waitpid(child, 0)
    for number, handler in before.items():
        signal.signal(number, handler or signal.SIG_DFL)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else signal.Signals(-code).name


def _end_with(parent: int) -> None:
    """Let Linux end this process when its parent has ended, however it did."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _end(number: int, _frame: FrameType | None) -> None:
    """End in order, with the exit code that a shell gives: else locks are left to be complained of.

    What shares out work holds locks that have a name; Python removes those of a process that was
    ended, with a warning of "leaked semaphore objects".
    """
    raise SystemExit(128 + number)


class _Once:
    """Takes a signal that reaches both processes, and that one passes on, as one.

    So it is with Ctrl-C, which a terminal sends to all its processes, and with what a cluster ends
    a group of them by; a second one would fall into the orderly end of the first.
    """

    def __init__(self, then: Callable[[int, FrameType | None], None]) -> None:
        self._then = then
        self._last = -_ONE_PRESS_SECONDS

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last >= _ONE_PRESS_SECONDS:
            self._last = now
            self._then(number, frame)

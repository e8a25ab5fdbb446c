"""A limit to waiting: a read that never comes back must not hold up all other slides.

A disk or a network that hangs, or a decoder in an endless loop, does not raise an error: it says
nothing. Reads run in threads of their own that can be left behind.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from wsi_anomaly.core.errors import UsageError

R = TypeVar("R")

VARIABLE = "WSI_ANOMALY_READ_TIMEOUT"
_DEFAULT_SECONDS = 120.0  # the largest read takes a few seconds


class HangingError(Exception):
    """A read did not come back in time."""


def read_timeout() -> float:
    """Seconds to wait for one read; from the environment, 120 by default, 0: for ever.

    Raises
    ------
    UsageError
        The environment holds no number.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else _DEFAULT_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        raise UsageError(f"{VARIABLE} is {text!r}; give seconds, or 0 to wait for ever.")
    return seconds


def within(seconds: float, work: Callable[[], R], place: Callable[[], object] = lambda: None) -> R:
    """Do some work, but wait no longer than so many seconds while it makes no progress.

    Parameters
    ----------
    seconds
        0: wait for ever.
    work
        What to do, in another thread.
    place
        Says how far it is: while this changes, it goes on.

    Raises
    ------
    HangingError
        It has not come back; its thread is left behind, and ends if it ever does.
    """
    if not seconds:
        return work()
    helper = _Helper.take()
    helper.tasks.put(work)
    before = place()
    while True:
        try:
            result = helper.results.get(timeout=seconds)
        except queue.Empty:
            here = place()
            if here == before:
                raise HangingError(f"no answer within {seconds:g} s") from None
            before = here
        else:
            helper.give_back()
            return result.value()  # type: ignore[return-value]


class _Result(Generic[R]):
    """What work gave, or the error that it raised."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._value: R | None = None
        self._error: BaseException | None = None
        try:
            self._value = work()
        except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
            self._error = error

    def value(self) -> R:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class _Helper:
    """A thread that works for one caller at a time; idle ones are used again."""

    _idle: queue.SimpleQueue[_Helper] = queue.SimpleQueue()

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[_Result[object]] = queue.SimpleQueue()
        # A daemon: one that hangs must not keep the process from ending.
        threading.Thread(target=self._serve, name="read", daemon=True).start()

    @classmethod
    def take(cls) -> _Helper:
        try:
            return cls._idle.get_nowait()
        except queue.Empty:
            return cls()

    def give_back(self) -> None:
        self._idle.put(self)

    def _serve(self) -> None:
        while True:
            self.results.put(_Result(self.tasks.get()))

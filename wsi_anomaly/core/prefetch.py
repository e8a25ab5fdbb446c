"""Work ahead: an iterator runs in a thread of its own while its user is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T], most: int) -> Iterator[T]:
    """Take from an iterator in a thread, at most `most` items ahead.

    An error comes out where the items are taken. Whoever stops early ends the thread.
    """
    waiting: queue.Queue[T | BaseException | None] = queue.Queue(maxsize=most)
    stop = threading.Event()

    def put(item: T | BaseException | None) -> None:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def take() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of the user
            put(error)

    thread = threading.Thread(target=take, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()

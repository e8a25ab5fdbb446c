"""Reading ahead: order kept, errors passed on, no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from wsi_anomaly.core.prefetch import prefetch


def running() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "ahead"]


def test_order_is_kept_and_the_thread_ends() -> None:
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))
    assert running() == []


def test_no_more_than_asked_for_is_taken_ahead() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for i in range(50):
            taken.append(i)
            yield i

    for i in prefetch(source(), 2):
        # Two wait, one is held by the thread, one is in hand, one may just have been asked for.
        assert len(taken) <= i + 1 + 2 + 2


def test_an_error_comes_out_where_items_are_taken() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    items = prefetch(source(), 2)
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert running() == []


def test_whoever_stops_early_ends_the_thread() -> None:
    items = prefetch(iter(range(10**6)), 2)
    assert next(items) == 0
    items.close()
    assert running() == []

"""Freed memory is there for the next step of a training, and goes back between slides."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from wsi_anomaly.core import heap
from wsi_anomaly.core.heap import freed_memory_kept, give_back_freed_memory

BYTES, TIMES = 40 * 2**20, 10


def pages_cleared() -> int:
    """Pages that the system gave this process while it used a large block again and again."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        torch.empty(BYTES, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def own_bytes() -> int:
    """Memory of this process now, without files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep as they like")
def test_a_block_that_is_used_again_costs_the_system_nothing() -> None:
    every_time = TIMES * BYTES // 4096
    with freed_memory_kept():
        pages_cleared()  # the library takes its room
        assert pages_cleared() < every_time / TIMES
        kept = own_bytes()
    assert own_bytes() < kept - BYTES / 2  # at the end it goes back


def test_without_this_c_library_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_name: None) -> object:
        raise TypeError

    monkeypatch.setattr(ctypes, "CDLL", none)
    with freed_memory_kept():
        assert torch.ones(3).sum() == 3


SLIDE_AFTER_SLIDE = """
from wsi_anomaly.core.heap import _held, give_back_freed_memory

give_back_freed_memory()
before = _held()
kept = []
for _ in range(2):
    pieces = [bytearray(60_000) for _ in range(10_000)]  # 600 MB that does not go by itself
    kept += pieces[::500]  # what stays lies among what is freed
    del pieces
full = _held()
give_back_freed_memory()
print(full - before, _held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep as they like")
def test_between_slides_what_has_gathered_goes_back() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SLIDE_AFTER_SLIDE], capture_output=True, text=True, check=True
    )
    gathered, left = map(int, ended.stdout.split())
    assert gathered > 400 * 2**20
    assert left < 100 * 2**20


def test_little_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(heap, "_held", lambda: 2**30)
    monkeypatch.setattr(heap, "_after_the_last", [2**30 - 2**20])
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(malloc_trim=given.append))
    give_back_freed_memory()
    assert not given
    monkeypatch.setattr(heap, "_after_the_last", [2**28])
    give_back_freed_memory()
    assert given == [0]
    assert heap._after_the_last == [2**30]


def test_where_the_system_does_not_say_what_it_holds_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown() -> int:
        raise FileNotFoundError("/proc/self/statm")

    monkeypatch.setattr(heap, "_held", unknown)
    monkeypatch.setattr(heap, "_after_the_last", [])
    give_back_freed_memory()
    assert heap._after_the_last == []

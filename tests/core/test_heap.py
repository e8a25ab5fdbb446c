"""Memory that a step of training frees is there for the next one."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest
import torch

from wsi_anomaly.core.heap import freed_memory_kept

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

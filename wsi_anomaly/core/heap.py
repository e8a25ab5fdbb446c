"""Freed memory: kept for the next step of a training, given back between slides."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of <malloc.h>
_LARGE = 2**31 - 1
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGE, _TOP_PAD: 256 * 2**20}
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 2**17, _TOP_PAD: 2**17}
_MUCH = 384 * 2**20
_after_the_last: list[int] = []
"""Bytes that this process held when memory was last given back."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let the C library keep what is freed, where it is glibc; elsewhere nothing changes.

    It gives large blocks back to the system at once, which then clears each page again before the
    next step may use it: a fifth of the time of a step of training on a processor.
    """
    try:
        library = ctypes.CDLL(None)
        setting, trim = library.mallopt, library.malloc_trim
    except (OSError, TypeError, AttributeError):  # Windows, macOS, musl
        yield
        return
    for name, value in _KEPT.items():
        setting(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL.items():
            setting(name, value)
        trim(0)


def give_back_freed_memory() -> None:
    """Give back what is freed if much has gathered since the last time; glibc on Linux only.

    Slides differ in size, and so do the pieces that are freed; few fit what the next slide needs. A
    process that scores slide after slide would hold more and more. To give back little would cost
    more than it saves: the next slide has to take it again.
    """
    try:
        trim, held = ctypes.CDLL(None).malloc_trim, _held()
    except (OSError, TypeError, AttributeError):  # Windows, macOS, musl
        return
    if not _after_the_last:
        _after_the_last.append(held)
    elif held > _after_the_last[0] + _MUCH:
        trim(0)
        _after_the_last[0] = _held()


def _held() -> int:
    """Memory of this process, bytes; OSError where the system does not say so."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

"""Loops that numba compiles: kept from one start to the next where there is room for that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function without Python's lock; `options` as numba takes them.

    The result is kept beside the source, or in the user's cache. Where neither can be written (a
    read-only installation without a home) or the disk is full, it is compiled again at each start.
    """

    def compile_it(function: Callable[..., Any]) -> Any:
        try:
            made = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no place for a cache
            return numba.njit(nogil=True, **options)(function)
        # It lets errors of the disk through everywhere but on Windows.
        made._cache._guard_against_spurious_io_errors = lambda: contextlib.suppress(OSError)
        return made

    return compile_it

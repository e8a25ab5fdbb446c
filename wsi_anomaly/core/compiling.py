"""Loops that numba compiles: kept from one start to the next where there is room for that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[F], F]:
    """Compile a function without Python's lock; `options` as numba takes them.

    The result is kept beside the source, or in the user's cache. Where neither can be written (a
    read-only installation without a home) or the disk is full, it is compiled again at each start.
    """

    def compile_it(function: F) -> F:
        try:
            made = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no place for a cache
            return cast(F, numba.njit(nogil=True, **options)(function))
        # It lets errors of the disk through everywhere but on Windows.
        made._cache._guard_against_spurious_io_errors = lambda: contextlib.suppress(OSError)
        return cast(F, made)

    return compile_it

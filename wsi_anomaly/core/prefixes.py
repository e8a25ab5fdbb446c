"""Names of values below a prefix, for several states in one mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def prefixed(prefix: str, values: Mapping[str, T]) -> dict[str, T]:
    """Put a prefix before each name."""
    return {prefix + name: value for name, value in values.items()}


def below(prefix: str, values: Mapping[str, T]) -> dict[str, T]:
    """Take what stands below a prefix, without it; the inverse of :func:`prefixed`.

    >>> below("a.", {"a.x": 1, "b.x": 2})
    {'x': 1}
    """
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }

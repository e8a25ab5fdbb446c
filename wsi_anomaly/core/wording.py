"""Counts, areas and lists of names in sentences for people."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Write a count with its noun, whose plural takes an s: ``1 slide``, ``1,200 slides``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def area_text(mm2: float) -> str:
    """Write an area; one field of 64 um is 0.004 mm2, which is not nothing."""
    return f"{mm2:.3f}" if 0 < mm2 < 0.01 else f"{mm2:.2f}"


def some(names: Sequence[str], most: int = 5) -> str:
    """Name the first few."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

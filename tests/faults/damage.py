"""Damage files as disks, networks and interrupted copies do; seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def cut_off(data: bytes, random: np.random.Generator) -> bytes:
    """Keep the beginning only."""
    return data[: int(random.integers(0, len(data)))]


def bit_flipped(data: bytes, random: np.random.Generator) -> bytes:
    """Turn one bit around."""
    damaged = bytearray(data)
    damaged[int(random.integers(0, len(data)))] ^= 1 << int(random.integers(0, 8))
    return bytes(damaged)


def overwritten(data: bytes, random: np.random.Generator, size: int = 512) -> bytes:
    """Put random bytes in place of a sector."""
    damaged = bytearray(data)
    start = int(random.integers(0, max(1, len(data) - size)))
    damaged[start : start + size] = random.bytes(len(damaged[start : start + size]))
    return bytes(damaged)


DAMAGE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "cut off": cut_off,
    "bit flipped": bit_flipped,
    "overwritten": overwritten,
}

"""Shards: the same command on several machines, each taking its share of the slides."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from wsi_anomaly.core.errors import UsageError

T = TypeVar("T")


def parse_shard(text: str | None, environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Read a shard: its number, counted from 1, and the number of shards.

    Parameters
    ----------
    text
        "i/n"; "slurm" takes both from a job array (``SLURM_ARRAY_TASK_ID``, ``_MIN``, ``_COUNT``);
        None: everything.
    environment
        In place of ``os.environ``.

    Raises
    ------
    UsageError
        It is neither, or i is not in 1 .. n.
    """
    if text is None:
        return 1, 1
    environment = os.environ if environment is None else environment
    if text == "slurm":
        try:
            first = int(environment.get("SLURM_ARRAY_TASK_MIN", "1"))
            number = int(environment["SLURM_ARRAY_TASK_ID"]) - first + 1
            count = int(environment["SLURM_ARRAY_TASK_COUNT"])
        except (KeyError, ValueError) as error:
            raise UsageError(
                "--shard slurm works in a Slurm job array only; give --shard i/n elsewhere."
            ) from error
    else:
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None:
            raise UsageError(f"--shard takes i/n such as 1/8, or slurm, not {text!r}.")
        number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise UsageError(f"--shard counts from 1/{count} to {count}/{count}, not {number}/{count}.")
    return number, count


def take_shard(items: Sequence[T], shard: tuple[int, int]) -> list[T]:
    """Items of one shard: every n-th, so that each item belongs to exactly one."""
    number, count = shard
    return list(items[number - 1 :: count])

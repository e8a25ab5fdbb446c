"""How far work is: what the work tells, and what its reader sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

J = TypeVar("J")


class Progress(Protocol):
    """Takes what is done and what there is in all of the item under way, and its stage."""

    def __call__(self, done: int, total: int, stage: int = 0, /) -> None:
        """Report; `stage` means what the work and its reader agree on."""


def unwatched(_done: int, _total: int, _stage: int = 0, /) -> None:
    """Progress that nobody follows."""


@dataclass(frozen=True)
class Running(Generic[J]):
    """How far a job is; see :class:`Progress`."""

    job: J
    done: int
    total: int
    stage: int = 0


Watch = Callable[[Sequence[Running[J]]], None]
"""Called with all jobs under way, several times a second or whenever one gets on."""

"""What the compared systems' configurations have in common, and how plain values become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from wsi_anomaly.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Configuration of a compared system.

    Attributes
    ----------
    seed
        Of everything that is drawn.
    """

    seed: int = 0

    may_flip: ClassVar[bool] = False
    """Whether training may flip images at random."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], source: str = "The configuration") -> Self:
        """Read plain values over the defaults; `source` is named in errors.

        Raises
        ------
        UsageError
            A key is unknown, or a value is of the wrong kind or makes no sense.
        """
        known = {f.name: f for f in fields(cls)}
        found: dict[str, Any] = {}
        for name, given in value.items():
            if name not in known:
                raise UsageError(
                    f"{source} has an unknown entry {name!r}; known are {', '.join(sorted(known))}."
                )
            kind = _KINDS[str(known[name].type)]
            if kind is tuple and isinstance(given, list | tuple):
                found[name] = tuple(str(one) for one in given)
            elif kind is float and type(given) in (int, float):
                found[name] = float(given)
            elif type(given) is kind:
                found[name] = given
            else:
                raise UsageError(f"{source}: {name} = {given!r} is no {_WORDS[kind]}.")
        return cls(**found)

    def _positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is positive, not {getattr(self, name)}.")


_KINDS: dict[str, type] = {
    "tuple[str, ...]": tuple, "float": float, "int": int, "bool": bool, "str": str,
}  # fmt: skip
_WORDS = {
    tuple: "list of names",
    float: "number",
    int: "whole number",
    bool: "true or false",
    str: "text",
}


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Configuration of a compared system that trains networks of its own.

    Attributes
    ----------
    resolution
        Side of the images that the networks see, px, a power of two from 8; tiles of another size
        are resized to it.
    width
        Channels of the first layer, or the factor that widens all.
    steps
        Length of the training, in optimiser steps.
    batch_size
        Images in a step.
    learning_rate
        Of the optimiser.
    flips
        Whether images are flipped at random. The papers do not, tissue allows it.
    report_every
        Steps between two lines of the log.
    """

    resolution: int = 32
    width: int = 32
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 2e-4
    flips: bool = False
    report_every: int = 50

    may_flip: ClassVar[bool] = True

    def __post_init__(self) -> None:
        side = self.resolution
        if side < 8 or side & (side - 1):
            raise UsageError(f"resolution is a power of two from 8, not {side}.")
        self._positive("width", "steps", "batch_size", "learning_rate", "report_every")

    @property
    def total_steps(self) -> int:
        """Steps of all parts of the training."""
        return self.steps

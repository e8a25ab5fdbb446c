"""What the configurations of detectors have in common, and how plain values become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self, get_origin, get_type_hints

from wsi_anomaly.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Configuration of a detector.

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
        hints = get_type_hints(cls)
        known = {f.name: hints[f.name] for f in fields(cls)}
        found: dict[str, Any] = {}
        for name, given in value.items():
            if name not in known:
                raise UsageError(
                    f"{source} has an unknown entry {name!r}; known are {', '.join(sorted(known))}."
                )
            kind = get_origin(known[name]) or known[name]
            if kind is tuple and isinstance(given, list | tuple):
                found[name] = tuple(str(one) for one in given)
            elif kind is float and type(given) in (int, float):
                found[name] = float(given)
            elif type(given) is kind:
                found[name] = given
            else:
                raise UsageError(f"{source}: {name} = {given!r} is no {_WORDS.get(kind, kind)}.")
        return cls(**found)

    def _positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is positive, not {getattr(self, name)}.")


_WORDS = {
    tuple: "list of names",
    float: "number",
    int: "whole number",
    bool: "true or false",
    str: "text",
}

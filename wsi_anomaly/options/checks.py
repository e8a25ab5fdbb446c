"""Checks that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.magnification import check_mpp
from wsi_anomaly.core.plugins import READERS

MAGNIFICATIONS = (10, 20, 40)
Origin = Literal["bounds", "level0"]
"""Where QuPath's (0, 0) lies: at the corner of the scanned area, or of the file."""


def make_floats(options: object, *names: str) -> None:
    """Turn whole numbers into floats: 48 and 48.0 are one setting, and give one hash."""
    for name in names:
        value = getattr(options, name)
        if value is not None:
            object.__setattr__(options, name, float(value))


def check_origin(origin: str) -> None:
    """See that it is one."""
    if origin not in ("bounds", "level0"):
        raise UsageError(f"QuPath's origin is bounds or level0, not {origin!r}.")


def check_slides(mpp: float | None, backend: str = "auto", scene: int | None = None) -> None:
    """See that slides can be opened like this."""
    if scene is not None and scene < 1:
        raise UsageError(f"The images of a file are counted from 1, not {scene}.")
    if mpp is not None:
        check_mpp(mpp)
    if backend != "auto" and backend not in READERS:
        known = ", ".join(["auto", *READERS.names()])
        raise UsageError(f"Readers of slides are {known}, not {backend!r}.")


def check_share(share: float) -> None:
    """See that a share of tissue is one."""
    if not 0 <= share <= 1:
        raise UsageError(f"A share of tissue lies between 0 and 1, not {share:g}.")


def check_workers(workers: int | None) -> None:
    """See that there is one."""
    if workers is not None and workers < 1:
        raise UsageError(f"There is at least 1 worker, not {workers}; give --workers 2, say.")


def check_cache(cache: str | Path | None, dask: str | None) -> None:
    """See that slides are copied by the machine that reads them."""
    if cache is not None and dask is not None:
        raise UsageError(
            "Slides are copied to a disk of this machine, which a cluster does not read; leave "
            "--cache or --dask out."
        )

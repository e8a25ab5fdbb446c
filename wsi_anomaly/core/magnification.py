"""Magnification as a physical length: 40x is 0.25, 20x is 0.5, 10x is 1.0 micrometres per pixel.

The objective printed in a slide's metadata is never used for geometry, only micrometres per
pixel (mpp); the two disagree between scanners by up to a fifth.
"""

from __future__ import annotations

from collections.abc import Iterable

from wsi_anomaly.core.errors import UsageError

MPP_TIMES_MAGNIFICATION = 10.0
"""mpp x magnification, by convention: a 10x field has pixels of 1 um."""

SERVES_WITHIN = 1.2
"""A slide serves a magnification when its finest mpp is at most this many times the nominal."""

PLAUSIBLE_UM = (0.01, 20.0)
"""Micrometres per pixel; 1 is 10x, and printers' resolutions (72 dpi: 353) fall out."""


def mpp_of(magnification: float) -> float:
    """Micrometres per pixel of a nominal magnification.

    >>> mpp_of(40)
    0.25
    """
    if not magnification > 0:
        raise ValueError(f"a magnification is positive, not {magnification}")
    return MPP_TIMES_MAGNIFICATION / magnification


def serves(finest_mpp: float, magnification: float) -> bool:
    """Whether a slide whose finest pixels measure `finest_mpp` um can give `magnification`.

    >>> serves(0.293, 40), serves(0.499, 20), serves(0.499, 40), serves(2.93, 10)
    (True, True, False, False)
    """
    return finest_mpp <= mpp_of(magnification) * SERVES_WITHIN


def served(finest_mpp: float, magnifications: Iterable[int]) -> tuple[int, ...]:
    """Those of `magnifications` that the slide can give, in the order given."""
    return tuple(m for m in magnifications if serves(finest_mpp, m))


def check_mpp(mpp: float) -> None:
    """See that somebody's micrometres per pixel can be right.

    Raises
    ------
    UsageError
        They cannot.
    """
    low, high = PLAUSIBLE_UM
    if not low <= mpp <= high:
        raise UsageError(
            f"{mpp:g} um per pixel is not plausible; slides have between {low:g} and {high:g} (40x "
            "is about 0.25)."
        )

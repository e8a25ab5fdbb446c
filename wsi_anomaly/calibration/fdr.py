"""Benjamini-Hochberg on the p-values of a slide's fields, and what it cannot see.

A conformal p-value from n normal fields is never below 1 / (n + 1), so among m fields none can be
flagged before about m / (q (n + 1)) of them reach that floor together: a small lesion on a large
slide is out of reach. The floor is therefore part of the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.wording import counted


@dataclass(frozen=True)
class FalseDiscovery:
    """What Benjamini-Hochberg did on one slide.

    Attributes
    ----------
    q
        Share of false ones among the flagged fields that is accepted, on average.
    tested
        Number of fields with a p-value.
    flagged
        Number of fields flagged.
    floor
        Least number of fields that must score above all normal ones before any can be flagged;
        more than `tested` when nothing can be.
    """

    q: float
    tested: int
    flagged: int
    floor: int

    @property
    def sentence(self) -> str:
        """The result and its floor for the reader."""
        if self.floor > self.tested:
            limit = "with so few normal fields nothing on this slide can be flagged"
        else:
            limit = (
                f"a lesion of fewer than {counted(self.floor, 'field')} "
                "cannot be flagged, however abnormal"
            )
        return (
            f"Fields are flagged by Benjamini-Hochberg at q = {self.q:g}: {self.flagged:,} of "
            f"{self.tested:,}; {limit}."
        )


def benjamini_hochberg(
    p_value: NDArray[np.floating], q: float, p_floor: float
) -> tuple[NDArray[np.bool_], FalseDiscovery]:
    """Flag fields so that the expected share of false ones among them is at most `q`.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57:289, 1995. Conformal p-values from one reference
    are positively dependent, for which the procedure holds (Bates et al., Ann. Stat. 51:149,
    2023), as long as fields are exchangeable with those of the reference.

    Parameters
    ----------
    p_value
        (N,), NaN where there is none.
    q
        Between 0 and 1.
    p_floor
        Smallest p-value that the reference can give.

    Raises
    ------
    ValueError
        `q` is not between 0 and 1.
    """
    if not 0 < q < 1:
        raise ValueError(f"q lies between 0 and 1, not {q}")
    known = np.flatnonzero(np.isfinite(p_value))
    m = len(known)
    order = known[np.argsort(p_value[known], kind="stable")]
    below = np.flatnonzero(p_value[order] <= q * np.arange(1, m + 1) / max(m, 1) + 1e-12)
    flagged = np.zeros(len(p_value), bool)
    if len(below):
        flagged[order[: below[-1] + 1]] = True
    floor = max(1, int(np.ceil(m * p_floor / q - 1e-9)))
    return flagged, FalseDiscovery(q, m, int(flagged.sum()), floor)

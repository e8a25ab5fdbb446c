"""The operating point as it was before conformal risk control, for calibration.py to compare.

Leave-one-case-out, a prediction bound for a new slide's location, and a floor at the highest
location of any calibration slide, which rises with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special


@dataclass(frozen=True)
class Located:
    """Thresholds at which the regions of a slide appear, and its 95th percentile."""

    thresholds: NDArray[np.float64]
    location: float


def _lowest(values: NDArray[np.float64], slides: int, allowed: float) -> float:
    descending = np.sort(values)[::-1]
    over = np.flatnonzero(np.arange(1, len(values) + 1) / slides > allowed * (1 + 1e-9))
    return float(descending[over[0]]) if len(over) else -np.inf


def _for(slides: Sequence[Located], allowed: float) -> float:
    n = len(slides)
    location = np.array([s.location for s in slides])
    seen = _lowest(np.concatenate([s.thresholds for s in slides]), n, allowed)
    spread = np.std(location, ddof=1) * np.sqrt(1 + 1 / n)
    bound = location.mean() + special.stdtrit(n - 1, 0.9) * spread
    apart = np.concatenate([s.thresholds - s.location for s in slides])
    return max(seen, float(bound) + _lowest(apart, n, allowed))


def threshold(slides: Sequence[Located], promise: float) -> float:
    """Threshold of the former rule."""
    n = len(slides)
    promised = promise * n / (n + 1)
    for c in (*np.linspace(1.0, 0.05, 20), 0.0):
        left = [_for([*slides[:i], *slides[i + 1 :]], c * promised) for i in range(n)]
        found = [(s.thresholds > t).sum() for s, t in zip(slides, left, strict=True)]
        if np.mean(found) <= promised:
            break
    return max(_for(slides, c * promised), *(s.location for s in slides))

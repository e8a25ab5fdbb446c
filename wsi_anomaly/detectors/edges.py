"""What is usual at the edge of tissue: scores in units of fields with as much tissue.

A field that is half glass is averaged over half as many positions, and over tissue that lies at a
border. Its embedding varies more, so a distance from normal is larger there for no reason of
disease: on drawn normal slides the highest fields all lay at edges. Scores are therefore
standardised by the share of tissue, with the middle and the spread of normal fields of that share.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_KNOTS = 12
_FIELDS_A_KNOT = 200
_LEAST_KNOTS = 5  # fewer fields than these take tell noise: six real slides lost by it
_LEAST_SPREAD = 0.25  # of that over all shares
_NINE_TENTHS = 1.2816  # standard deviations from the middle to the 90th percentile


def usual_by_share(
    score: NDArray[np.floating], share: NDArray[np.floating]
) -> NDArray[np.float32] | None:
    """Middle and spread of normal scores at some shares of tissue.

    Parameters
    ----------
    score, share
        (N,) of normal fields that were not learned from; shares from 0 to 1.

    Returns
    -------
    (3, K) float32, K at most :data:`MOST_KNOTS`: rising shares, the median score at each, and its
    upper spread in standard deviations. None where there are too few fields to tell.
    """
    groups = min(MOST_KNOTS, len(score) // _FIELDS_A_KNOT)
    if groups < _LEAST_KNOTS:
        return None
    edges = np.unique(np.quantile(share, np.linspace(0, 1, groups + 1)))
    # Most fields are wholly tissue: several edges are 1 then, and the last group is those fields.
    number = np.searchsorted(edges, share, side="right").clip(1, len(edges)) - 1
    if len(edges) > 1 and not (share == edges[-1]).sum() >= _FIELDS_A_KNOT:
        number = number.clip(max=len(edges) - 2)
    floor = _LEAST_SPREAD * _upper_spread(score)
    knots = [
        (np.median(share[here]), np.median(score[here]), max(_upper_spread(score[here]), floor))
        for here in (number == k for k in np.unique(number))
    ]
    return np.array(knots, np.float32).T


def standardised(score: Tensor, share: Tensor, usual: Tensor) -> Tensor:
    """Scores (N,) in units of normal fields with the same share (N,) of tissue.

    Parameters
    ----------
    usual
        (3, K) as :func:`usual_by_share` gives it; between its shares it is linear, beyond them
        constant.
    """
    known, last = usual[0].contiguous(), usual.shape[1] - 1
    upper = torch.searchsorted(known, share.to(known).contiguous()).clamp(1, last)
    width = (known[upper] - known[upper - 1]).clamp_min(1e-6)
    weight = ((share.to(known) - known[upper - 1]) / width).clamp(0, 1)
    middle, spread = torch.lerp(usual[1:, upper - 1], usual[1:, upper], weight)
    return (score - middle) / spread


def _upper_spread(score: NDArray[np.floating]) -> float:
    """Spread of what lies above the middle: what lies below it is flagged by nobody."""
    middle, high = np.quantile(score, [0.5, 0.9])
    return max(float(high - middle) / _NINE_TENTHS, 1e-6)

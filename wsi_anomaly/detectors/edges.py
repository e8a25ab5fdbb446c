"""What is usual at the edge of tissue: scores above those of fields with as much tissue.

A field that is half glass is averaged over half as many positions, and over tissue that lies at a
border: a distance from normal is larger there for no reason of disease. On drawn normal slides the
highest fields nearly all lay at edges. So what is usual for a field's share of tissue is taken off.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_KNOTS = 12
_LEAST_KNOTS = 5  # fewer fields than these take tell noise
_FIELDS_A_KNOT = 200


def usual_by_share(
    score: NDArray[np.floating], share: NDArray[np.floating]
) -> NDArray[np.float32] | None:
    """Median normal scores at some shares of tissue.

    Parameters
    ----------
    score, share
        (N,) of normal fields that were not learned from; shares from 0 to 1.

    Returns
    -------
    (2, K) float32, K at most :data:`MOST_KNOTS`: rising shares, and the median score at each. None
    where there are too few fields to tell.
    """
    groups = min(MOST_KNOTS, len(score) // _FIELDS_A_KNOT)
    if groups < _LEAST_KNOTS:
        return None
    edges = np.unique(np.quantile(share, np.linspace(0, 1, groups + 1)))
    # Most fields are wholly tissue: several edges are 1 then, and the last group is those fields.
    number = np.searchsorted(edges, share, side="right").clip(1, len(edges)) - 1
    if len(edges) > 1 and (share == edges[-1]).sum() < _FIELDS_A_KNOT:
        number = number.clip(max=len(edges) - 2)
    knots = [
        (np.median(share[here]), np.median(score[here]))
        for here in (number == k for k in np.unique(number))
    ]
    return np.array(knots, np.float32).T


def above_usual(score: Tensor, share: Tensor, usual: Tensor) -> Tensor:
    """Scores (N,) less those of normal fields with the same share (N,) of tissue.

    Parameters
    ----------
    usual
        (2, K) as :func:`usual_by_share` gives it; between its shares it is linear, beyond them
        constant.
    """
    known, last = usual[0].contiguous(), usual.shape[1] - 1
    if last == 0:
        return score - usual[1]
    upper = torch.searchsorted(known, share.to(known).contiguous()).clamp(1, last)
    width = (known[upper] - known[upper - 1]).clamp_min(1e-6)
    weight = ((share.to(known) - known[upper - 1]) / width).clamp(0, 1)
    return score - torch.lerp(usual[1, upper - 1], usual[1, upper], weight)

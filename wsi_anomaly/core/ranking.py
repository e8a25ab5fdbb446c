"""How well scores part abnormal from normal: the area under the ROC curve, of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ordered_pairs(normal: NDArray[np.floating], abnormal: NDArray[np.floating]) -> float:
    """Count pairs in which the abnormal one scores higher; ties count half.

    Divided by the number of pairs it is the ROC AUC (Mann and Whitney's U).

    Parameters
    ----------
    normal, abnormal
        (N,) and (M,) scores, without NaN.
    """
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, abnormal, "left").sum()
    up_to = np.searchsorted(ordered, abnormal, "right").sum()
    return float(below + up_to) / 2


def roc_auc(normal: NDArray[np.floating], abnormal: NDArray[np.floating]) -> float:
    """Share of pairs in which the abnormal one scores higher: the area under the ROC curve.

    Parameters
    ----------
    normal, abnormal
        (N,) and (M,) scores.

    Returns
    -------
    From 0 to 1; NaN where one of the two is empty or a score is NaN.
    """
    pairs = len(normal) * len(abnormal)
    if not pairs or np.isnan(normal).any() or np.isnan(abnormal).any():
        return float("nan")
    return ordered_pairs(normal, abnormal) / pairs

"""How sure a choice is: whether other cases and other anomalies would have chosen the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SURE_FROM = 0.95


@dataclass(frozen=True)
class Comparison:
    """The chosen configuration against another one, over resamples.

    Attributes
    ----------
    wins
        Share of the resamples in which the chosen one is better; ties count half.
    difference, low, high
        Mean difference in its favour, and the middle 95% of the resamples.
    """

    wins: float
    difference: float
    low: float
    high: float


def resampled(
    sums: Sequence[Sequence[NDArray[np.float64]]],
    counts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Values of configurations when cases and groups of anomalies are drawn anew.

    All configurations are judged on the same draws, so that their differences are paired. A
    single group of anomalies cannot be drawn anew: then only cases are.

    Parameters
    ----------
    sums
        For each configuration and each fold (cases, groups); see
        :class:`~wsi_anomaly.tuning.fold_scores.FoldResult`.
    counts
        For each fold the tiles of each case and of each group.
    draws, seed
        Resamples, with replacement.

    Returns
    -------
    values
        (draws, configurations): mean over the folds from which a case was drawn.
    """
    rng = np.random.default_rng(seed)
    sizes = [len(cases) for cases, _ in counts]
    groups = len(counts[0][1])
    cases_drawn = rng.multinomial(sum(sizes), np.full(sum(sizes), 1 / sum(sizes)), draws)
    groups_drawn = (
        rng.multinomial(groups, np.full(groups, 1 / groups), draws)
        if groups > 1
        else np.ones((draws, 1), np.int64)
    )
    by_fold = np.split(cases_drawn, np.cumsum(sizes)[:-1], axis=1)
    values = np.full((draws, len(sums), len(counts)), np.nan)
    for k, (weights, (cases, of)) in enumerate(zip(by_fold, counts, strict=True)):
        pairs = (weights @ cases) * (groups_drawn @ of)
        for j, own in enumerate(sums):
            ordered = ((weights @ np.asarray(own[k])) * groups_drawn).sum(1)
            np.divide(ordered, pairs, out=values[:, j, k], where=pairs > 0)
    found: NDArray[np.float64] = np.nanmean(values, axis=2)
    return found


def compare(
    chosen: NDArray[np.float64], other: NDArray[np.float64], *, maximize: bool
) -> Comparison:
    """Compare two columns (n,) of :func:`resampled`."""
    difference = (chosen - other) * (1 if maximize else -1)
    low, high = np.percentile(difference, [2.5, 97.5])
    wins = (difference > 0).mean() + (difference == 0).mean() / 2
    return Comparison(float(wins), float(difference.mean()), float(low), float(high))

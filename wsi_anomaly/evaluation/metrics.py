"""Figures of quality from labels and scores: arrays in, numbers out.

Labels are 1 (abnormal), 0 (normal) or -1 (left out); higher scores are more abnormal; a score of
NaN was not assessed and is left out. The figures themselves are scikit-learn's. A figure that
cannot be computed, for want of one of the two classes, is NaN.

Fields of one slide are dependent, slides are the sample: intervals come from resampling groups
(slides, or cases where slides share one), never fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.core import ranking
from wsi_anomaly.evaluation.labels import ABNORMAL, IGNORED, NORMAL
from wsi_anomaly.options import EvaluateOptions

DRAWS = 1000
LEAST_GROUPS = 3
"""Fewer groups are no sample to resample."""
SPECIFICITIES = EvaluateOptions.specificities

_MOST_TURNS = 2048  # abnormal scores at which resampled curves may turn; exact up to here
_ROUNDING = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval; the interval is NaN where there is nothing to resample."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


@dataclass(frozen=True)
class Performance:
    """How well scores tell abnormal from normal.

    Attributes
    ----------
    roc_auc, pr_auc
        Areas under the two curves; the latter is scikit-learn's average precision, to be read
        against :attr:`prevalence`, which chance reaches.
    sensitivity
        At each specificity asked for.
    abnormal, normal
        How many of each class have a score.
    groups
        How many groups they come from.
    """

    roc_auc: Estimate
    pr_auc: Estimate
    sensitivity: Mapping[float, Estimate]
    abnormal: int
    normal: int
    groups: int

    @property
    def prevalence(self) -> float:
        """Share of abnormal ones; NaN without any."""
        total = self.abnormal + self.normal
        return self.abnormal / total if total else float("nan")


def judged(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.bool_]:
    """Which entries count, (N,): labelled 0 or 1, and with a finite score."""
    found: NDArray[np.bool_] = np.asarray(labels) != IGNORED
    return found & np.isfinite(np.asarray(scores, np.float64))


def _both(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats] | None:
    """Labels and scores that count; None when they are of one class."""
    keep = judged(labels, scores)
    abnormal = np.asarray(labels)[keep] == ABNORMAL
    if abnormal.all() or not abnormal.any():
        return None
    return abnormal, np.asarray(scores, np.float64)[keep]


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve of (N,) scores: how often an abnormal one is above a normal one."""
    found = _both(labels, scores)
    if found is None:
        return float("nan")
    abnormal, values = found
    return ranking.roc_auc(values[~abnormal], values[abnormal])


def pr_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision of (N,) scores: area under the precision-recall curve, uninterpolated."""
    from sklearn.metrics import average_precision_score

    found = _both(labels, scores)
    return float("nan") if found is None else float(average_precision_score(*found))


def _sensitivities(
    labels: ArrayLike, scores: ArrayLike, specificities: Sequence[float]
) -> dict[float, float]:
    """Highest share of abnormal ones found by a threshold that spares so many normal ones.

    The threshold is one that the scores offer: nothing is interpolated.
    """
    from sklearn.metrics import roc_curve

    found = _both(labels, scores)
    if found is None:
        return dict.fromkeys(specificities, float("nan"))
    false, true, _ = roc_curve(*found, drop_intermediate=False)
    return {s: float(true[false <= 1 - s + _ROUNDING].max()) for s in specificities}


def group_draws(groups: int, draws: int = DRAWS, seed: int = 0) -> Floats:
    """How often each group is drawn in each resample, (draws, groups): with replacement."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)
    return counts.astype(np.float64)


def interval(values: ArrayLike) -> tuple[float, float]:
    """2.5th and 97.5th percentile of resampled figures; draws without a figure are left out.

    NaN where all draws agree: slides that are told apart without error stay so in every resample,
    which shows that they are few, not that the figure is sure.
    """
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite) or np.ptp(finite) < _ROUNDING:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)


def performance(
    labels: ArrayLike,
    scores: ArrayLike,
    group: ArrayLike,
    *,
    specificities: Sequence[float] = SPECIFICITIES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Performance:
    """Compute all figures of some scores, with bootstrap intervals over groups.

    Parameters
    ----------
    labels, scores
        (N,) as everywhere in this module.
    group
        (N,) slide or case of each entry, any values; whole groups are resampled.
    specificities
        At which the sensitivity is asked for.
    draws, seed
        Of the bootstrap.

    Notes
    -----
    Intervals are NaN with fewer than three groups, or if a class comes from one group only: there
    is nothing that could vary.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    keep = judged(labels, scores)
    names, index = np.unique(np.asarray(group)[keep], return_inverse=True)
    labels, scores = labels[keep], scores[keep]
    abnormal = labels == ABNORMAL
    groups_of = [len(np.unique(index[part])) for part in (abnormal, ~abnormal)]
    ranges: dict[str | float, tuple[float, float]] = {}
    if len(names) >= LEAST_GROUPS and min(groups_of) > 1:
        drawn = resampled(
            abnormal, scores, index, group_draws(len(names), draws, seed), specificities
        )
        ranges = {name: interval(values) for name, values in drawn.items()}
    nothing = (float("nan"), float("nan"))
    return Performance(
        roc_auc=Estimate(roc_auc(labels, scores), *ranges.get("roc_auc", nothing)),
        pr_auc=Estimate(pr_auc(labels, scores), *ranges.get("pr_auc", nothing)),
        sensitivity={
            s: Estimate(value, *ranges.get(s, nothing))
            for s, value in _sensitivities(labels, scores, specificities).items()
        },
        abnormal=int(abnormal.sum()),
        normal=int((labels == NORMAL).sum()),
        groups=len(names),
    )


def roc_auc_difference(
    labels: ArrayLike,
    scores: ArrayLike,
    control: ArrayLike,
    group: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """ROC AUC of some scores minus that of a control, with an interval over groups.

    Both are asked about the entries that have both scores, and resampled in the same draws: the
    interval is narrower than those of the two figures would let one think.
    """
    labels, group = np.asarray(labels), np.asarray(group)
    pair = [np.asarray(values, np.float64) for values in (scores, control)]
    keep = judged(labels, pair[0]) & judged(labels, pair[1])
    names, index = np.unique(group[keep], return_inverse=True)
    abnormal = labels[keep] == ABNORMAL
    first, second = (roc_auc(labels[keep], values[keep]) for values in pair)
    if len(names) < LEAST_GROUPS or abnormal.all() or not abnormal.any():
        return Estimate(first - second)
    weights = group_draws(len(names), draws, seed)
    one, other = (resampled(abnormal, v[keep], index, weights)["roc_auc"] for v in pair)
    return Estimate(first - second, *interval(one - other))


def macro_roc_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    slide: ArrayLike,
    group: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Estimate, int]:
    """Mean ROC AUC within slides: no difference between slides can raise or lower it.

    Parameters
    ----------
    labels, scores, slide, group
        (N,) as :func:`performance` takes them, and the slide of each entry.
    draws, seed
        Of the bootstrap, over groups.

    Returns
    -------
    The mean over the slides that have both classes, and how many these are.
    """
    labels, scores, slide, group = map(np.asarray, (labels, scores, slide, group))
    order = np.argsort(slide, kind="stable")
    ends = np.flatnonzero(np.diff(np.unique(slide, return_inverse=True)[1][order])) + 1
    parts = np.split(order, ends)
    aucs = np.array([roc_auc(labels[part], scores[part]) for part in parts])
    both = np.isfinite(aucs)
    if not both.any():
        return Estimate(float("nan")), 0
    groups = [group[part[0]] for part, known in zip(parts, both, strict=True) if known]
    names, index = np.unique(groups, return_inverse=True)
    range_ = (float("nan"), float("nan"))
    if len(names) >= LEAST_GROUPS:
        weights = group_draws(len(names), draws, seed)[:, index]
        range_ = interval(weights @ aucs[both] / weights.sum(axis=1))
    return Estimate(float(aucs[both].mean()), *range_), int(both.sum())


def resampled(
    abnormal: NDArray[np.bool_],
    scores: Floats,
    group: NDArray[np.intp],
    weights: Floats,
    specificities: Sequence[float] = (),
) -> dict[str | float, Floats]:
    """Figures of many resamples at once: "roc_auc", "pr_auc" and each specificity, (draws,).

    Parameters
    ----------
    abnormal, scores
        (N,) what counts, finite.
    group
        (N,) index of each entry's group.
    weights
        (draws, groups) how often each group is drawn.

    Notes
    -----
    The same as scikit-learn's figures with ``sample_weight=weights[draw][group]``, hundreds of
    times as fast: the counts of each group between two thresholds are taken once. Curves turn at
    abnormal scores; with more than 2,048 different ones, their quantiles stand for them.
    """
    from scipy.sparse import csr_array

    thresholds = _turns(scores[abnormal], scores)
    step = np.searchsorted(thresholds, scores, "right") - 1
    shape = (weights.shape[1], len(thresholds))

    def at_least(chosen: NDArray[np.bool_]) -> Floats:
        """Weight of the chosen at or above each threshold, the highest first: (draws, T)."""
        ones = np.ones(int(chosen.sum()))
        counts = csr_array((ones, (group[chosen], step[chosen])), shape=shape)
        found: Floats = np.cumsum((weights @ counts)[:, ::-1], axis=1)
        return found

    true, false = at_least(abnormal), at_least(~abnormal)
    before = [np.pad(curve[:, :-1], ((0, 0), (1, 0))) for curve in (true, false)]
    gained, lost = true - before[0], false - before[1]
    positives, negatives = true[:, -1], false[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (lost * (true + before[0])).sum(axis=1) / (2 * positives * negatives)
        precision = np.divide(true, true + false, out=np.zeros_like(true), where=true > 0)
        average = np.where(negatives > 0, (gained * precision).sum(axis=1) / positives, np.nan)
        out: dict[str | float, Floats] = {"roc_auc": area, "pr_auc": average}
        for specificity in specificities:
            allowed = (1 - specificity + _ROUNDING) * negatives
            best = np.where(false <= allowed[:, None], true, 0).max(axis=1)
            out[specificity] = np.where(negatives > 0, best / positives, np.nan)
    return out


def _turns(abnormal: Floats, scores: Floats) -> Floats:
    """Thresholds, ascending: the lowest score, abnormal scores, and what lies next above each."""
    values = np.unique(scores)
    turns = np.unique(abnormal)
    if len(turns) > _MOST_TURNS:
        turns = np.unique(np.quantile(abnormal, np.linspace(0, 1, _MOST_TURNS), method="lower"))
    above = np.searchsorted(values, turns, "right")
    return np.unique(np.concatenate((values[:1], turns, values[above[above < len(values)]])))

"""Figures of quality from labels and scores: arrays in, numbers out.

Labels are 1 (abnormal), 0 (normal) or -1 (left out); higher scores are more abnormal; a score of
NaN was not assessed and is left out. The figures themselves are scikit-learn's. A figure that
cannot be computed, for want of one of the two classes, is NaN.

Fields of one slide are dependent, slides are the sample: intervals come from leaving out groups
(slides, or cases where slides share one), never fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from wsi_anomaly.core import ranking
from wsi_anomaly.evaluation.labels import ABNORMAL, IGNORED, NORMAL
from wsi_anomaly.options import EvaluateOptions

LEAST_GROUPS = 6
"""Groups from which each class must come, for an interval that covers what it says."""
SPECIFICITIES = EvaluateOptions.specificities

_MOST_TURNS = 2048  # abnormal scores at which resampled curves may turn; exact up to here
_ROUNDING = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval; the interval is NaN where there are too few groups."""

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
    """Area under the ROC curve of (N,) scores: how often an abnormal one is above a normal one.

    Examples
    --------
    >>> roc_auc([NORMAL, NORMAL, ABNORMAL, ABNORMAL], [0.1, 0.6, 0.5, 0.9])
    0.75
    """
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


def each_left_out(groups: int) -> Floats:
    """How often each group counts with one left out in turn, (groups, groups): once, or not."""
    return 1.0 - np.eye(groups)


def interval(
    value: float, without: ArrayLike, *, rarer: int | None = None, share: bool = True
) -> tuple[float, float]:
    """95% interval of a figure, studentised by the jackknife over groups.

    Student's t with as many degrees as groups of the rarer class less one, on the scale of logits
    for a share. The percentiles of a bootstrap, which such intervals often are, cover far less than
    95% with few slides.

    Parameters
    ----------
    value
        The figure.
    without
        (groups,) the figure with each group left out; NaN where there is none then.
    rarer
        Number of groups with the class that fewer have; None: that of all.
    share
        Whether it lies between 0 and 1.

    Returns
    -------
    NaN where all agree, and where a share is 0 or 1 or would be without one group: slides that are
    told apart without error are few, which does not make the figure sure.
    """
    left = np.asarray(without, np.float64)
    left = left[np.isfinite(left)]
    n = len(left)
    too_sure = share and (min(value, *left) <= 0 or max(value, *left) >= 1) if n else True
    if n < LEAST_GROUPS or np.ptp(left) < _ROUNDING or too_sure:
        return float("nan"), float("nan")
    reach = special.stdtrit((rarer or n) - 1, 0.975) * np.sqrt(1 - 1 / n)
    place, places = (special.logit(value), special.logit(left)) if share else (value, left)
    half = float(reach * np.linalg.norm(places - places.mean()))
    low, high = place - half, place + half
    return (float(special.expit(low)), float(special.expit(high))) if share else (low, high)


def performance(
    labels: ArrayLike,
    scores: ArrayLike,
    group: ArrayLike,
    *,
    specificities: Sequence[float] = SPECIFICITIES,
) -> Performance:
    """Compute all figures of some scores, with intervals over groups.

    Parameters
    ----------
    labels, scores
        (N,) as everywhere in this module.
    group
        (N,) slide or case of each entry, any values; whole groups are left out.
    specificities
        At which the sensitivity is asked for.

    Notes
    -----
    Intervals are NaN if a class comes from fewer than ``LEAST_GROUPS`` groups: too few to say.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    keep = judged(labels, scores)
    names, index = np.unique(np.asarray(group)[keep], return_inverse=True)
    labels, scores = labels[keep], scores[keep]
    abnormal = labels == ABNORMAL
    groups_of = [len(np.unique(index[part])) for part in (abnormal, ~abnormal)]
    without: dict[str | float, Floats] = {}
    if min(groups_of) >= LEAST_GROUPS:
        without = resampled(abnormal, scores, index, each_left_out(len(names)), specificities)

    def estimate(name: str | float, value: float) -> Estimate:
        return Estimate(value, *interval(value, without.get(name, ()), rarer=min(groups_of)))

    return Performance(
        roc_auc=estimate("roc_auc", roc_auc(labels, scores)),
        pr_auc=estimate("pr_auc", pr_auc(labels, scores)),
        sensitivity={
            s: estimate(s, value)
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
) -> Estimate:
    """ROC AUC of some scores minus that of a control, with an interval over groups.

    All are (N,). Both are asked about the entries that have both scores, without the same groups:
    the interval is narrower than those of the two figures would let one think.
    """
    labels, group = np.asarray(labels), np.asarray(group)
    pair = [np.asarray(values, np.float64) for values in (scores, control)]
    keep = judged(labels, pair[0]) & judged(labels, pair[1])
    names, index = np.unique(group[keep], return_inverse=True)
    abnormal = labels[keep] == ABNORMAL
    first, second = (roc_auc(labels[keep], values[keep]) for values in pair)
    rarer = min(len(np.unique(index[part])) for part in (abnormal, ~abnormal))
    if rarer < LEAST_GROUPS:
        return Estimate(first - second)
    weights = each_left_out(len(names))
    one, other = (resampled(abnormal, v[keep], index, weights)["roc_auc"] for v in pair)
    ends = interval(first - second, one - other, rarer=rarer, share=False)
    return Estimate(first - second, *ends)


def macro_roc_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    slide: ArrayLike,
    group: ArrayLike,
) -> tuple[Estimate, int]:
    """Mean ROC AUC within slides: no difference between slides can raise or lower it.

    Parameters
    ----------
    labels, scores, slide, group
        (N,) as :func:`performance` takes them, and the slide of each entry.

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
    value = float(aucs[both].mean())
    if len(names) < LEAST_GROUPS:
        return Estimate(value), int(both.sum())
    weights = each_left_out(len(names))[:, index]
    found = interval(value, weights @ aucs[both] / weights.sum(axis=1))
    return Estimate(value, *found), int(both.sum())


def resampled(
    abnormal: NDArray[np.bool_],
    scores: Floats,
    group: NDArray[np.intp],
    weights: Floats,
    specificities: Sequence[float] = (),
) -> dict[str | float, Floats]:
    """Figures under many weights of the groups at once, (draws,).

    Parameters
    ----------
    abnormal, scores
        (N,) what counts, finite.
    group
        (N,) index of each entry's group.
    weights
        (draws, groups) how often each group counts.

    Returns
    -------
    "roc_auc", "pr_auc" and each specificity.

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

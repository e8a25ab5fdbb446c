"""Tile scores against known outlines, with the controls that keep a figure honest.

Tiles of one slide are dependent, slides are the sample: intervals come from resampling slides,
never tiles. A figure without its colour control says little: where a lesion has another colour,
a mean finds it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ABNORMAL, NORMAL, IGNORED = 1, 0, -1
INSIDE_AT_LEAST = 0.5
"""A tile is abnormal when at least this fraction of it lies inside an outline."""


@dataclass(frozen=True)
class Auc:
    """A ROC AUC with its 95% interval over slides (NaN where it cannot be computed)."""

    value: float
    low: float
    high: float
    abnormal: int
    normal: int

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


def label_fields(inside: NDArray[np.floating]) -> NDArray[np.int8]:
    """Labels of tiles from the fraction of each that lies inside an outline, shape (N,).

    1 abnormal (at least half inside), 0 normal (nothing inside), -1 neither: a tile on the
    border is no evidence for or against a detector.
    """
    labels = np.full(inside.shape, IGNORED, np.int8)
    labels[inside >= INSIDE_AT_LEAST] = ABNORMAL
    labels[inside <= 0] = NORMAL
    return labels


def roc_auc(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """ROC AUC of `scores` (higher = more abnormal) over tiles labelled 0 or 1.

    Tiles labelled -1 and tiles without a score (NaN: not assessed) are left out. NaN when one of
    the two classes is empty.
    """
    keep = (labels != IGNORED) & np.isfinite(scores)
    labels, scores = labels[keep], scores[keep]
    abnormal = int(labels.sum())
    if abnormal in (0, len(labels)):
        return float("nan")
    from scipy.stats import rankdata

    # Mann-Whitney U with average ranks for ties.
    ranks = rankdata(scores)
    u = ranks[labels == ABNORMAL].sum() - abnormal * (abnormal + 1) / 2
    return float(u / (abnormal * (len(labels) - abnormal)))


def slide_bootstrap(
    labels: Sequence[NDArray[np.integer]],
    scores: Sequence[NDArray[np.floating]],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Auc:
    """Pooled tile ROC AUC of several slides, with a percentile bootstrap over slides.

    Parameters
    ----------
    labels, scores
        One array a slide, as :func:`roc_auc` takes them.
    draws
        Resamples of the slides, with replacement. With fewer than three slides there is nothing
        to resample and the interval is NaN.
    """
    pooled_labels, pooled_scores = np.concatenate(labels), np.concatenate(scores)
    assessed = np.isfinite(pooled_scores)
    values: list[float] = []
    if len(labels) >= 3:
        generator = np.random.default_rng(seed)
        for _ in range(draws):
            drawn = generator.integers(0, len(labels), len(labels))
            values.append(
                roc_auc(
                    np.concatenate([labels[i] for i in drawn]),
                    np.concatenate([scores[i] for i in drawn]),
                )
            )
    finite = np.array(values)[np.isfinite(values)] if values else np.array([])
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (float("nan"),) * 2
    return Auc(
        value=roc_auc(pooled_labels, pooled_scores),
        low=float(low),
        high=float(high),
        abnormal=int(((pooled_labels == ABNORMAL) & assessed).sum()),
        normal=int(((pooled_labels == NORMAL) & assessed).sum()),
    )


class ColourControl:
    """Anomaly score of a tile's mean colour alone: Mahalanobis distance from normal tiles' means.

    What it reaches is what colour gives away; a detector is worth what it adds to that.
    """

    def fit(self, means: NDArray[np.floating]) -> ColourControl:
        """Learn from the mean colours of normal tiles, shape (N, 3), any unit."""
        self.centre_ = means.mean(axis=0)
        covariance = np.cov(means, rowvar=False) + 1e-6 * np.eye(means.shape[1])
        self.precision_ = np.linalg.inv(covariance)
        return self

    def score_samples(self, means: NDArray[np.floating]) -> NDArray[np.float64]:
        """Squared distances, shape (N,); higher = more unusual."""
        difference = means - self.centre_
        distance: NDArray[np.float64] = ((difference @ self.precision_) * difference).sum(axis=1)
        return distance


def mean_colours(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean colour of tiles: (N, H, W, 3) -> (N, 3)."""
    means: NDArray[np.float64] = images.mean(axis=(1, 2), dtype=np.float64)
    return means

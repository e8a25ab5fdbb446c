"""A configuration chosen by few known anomalies, drawn again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.reproduce.scores import Scores

COUNTS = (1, 2, 5, 10, 20, 50, 100)
TYPES = (1, 3, None)
"""Types of anomaly that a draw is taken from; None: all of them."""

DRAWS = 300


@dataclass(frozen=True)
class Curve:
    """Quality of the chosen configuration.

    Attributes
    ----------
    types
        Number of types that the anomalies are drawn from.
    counts
        Number of anomalies.
    mean, low, high
        ROC AUC of the chosen configuration: mean, and 10th and 90th percentile over draws.
    best
        How often the choice was the configuration that is best on the judged images.
    """

    types: int
    counts: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    best: tuple[float, ...]


@dataclass(frozen=True)
class Choice:
    """What one problem and seed say: the grid's scores, and a half of the anomalies to choose by.

    Attributes
    ----------
    normal
        (n, C) scores of normal images set aside, sorted for each configuration.
    pool, pool_kind
        (p, C) scores of the anomalies to choose by, and (p,) their types.
    quality
        (C,) ROC AUC of each configuration on the judged images.
    reconstruction
        (C,) mean loss on the normal images set aside: what an unsupervised choice goes by.
    """

    normal: NDArray[np.float64]
    pool: NDArray[np.float64]
    pool_kind: NDArray[np.str_]
    quality: NDArray[np.float64]
    reconstruction: NDArray[np.float64]

    @classmethod
    def of(cls, cells: Sequence[Scores], seed: int) -> Choice:
        """Divide the abnormal images in halves, by what they come from."""
        first = cells[0]
        rng = np.random.default_rng([seed, 3])
        groups = rng.permutation(np.unique(first.group[first.abnormal]))
        in_pool = first.abnormal & np.isin(first.group, groups[: len(groups) // 2])
        judged = ~in_pool
        quality = [
            Scores(
                c.judge[judged], c.abnormal[judged], c.group[judged], c.kind[judged], c.normal,
                c.known,
            ).auc()
            for c in cells
        ]  # fmt: skip
        return cls(
            np.sort(np.stack([c.normal for c in cells], 1), 0),
            np.stack([c.judge[in_pool] for c in cells], 1),
            first.kind[in_pool],
            np.array(quality),
            np.array([c.normal.mean() for c in cells]),
        )

    def aucs(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """ROC AUC (C,) of some of the pool against the normal images set aside."""
        found = []
        for ranked, values in zip(self.normal.T, self.pool[chosen].T, strict=True):
            below = np.searchsorted(ranked, values, "left")
            upto = np.searchsorted(ranked, values, "right")
            found.append((below + upto).mean() / (2 * len(ranked)))
        return np.array(found)

    def draw(self, count: int, types: int, rng: np.random.Generator) -> NDArray[np.intp] | None:
        """Draw few anomalies (n,) of few types; None where there are not so many."""
        kinds = np.unique(self.pool_kind)
        if types > len(kinds):
            return None
        mine = np.flatnonzero(np.isin(self.pool_kind, rng.choice(kinds, types, replace=False)))
        return None if count > len(mine) else rng.choice(mine, count, replace=False)


def choose(choices: Sequence[Choice], types: int) -> Curve:
    """Draw again and again, choose, and look at what was chosen."""
    counts, mean, low, high, best = [], [], [], [], []
    for count in COUNTS:
        found: list[float] = []
        hits: list[bool] = []
        for number, choice in enumerate(choices):
            rng = np.random.default_rng([number, types, count])
            for _ in range(max(1, DRAWS // len(choices))):
                chosen = choice.draw(count, types, rng)
                if chosen is None:
                    continue
                aucs = choice.aucs(chosen)
                # Equally good ones: any of them could have been taken.
                winner = rng.choice(np.flatnonzero(aucs >= aucs.max() - 1e-12))
                found.append(float(choice.quality[winner]))
                hits.append(bool(winner == choice.quality.argmax()))
        if found:
            counts.append(count)
            mean.append(float(np.mean(found)))
            low.append(float(np.percentile(found, 10)))
            high.append(float(np.percentile(found, 90)))
            best.append(float(np.mean(hits)))
    return Curve(types, tuple(counts), tuple(mean), tuple(low), tuple(high), tuple(best))


@dataclass(frozen=True)
class Supervision:
    """All curves, and what they are held against.

    Attributes
    ----------
    curves
        One for each number of types.
    oracle, unsupervised, average
        ROC AUC of the best configuration of the grid, of the one that rebuilds normal images best,
        and the mean over the grid; each the mean over problems and seeds.
    quality
        Configuration to its mean ROC AUC.
    """

    curves: tuple[Curve, ...]
    oracle: float
    unsupervised: float
    average: float
    quality: dict[str, float]

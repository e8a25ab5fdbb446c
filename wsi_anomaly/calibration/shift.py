"""Whether a batch of new slides comes from where the normal slides come from.

A promise about normal slides is a promise about slides like them. Whether a batch is like them is
asked slide by slide: each slide is a few numbers (where its scores lie and how they spread, its
stains, its sharpness) and a place in the space of the network's embeddings, and two groups of
slides are compared by a permutation test. Fields would be thousands, and alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05
AXIS = "embedding "
"""Begins the names of the measures that are a slide's coordinates in the space of embeddings."""
_EMBEDDING = "embedding"
_RESAMPLES = 1999
_MOST = 200  # slides of a batch that are looked at: more change nothing, and take time

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BatchShift:
    """How a batch of slides lies beside normal ones.

    Attributes
    ----------
    slides, normal
        Of how many each.
    p_value
        Of the test over all measures and embeddings together.
    least_p_value
        The smallest that measures of so few slides can give: above ``LEVEL`` they show nothing.
    effects
        By measure, the largest first: how much higher the batch lies, in standard deviations
        between normal slides; of embeddings, how far apart the means of the two lie.
    """

    slides: int
    normal: int
    p_value: float
    least_p_value: float
    effects: Mapping[str, float]

    @property
    def differs(self) -> bool:
        """Whether the batch is another one, beyond chance."""
        return self.p_value <= LEVEL

    @property
    def sentence(self) -> str:
        """What a reader should know."""
        of = f"{self.slides} new slides beside {self.normal} normal ones"
        if self.least_p_value > LEVEL and not self.differs:
            return f"Too few slides to see whether the batch differs from the normal slides ({of})."
        if not self.differs:
            return (
                f"No shift of the batch is seen ({of}; permutation test by slide, p = "
                f"{self.p_value:.2g})."
            )
        name, effect = next(iter(self.effects.items()))
        way = "higher" if effect > 0 else "lower"
        most = (
            "what the network sees lies elsewhere (embedding)"
            if name == _EMBEDDING
            else f"its {name} is {way}"
        )
        return (
            f"The batch as a whole is unlike the normal slides ({of}; permutation test by slide, "
            f"p = {self.p_value:.2g}); most of all {most}, by {abs(effect):.1f} standard "
            "deviations between normal slides. The promise about false regions is one about slides "
            "like the normal ones: unless it is the lesions that differ, calibrate with normal "
            "slides of this batch."
        )


def batch_shift(
    normal: Mapping[str, ArrayLike], new: Mapping[str, ArrayLike], *, seed: int = 0
) -> BatchShift | None:
    """Compare slides by what was measured on each.

    Two statistics: the largest difference of mean ranks over the measures, so that many measures
    are no more false alarms than one and no outlier decides; and the energy distance of the places
    in the space of embeddings. The smaller of their two p-values is held against its own
    permutations, so the level is that of one test.

    Parameters
    ----------
    normal, new
        By measure, a value for each slide, (n,) and (m,); measures that one of them lacks are left
        out, and so are slides with a value that is not finite.
    seed
        Of the permutations, where they are too many to try all.

    Returns
    -------
    None without a common measure, or without at least two slides on each side.
    """
    names = [name for name in normal if name in new]
    if not names:
        return None
    tables = [np.stack([np.asarray(side[k], float) for k in names], 1) for side in (normal, new)]
    first, second = (t[np.isfinite(t).all(1)] for t in tables)
    second = second[:_MOST]
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return None
    on_axis = np.array([name.startswith(AXIS) for name in names])
    chosen = _regroupings(n, m, seed)
    # Weights by which a sum over slides is the mean of the new ones less that of the normal ones.
    weights = np.where(chosen, 1 / m, -1 / n)
    found = [
        statistic
        for statistic in (
            _ranks_apart(np.concatenate([first, second])[:, ~on_axis], weights),
            _energy(np.concatenate([first, second])[:, on_axis], weights),
        )
        if statistic is not None
    ]
    smallest = np.min([_p_values(statistic) for statistic in found], axis=0)
    effects = dict(_effects(names, on_axis, first, second))
    return BatchShift(
        m,
        n,
        float(np.mean(smallest <= smallest[0] + 1e-9)),
        # Ranks that lie as far apart the other way count too.
        (2 if len(chosen) == comb(n + m, m) else 1) / len(chosen),
        dict(sorted(effects.items(), key=lambda entry: -abs(entry[1]))),
    )


def _regroupings(n: int, m: int, seed: int) -> NDArray[np.bool_]:
    """Which slides are called new, (r, n + m): as it is, then all other ways, or many of them."""
    as_is = np.arange(n + m) >= n
    if comb(n + m, m) <= _RESAMPLES + 1:
        ways = np.zeros((comb(n + m, m), n + m), bool)
        for way, new in zip(ways, combinations(range(n + m), m), strict=True):
            way[list(new)] = True
        return np.concatenate([as_is[None], ways[(ways != as_is).any(1)]])
    drawn = np.random.default_rng(seed).permuted(np.tile(as_is, (_RESAMPLES, 1)), axis=1)
    return np.concatenate([as_is[None], drawn])


def _ranks_apart(values: Floats, weights: Floats) -> Floats | None:
    """Largest difference (r,) of mean ranks over measures (n + m, k)."""
    from scipy import stats

    if not values.shape[1]:
        return None
    found: Floats = np.abs(weights @ stats.rankdata(values, axis=0)).max(1)
    return found


def _energy(places: Floats, weights: Floats) -> Floats | None:
    """Energy distance (r,) of two groups of places (n + m, k), axes in units of all slides."""
    if not places.shape[1]:
        return None
    scaled = places / np.maximum(places.std(0), 1e-9)  # of neither group, or it would tell them
    apart = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    found: Floats = -np.einsum("ri,ri->r", weights @ apart, weights)
    return found


def _p_values(statistic: Floats) -> Floats:
    """Share of regroupings whose statistic is at least that of each, (r,)."""
    ordered = np.sort(statistic)
    below = np.searchsorted(ordered, statistic - 1e-9 * (1 + np.abs(statistic)))
    return np.asarray(1 - below / len(statistic))


def _effects(
    names: list[str], on_axis: NDArray[np.bool_], first: Floats, second: Floats
) -> Iterator[tuple[str, float]]:
    apart = (np.median(second, 0) - np.median(first, 0)) / np.maximum(first.std(0, ddof=1), 1e-9)
    yield from ((name, float(apart[i])) for i, name in enumerate(names) if not on_axis[i])
    if on_axis.any():
        between = np.sqrt(first[:, on_axis].var(0, ddof=1).sum())
        means = second[:, on_axis].mean(0) - first[:, on_axis].mean(0)
        yield _EMBEDDING, float(np.linalg.norm(means) / max(between, 1e-9))

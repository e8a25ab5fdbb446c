"""Whether a batch of new slides comes from where the normal slides come from.

A promise about normal slides is a promise about slides like them. Whether a batch is like them is
asked slide by slide: each slide is a few numbers (where its scores lie, its stains, its sharpness),
and two groups of slides are compared by a permutation test. Fields would be thousands, and alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05
_RESAMPLES = 1999
_MOST = 200  # slides of a batch that are looked at: more change nothing, and take time


@dataclass(frozen=True)
class BatchShift:
    """How a batch of slides lies beside normal ones.

    Attributes
    ----------
    slides, normal
        Of how many each.
    p_value
        Of the test over all measures together.
    least_p_value
        The smallest that so few slides can give: above ``LEVEL`` nothing can be shown.
    effects
        By measure, the largest first: how much higher the batch lies, in standard deviations
        between normal slides.
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
        if self.least_p_value > LEVEL:
            return f"Too few slides to see whether the batch differs from the normal slides ({of})."
        if not self.differs:
            return (
                f"No shift of the batch is seen ({of}; permutation test by slide, p = "
                f"{self.p_value:.2g})."
            )
        name, effect = next(iter(self.effects.items()))
        way = "higher" if effect > 0 else "lower"
        return (
            f"The batch as a whole is unlike the normal slides ({of}; permutation test by slide, "
            f"p = {self.p_value:.2g}); most of all its {name} is {way}, by {abs(effect):.1f} "
            "standard deviations between normal slides. The promise about false regions does not "
            "hold for it, unless it is the lesions that differ; calibrate with normal slides of "
            "this batch."
        )


def batch_shift(
    normal: Mapping[str, ArrayLike], new: Mapping[str, ArrayLike], *, seed: int = 0
) -> BatchShift | None:
    """Compare slides by what was measured on each.

    The statistic is the largest difference of mean ranks over the measures, so that many measures
    are no more false alarms than one, and no outlier decides.

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
    from scipy import special, stats

    names = [name for name in normal if name in new]
    if not names:
        return None
    tables = [np.stack([np.asarray(side[k], float) for k in names], 1) for side in (normal, new)]
    first, second = (t[np.isfinite(t).all(1)] for t in tables)
    second = second[:_MOST]
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return None
    ranks = stats.rankdata(np.concatenate([first, second]), axis=0)

    def largest(one: NDArray[np.intp], other: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
        apart = ranks[other].mean(axis) - ranks[one].mean(axis)
        found: NDArray[np.float64] = np.abs(apart).max(-1)
        return found

    found = stats.permutation_test(
        (np.arange(n), np.arange(n, n + m)),
        # The measures are a further, last axis of what an index stands for.
        lambda one, other, axis: largest(one, other, axis if axis >= 0 else axis - 1),
        vectorized=True,
        n_resamples=_RESAMPLES,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    apart = np.median(second, 0) - np.median(first, 0)
    effects = apart / np.maximum(first.std(0, ddof=1), 1e-9)
    order = np.argsort(-np.abs(effects))
    return BatchShift(
        m,
        n,
        float(found.pvalue),
        1 / min(float(special.binom(n + m, n)), _RESAMPLES + 1),
        {names[i]: float(effects[i]) for i in order},
    )

"""Whether groups of animals differ: permutation tests with the animal as the unit.

One number for each animal and organ, made alike for all groups: the score of its most abnormal
slide, in which no reference has a part. Groups are permuted as whole animals, with all their
organs, so that organs that go together are no more false alarms than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, factorial, prod

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 9999
_AT_ONCE = 2_000_000  # numbers of the permutations under way: some hundred MB at most
_FEWEST = 3  # animals with a score, of which something can be said
_ROUNDING = 1e-9
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One group beside the controls, or the trend over all groups.

    Attributes
    ----------
    p_value
        By organ, one-sided: are its animals more abnormal? NaN where nothing can be said.
    over_organs
        The same, corrected for the number of organs (largest statistic over organs).
    least
        Smallest p-value that so few animals can give.
    """

    p_value: Mapping[str, float]
    over_organs: Mapping[str, float]
    least: float


def least_p(controls: int, treated: int) -> float:
    """Smallest p-value that so many animals of two groups can give."""
    return 1 / min(comb(controls + treated, treated), _RESAMPLES + 1)


def against_controls(
    scores: Mapping[str, Mapping[str, float]],
    controls: Sequence[str],
    treated: Sequence[str],
    *,
    seed: int = 0,
) -> Comparison:
    """Test whether treated animals score higher than control animals.

    Exact where all ways to part the animals can be tried.

    Parameters
    ----------
    scores
        By organ and animal; animals without a score are absent.
    controls, treated
        The animals of the two groups.
    seed
        Of the permutations, where they are too many.
    """
    animals = [*controls, *treated]
    ranks = _ranks(scores, animals)
    ways = comb(len(animals), len(treated)) if controls and treated else 0

    def higher(one: Floats, other: Floats, axis: int) -> Floats:
        return _mean(other, axis) - _mean(one, axis)

    parts = ranks[:, : len(controls)], ranks[:, len(controls) :]
    return _tested(scores, parts, higher, "independent", ways, seed)


def trend(
    scores: Mapping[str, Mapping[str, float]],
    groups: Sequence[Sequence[str]],
    *,
    seed: int = 0,
) -> Comparison:
    """Test whether scores rise from group to group, in the order given (the controls first)."""
    animals = [animal for group in groups for animal in group]
    dose = np.repeat(np.arange(len(groups), dtype=float), [len(group) for group in groups])
    ranks = _ranks(scores, animals)
    ways = factorial(len(animals)) // prod(factorial(len(group)) for group in groups)

    def rising(values: Floats, axis: int) -> Floats:
        del axis
        known = np.isfinite(values)
        own = dose - (dose * known).sum(-1, keepdims=True) / np.maximum(known.sum(-1), 1)[..., None]
        found: Floats = np.where(known, values * own, 0.0).sum(-1)
        return found

    return _tested(scores, (ranks,), rising, "pairings", ways, seed)


def _ranks(scores: Mapping[str, Mapping[str, float]], animals: Sequence[str]) -> Floats:
    """Ranks within each organ (organs, animals), of one spread for all; NaN without a score."""
    from scipy import stats

    table = np.array([[own.get(a, np.nan) for a in animals] for own in scores.values()], float)
    ranks = stats.rankdata(table, axis=1, nan_policy="omit")
    apart = ranks - _mean(ranks, 1)[:, None]
    out: Floats = apart / np.maximum(np.sqrt(_mean(apart**2, 1)), _ROUNDING)[:, None]
    return out


def _mean(values: Floats, axis: int) -> Floats:
    """Mean of what is known; 0, the mean of all, where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis)
    found: Floats = total / np.maximum(known.sum(axis), 1)
    return found


def _tested(
    scores: Mapping[str, Mapping[str, float]],
    parts: tuple[Floats, ...],
    statistic: Callable[..., Floats],
    kind: str,
    ways: int,
    seed: int,
) -> Comparison:
    from scipy import stats

    organs = list(scores)
    usable = min(part.shape[1] for part in parts) >= 2 and ways > 1
    if not usable:
        nothing = dict.fromkeys(organs, float("nan"))
        return Comparison(nothing, nothing, 1.0)
    found = stats.permutation_test(
        parts, statistic, permutation_type=kind, vectorized=True, n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // sum(part.size for part in parts)),
        alternative="greater", axis=-1, rng=np.random.default_rng(seed),
    )  # fmt: skip
    null = found.null_distribution
    highest = null.max(axis=1)
    added = 0 if len(null) < _RESAMPLES else 1  # the arrangement at hand is among all of them
    known = (np.isfinite(np.concatenate(parts, axis=1)).sum(1) >= _FEWEST).tolist()
    least = 1 / min(ways, _RESAMPLES + 1)
    over = [
        ((highest >= observed - _ROUNDING).sum() + added) / (len(null) + added)
        for observed in np.atleast_1d(found.statistic)
    ]
    pairs = zip(organs, np.atleast_1d(found.pvalue), over, known, strict=True)
    values = {o: (float(p), float(q)) if k else (float("nan"),) * 2 for o, p, q, k in pairs}
    return Comparison(
        {o: p for o, (p, _) in values.items()}, {o: q for o, (_, q) in values.items()}, least
    )

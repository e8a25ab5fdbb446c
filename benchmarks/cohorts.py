"""Simulated cohorts of normal slides, with lesions and shifts, for calibration.py and the tests.

Maps come from a formula, or from drawn slides that were scored (drawn_scores.npz). Scores are in
standard deviations within a slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from wsi_anomaly.calibration.operating_point import Reference
from wsi_anomaly.calibration.regions import region_thresholds, smooth_scores
from wsi_anomaly.calibration.risk import CaseRegions, Plan, highest_cap, location
from wsi_anomaly.calibration.shift import AXIS, batch_shift

DRAWN = Path(__file__).with_name("drawn_scores.npz")
PROMISE = 1.0
LESION_SD = 2.5
"""How far the 13 fields of a lesion (0.05 mm2) lie above what was there."""
TIMES = 20
"""Area of a large slide, in calibration slides."""
_SIDE = 25
_MOST = 60  # regions of a slide that are told apart

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """How slides differ.

    Attributes
    ----------
    drawn
        Whether their maps are those of drawn slides.
    effect
        Standard deviation of a slide's own shift; drawn slides have one of their own too.
    heavy
        Whether shifts, and the noise of the formula, have heavy tails (Student's t, 3 degrees).
    """

    drawn: bool
    effect: float
    heavy: bool

    @property
    def name(self) -> str:
        """For the table."""
        kind = "drawn" if self.drawn else "formula"
        return f"{kind}, effect {self.effect:g}{', heavy tails' if self.heavy else ''}"


KINDS = tuple(
    Kind(drawn, effect, heavy)
    for drawn in (False, True)
    for effect in (0.0, 0.5, 1.0)
    for heavy in (False, True)
)


@dataclass(frozen=True, eq=False)
class Pool:
    """Slides of one kind, from which cohorts are drawn without putting back.

    Attributes
    ----------
    regions
        (n, 60) thresholds at which the regions of each slide appear, descending, then -inf.
    parts
        (n, 60) the same of a twentieth of each slide (drawn slides; else empty).
    large
        (m, 60) the same of slides of twenty times the area (formula; else empty).
    lesion
        (n,) highest smoothed score in a lesion that is planted on each slide.
    lies, parts_lie, large_lie
        Where each of them lies as a whole, as the rule has it.
    median, high
        (n,) median of each slide's scores, 95th percentile of its smoothed ones.
    """

    regions: Floats
    parts: Floats
    large: Floats
    lesion: Floats
    lies: Floats
    parts_lie: Floats
    large_lie: Floats
    median: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.regions)


def formula(rng: np.random.Generator, side: int, kind: Kind) -> Floats:
    """Draw spatially correlated, right-skewed scores (side, side), scaled and shifted by slide."""
    texture = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.5) / 0.188
    fine = rng.normal(size=(side, side))
    if kind.heavy:
        fine = rng.standard_t(3, (side, side)) / np.sqrt(3)
    noise = np.sqrt(0.7) * fine + np.sqrt(0.3) * texture
    noise = np.where(noise > 0, noise * (1 + 0.3 * noise), noise)
    return noise * np.exp(0.3 * kind.effect * rng.normal()) + own_shift(rng, kind)


def own_shift(rng: np.random.Generator, kind: Kind) -> float:
    """Draw how far a slide lies from the others as a whole."""
    drawn = rng.standard_t(3) / np.sqrt(3) if kind.heavy else rng.normal()
    return float(kind.effect * drawn)


def drawn_maps() -> Floats:
    """Maps (n, side, side) of drawn slides, NaN outside the tissue, in units of their spread."""
    with np.load(DRAWN) as file:
        maps = np.asarray(file["scores"], np.float64)
    return (maps - np.nanmedian(maps)) / np.median(np.nanstd(maps, axis=(1, 2)))


def pool(kind: Kind, slides: int, *, seed: int = 0, large: int = 0) -> Pool:
    """Make slides of a kind, and `large` ones (drawn slides: parts of all, where it is not 0)."""
    rng = np.random.default_rng(seed)
    if kind.drawn:
        planes = [plane + own_shift(rng, kind) for plane in drawn_maps()[:slides]]
        return _pool(rng, planes, [_part(rng, plane) for plane in planes] if large else [], [])
    planes = [formula(rng, _SIDE, kind) for _ in range(slides)]
    side = round(_SIDE * np.sqrt(TIMES))
    return _pool(rng, planes, [], [formula(rng, side, kind) for _ in range(large)])


def _pool(
    rng: np.random.Generator,
    planes: Sequence[Floats],
    parts: Sequence[Floats],
    large: Sequence[Floats],
) -> Pool:
    return Pool(
        _all_regions(planes),
        _all_regions(parts),
        _all_regions(large),
        np.array([_lesion(rng, p) for p in planes]),
        *(np.array([location(_seen(p)[2]) for p in some]) for some in (planes, parts, large)),
        np.array([np.nanmedian(p) for p in planes]),
        np.array([np.quantile(_smoothed(p)[2], 0.95) for p in planes]),
    )


def _seen(plane: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    row, col = np.nonzero(np.isfinite(plane))
    return row, col, plane[row, col]


def _smoothed(plane: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    row, col, score = _seen(plane)
    return row, col, smooth_scores(row, col, score)


def _all_regions(planes: Sequence[Floats]) -> Floats:
    out = np.full((len(planes), _MOST), -np.inf)
    for line, plane in zip(out, planes, strict=True):
        found = region_thresholds(*_smoothed(plane), _MOST)
        line[: len(found)] = found
    return out


def _lesion(rng: np.random.Generator, plane: Floats) -> float:
    """Plant a lesion in the tissue and smooth; its highest score."""
    row, col, score = _seen(plane)
    middle = rng.integers(len(row))
    inside = np.hypot(row - row[middle], col - col[middle]) <= 2.0
    smoothed = smooth_scores(row, col, score + LESION_SD * np.std(score) * inside)
    return float(smoothed[inside].max())


def _part(rng: np.random.Generator, plane: Floats) -> Floats:
    """Cut a square of tissue, a twentieth of a slide's fields."""
    row, col, score = _seen(plane)
    side = max(1, round(np.sqrt(len(score) / TIMES)))
    corners = rng.permutation(len(row))[:60]
    windows = [plane[row[i] : row[i] + side, col[i] : col[i] + side] for i in corners]
    return max(windows, key=lambda window: int(np.isfinite(window).sum()))


def reference(regions: Floats, lies: Floats) -> Reference:
    """Slides as the rule takes them, each a case of area 1."""
    cases = [
        CaseRegions(line[np.isfinite(line)], 1.0, np.full(int(np.isfinite(line).sum()), at))
        for line, at in zip(regions, lies, strict=True)
    ]
    return Reference(cases, "", "normal case", -np.inf, concurrent=False)


def counted(regions: Floats, thresholds: ArrayLike) -> NDArray[np.int64]:
    """Regions of each slide above a threshold, or above its own (n,)."""
    found: NDArray[np.int64] = (regions > np.reshape(thresholds, (-1, 1))).sum(1)
    return found


@dataclass(frozen=True)
class Found:
    """What a cohort led to.

    Attributes
    ----------
    flags
        Whether a threshold was given; if not, nothing is flagged.
    capped, plain, any_flag
        Mean regions on new normal slides, with and without the cap; share of slides with any.
    expected, any_expected
        What the program says of the first and the last.
    power
        Share of lesions that are touched.
    """

    flags: bool
    capped: float
    plain: float
    any_flag: float
    expected: float
    any_expected: float
    power: float


NOTHING = Found(False, 0.0, 0.0, 0.0, np.nan, np.nan, 0.0)


def cohort(slides: Pool, n: int, rng: np.random.Generator, *, large: bool = False) -> Found:
    """Calibrate on `n` slides, and look at all others."""
    order = rng.permutation(len(slides))
    chosen, others = order[:n], order[n:]
    area = float(TIMES) if large else 1.0
    known, lie = slides.regions[chosen], slides.lies[chosen]
    new, new_lie = slides.regions[others], slides.lies[others]
    if large and len(slides.large):
        new, new_lie = slides.large, slides.large_lie
    elif large:
        known, lie = slides.parts[chosen], slides.parts_lie[chosen]
    plan = Plan.of([1.0] * n, PROMISE, area)
    if plan is None:
        return NOTHING
    rule = reference(known, lie).rule(plan, PROMISE, area)
    counts = counted(new, [rule.threshold(at) for at in new_lie])
    touched = slides.lesion[others] > [rule.threshold(at) for at in slides.lies[others]]
    return Found(
        True,
        float(np.minimum(counts, plan.cap).mean()),
        float(counts.mean()),
        float((counts > 0).mean()),
        rule.estimates.expected,
        rule.estimates.any_flag,
        float(touched.mean()),
    )


@dataclass(frozen=True)
class Shifted:
    """What a batch of new slides led to: whether it was warned of, and its capped mean."""

    warned: bool
    capped: float


def batch(
    slides: Pool, n: int, rng: np.random.Generator, *, shift: float, new: int = 20
) -> Shifted:
    """Calibrate on `n` slides; look at `new` others whose scores all lie higher by `shift`.

    Further measures and embeddings, that say nothing, are compared too.
    """
    order = rng.permutation(len(slides))
    chosen, others = order[:n], order[n : n + new]
    plan = Plan.of([1.0] * n, PROMISE, 1.0)
    assert plan is not None
    rule = reference(slides.regions[chosen], slides.lies[chosen]).rule(plan, PROMISE, 1.0)
    own = [rule.threshold(at + shift) for at in slides.lies[others]]
    counts = counted(slides.regions[others] + shift, own)
    measured = [
        {
            "median score": slides.median[part] + by,
            **{f"{kind}{i}": rng.normal(size=len(part)) for kind in ("", AXIS) for i in range(6)},
        }
        for part, by in ((chosen, 0.0), (others, shift))
    ]
    seen = batch_shift(*measured, seed=int(rng.integers(2**31)))
    assert seen is not None
    return Shifted(seen.differs, float(np.minimum(counts, plan.cap).mean()))


def knowing(slides: Pool) -> float:
    """Power of what knows the truth: the better threshold, raw or from where slides lie."""
    return max(_power_knowing(slides, at) for at in (np.zeros(len(slides)), slides.lies))


def _power_knowing(slides: Pool, start: Floats) -> float:
    """Power of the lowest threshold, from `start` up, that keeps the promise on the whole pool."""
    cap, regions = highest_cap(PROMISE), slides.regions - start[:, None]
    values = np.unique(regions[np.isfinite(regions)])
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if np.minimum(counted(regions, values[middle]), cap).mean() <= PROMISE:
            high = middle
        else:
            low = middle + 1
    return float((slides.lesion - start > values[low]).mean())

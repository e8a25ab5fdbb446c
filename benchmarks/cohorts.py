"""Simulated cohorts of normal slides, with lesions and shifts, for calibration.py and the tests.

Maps come from a formula, or from drawn slides that were scored (drawn_scores.npz). Scores are in
standard deviations within a slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_anomaly.calibration.regions import region_thresholds, smooth_scores
from wsi_anomaly.calibration.risk import CaseRegions, Plan, choose_threshold, highest_cap
from wsi_anomaly.calibration.shift import batch_shift

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
    median, high
        (n,) median of each slide's scores, 95th percentile of its smoothed ones.
    """

    regions: Floats
    parts: Floats
    large: Floats
    lesion: Floats
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
    none = np.empty((0, _MOST))
    if kind.drawn:
        planes = [plane + own_shift(rng, kind) for plane in drawn_maps()[:slides]]
        parts = _all_regions([_part(rng, plane) for plane in planes]) if large else none
        return _pool(rng, planes, parts, none)
    planes = [formula(rng, _SIDE, kind) for _ in range(slides)]
    side = round(_SIDE * np.sqrt(TIMES))
    wide = _all_regions([formula(rng, side, kind) for _ in range(large)]) if large else none
    return _pool(rng, planes, none, wide)


def _pool(rng: np.random.Generator, planes: Sequence[Floats], parts: Floats, large: Floats) -> Pool:
    return Pool(
        _all_regions(planes),
        parts,
        large,
        np.array([_lesion(rng, p) for p in planes]),
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


def cases_of(regions: Floats) -> list[CaseRegions]:
    """Slides as the rule takes them, each of area 1."""
    return [CaseRegions(line[np.isfinite(line)], 1.0) for line in regions]


def counted(regions: Floats, threshold: float) -> NDArray[np.int64]:
    """Regions of each slide above a threshold, (n,)."""
    found: NDArray[np.int64] = (regions > threshold).sum(1)
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
    plan = Plan.of([1.0] * n, PROMISE, area)
    if plan is None:
        return NOTHING
    known, new = slides.regions[chosen], slides.regions[others]
    if large and len(slides.large):
        new = slides.large
    elif large:
        known = slides.parts[chosen]
    found = choose_threshold(cases_of(known), plan, PROMISE, area)
    counts = counted(new, found.threshold)
    return Found(
        True,
        float(np.minimum(counts, plan.cap).mean()),
        float(counts.mean()),
        float((counts > 0).mean()),
        found.expected,
        found.any_flag,
        float((slides.lesion[others] > found.threshold).mean()),
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

    Three further measures, that say nothing, are compared too, as sharpness and stains are.
    """
    order = rng.permutation(len(slides))
    chosen, others = order[:n], order[n : n + new]
    plan = Plan.of([1.0] * n, PROMISE, 1.0)
    assert plan is not None
    found = choose_threshold(cases_of(slides.regions[chosen]), plan, PROMISE, 1.0)
    counts = counted(slides.regions[others], found.threshold - shift)
    measured = [
        {
            "median score": slides.median[part] + by,
            **{f"{i}": rng.normal(size=len(part)) for i in range(3)},
        }
        for part, by in ((chosen, 0.0), (others, shift))
    ]
    seen = batch_shift(*measured, seed=int(rng.integers(2**31)))
    assert seen is not None
    return Shifted(seen.differs, float(np.minimum(counts, plan.cap).mean()))


def knowing(slides: Pool) -> float:
    """Lowest threshold that keeps the promise on the whole pool: what knows the truth takes."""
    cap = highest_cap(PROMISE)
    values = np.unique(slides.regions[np.isfinite(slides.regions)])
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if np.minimum(counted(slides.regions, values[middle]), cap).mean() <= PROMISE:
            high = middle
        else:
            low = middle + 1
    return float(values[low])

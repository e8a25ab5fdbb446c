"""What the raw scores of a slide mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import (
    MIN_CASES,
    Calibration,
    FalseDiscovery,
    OperatingPoint,
    benjamini_hochberg,
    location,
    smooth_scores,
)
from wsi_anomaly.scoring.regions import AnomalousRegion, merge_regions, smoothing_radius
from wsi_anomaly.tiles import Fields, Status

TOP_SHARE = 0.10
_MUCH_NOT_ASSESSED = 0.2
_UNLIKE_ALL = (
    "The slide as a whole scores so far above every normal slide that it cannot be compared: "
    "another stain, scanner or organ than the model has learned, or a change that is everywhere; "
    "look at it yourself, or calibrate the model with normal slides of its kind."
)
_TOO_FAR = 2.0  # above all normal slides, in units of what is usual among them

Floats = NDArray[np.float64]
Verdict = Literal[
    "not assessed",
    "cannot be compared",
    "no flags possible",
    "flagged",
    "all taken away",
    "nothing flagged",
]


@dataclass(frozen=True, eq=False)
class Interpretation:
    """What the raw scores of a slide mean against normal tissue.

    Attributes
    ----------
    smoothed
        (N,) float32 mean of each field and its neighbours; what is flagged and ranked.
    percentile, z, p_value
        (N,) float64 or None without calibration (p-values also for a slide the model has seen), of
        what is flagged: the smoothed score against smoothed normal maps; with `fdr` the raw one.
    operating_point
        Threshold on `smoothed`, or none with the reason.
    fdr
        What Benjamini-Hochberg did, if it was asked for: it then takes the threshold's place.
    flagged
        (N,) bool.
    regions
        Merged flagged fields, highest first.
    slide_score
        Maximum of `smoothed`: what slides are ranked by. NaN when nothing was assessed.
    slide_percentile
        Percentage of the normal slides that have no higher one; None without.
    top_mean
        Mean of the highest tenth of raw scores.
    color_range
        Raw scores at the ends of the colours.
    color_range_fixed
        Whether it comes from normal slides. If not, colours do not compare between slides.
    warnings
        Sentences for the reader.
    notices
        Sentences for the reader about what is as it was asked for.
    incomparable
        Why the slide cannot be compared with normal slides; empty if it can.
    likes
        What each region is like among the known findings; empty where none are known.
    taken_away
        Regions that are no flags, and not normal either, each with the finding that it is like.
    lies_high
        Whether most of its tissue scores higher than that of any normal slide.
    """

    smoothed: NDArray[np.float32]
    percentile: Floats | None
    z: Floats | None
    p_value: Floats | None
    operating_point: OperatingPoint
    fdr: FalseDiscovery | None
    flagged: NDArray[np.bool_]
    regions: list[AnomalousRegion]
    slide_score: float
    slide_percentile: float | None
    top_mean: float
    color_range: tuple[float, float]
    color_range_fixed: bool
    warnings: list[str]
    incomparable: tuple[str, ...] = ()
    likes: tuple[str, ...] = ()
    taken_away: tuple[tuple[AnomalousRegion, str], ...] = ()
    lies_high: bool = False
    notices: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The result in a few words, for every file and list."""
        if not np.isfinite(self.slide_score):
            return "not assessed"
        if self.incomparable:
            return "cannot be compared"
        if not self.can_flag:
            return "no flags possible"
        if not self.regions and self.taken_away:
            return "all taken away"
        return "flagged" if self.regions else "nothing flagged"

    @property
    def can_flag(self) -> bool:
        """Whether anything could have been flagged; if not, no flag does not mean normal."""
        return self.operating_point.threshold is not None or self.fdr is not None


def interpret(
    fields: Fields,
    score: NDArray[np.float32],
    calibration: Calibration | None,
    *,
    mpp: tuple[float, float],
    seen: str | None = None,
    false_regions: float = 1.0,
    fdr: float | None = None,
    uncalibrated: str | None = None,
    domain_warnings: Sequence[str] = (),
    incomparable: Sequence[str] = (),
) -> Interpretation:
    """Say what raw scores mean, and only what may be said (facts on calibration: docs/method.md).

    Parameters
    ----------
    fields, score
        The map: N fields and their raw scores (N,), NaN where not assessed.
    calibration
        Normal reference, or None.
    mpp
        Micrometres per level-0 pixel.
    seen
        Part of training that the slide was in; it then gets neither p-values nor flags.
    false_regions
        The promise for a normal slide.
    fdr
        Flag single fields by Benjamini-Hochberg at this q instead.
    uncalibrated
        What the reader must know where there is no calibration, in place of the usual sentences.
    domain_warnings
        In what the slide differs from those that the model has learned from.
    incomparable
        Why it cannot be compared with normal slides at all; it then gets no p-values and no flags.
    """
    known = np.isfinite(score)
    smoothed = smooth_scores(fields.row, fields.col, score, radius=smoothing_radius(fields))
    highest = float(np.nanmax(smoothed)) if known.any() else float("nan")
    top = np.sort(score[known])[-max(1, int(np.ceil(TOP_SHARE * known.sum()))) :]
    incomparable = (*incomparable, *_far_above(calibration, score[known], seen))
    unlike_new = seen is not None or bool(incomparable)
    # What is flagged, and what says how unusual a field is, are one figure against its like.
    judged = smoothed if fdr is None else score
    normal = calibration if calibration is None or fdr is not None else calibration.of_smoothed
    p_value = None if normal is None or unlike_new else normal.p_value(judged)
    field_mm2 = (fields.field_um / 1000) ** 2
    lies = location(score[known]) if known.any() else -np.inf
    point = _operating_point(
        calibration, seen, false_regions, incomparable, uncalibrated=uncalibrated,
        area=(known.sum() * fields.area_mm2(mpp) / field_mm2, field_mm2), lies=lies,
    )  # fmt: skip
    discovery = None
    if fdr is not None and calibration is not None and p_value is not None:
        flagged, discovery = benjamini_hochberg(p_value, fdr, calibration.p_floor)
        point = OperatingPoint(None, false_regions, None, discovery.sentence)
    else:
        threshold = np.inf if point.threshold is None else point.threshold
        flagged = known & (smoothed > threshold)
    return Interpretation(
        smoothed=smoothed,
        percentile=None if normal is None else normal.percentile(judged),
        z=None if normal is None else normal.z(judged),
        p_value=p_value,
        operating_point=point,
        fdr=discovery,
        flagged=flagged,
        regions=merge_regions(fields, score, smoothed, flagged, mpp),
        slide_score=highest,
        slide_percentile=None
        if calibration is None or not known.any()
        else calibration.slide_percentile(highest),
        top_mean=float(top.mean()) if known.any() else float("nan"),
        color_range=_color_range(None if incomparable else calibration, score[known]),
        color_range_fixed=calibration is not None and not incomparable,
        warnings=_warnings(fields, score, calibration, seen, domain_warnings, uncalibrated),
        incomparable=incomparable,
        lies_high=calibration is not None and lies > calibration.highest_location,
    )


def _operating_point(
    calibration: Calibration | None,
    seen: str | None,
    false_regions: float,
    incomparable: Sequence[str],
    *,
    area: tuple[float, float],
    lies: float,
    uncalibrated: str | None,
) -> OperatingPoint:
    """Threshold for a slide of so many fields, each of so many mm2, that lies so high."""
    if calibration is None:
        return OperatingPoint(
            None,
            false_regions,
            None,
            uncalibrated
            or "No field is flagged: the model was trained on too few cases to keep some apart for "
            "calibration.",
        )
    point = calibration.operating_point(false_regions, area[0], field_mm2=area[1], location=lies)
    if incomparable:
        return replace(
            point, threshold=None, reason=f"No field is flagged: {_lower(incomparable[0])}"
        )
    if seen is not None and point.threshold is not None:
        return replace(
            point, threshold=None, reason="No field is flagged: the model has seen this slide."
        )
    return point


def _color_range(
    calibration: Calibration | None, known: NDArray[np.float32]
) -> tuple[float, float]:
    return own_color_range(known) if calibration is None else calibration.color_range


def own_color_range(known: NDArray[np.floating]) -> tuple[float, float]:
    """Scores at the ends of the colours where a slide is shown for itself; `known` is (n,)."""
    if not len(known):
        return 0.0, 1.0
    low, high = (float(v) for v in np.quantile(known, (0.75, 0.999)))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _warnings(
    fields: Fields,
    score: NDArray[np.float32],
    calibration: Calibration | None,
    seen: str | None,
    domain_warnings: Sequence[str],
    uncalibrated: str | None,
) -> list[str]:
    known = np.isfinite(score)
    asked = fields.status != Status.MASKED  # what a mask leaves out has a warning of its own
    out = []
    if seen is not None:
        part = {"train": "training", "validation": "validation"}.get(seen, seen)
        out.append(
            f"This slide was part of the model's {part}: its scores show that the program works, "
            "not what the model makes of a new slide; it gets no p-values and no flags."
        )
    if not known.any():
        out.append("Nothing on this slide could be assessed; look at the slide itself.")
    elif (share := 1 - known[asked].mean()) > _MUCH_NOT_ASSESSED:
        out.append(
            f"{share:.0%} of the tissue could not be assessed; silence there does not mean normal."
        )
    out += domain_warnings
    if calibration is None:
        out.append(
            uncalibrated
            or "The model has no calibration slides: raw scores only, with colours that do not "
            "compare between slides. Train it on more cases, or calibrate it."
        )
        return out
    if calibration.n_cases < MIN_CASES:
        out.append(
            f"The reference is {calibration.name}, at least {MIN_CASES} are needed for p-values "
            "and flags; percentiles are rough."
        )
    if known.any() and seen is None and _above_normal(calibration, score[known]) > 1:
        out.append(
            "The slide as a whole scores far above every concurrent control: a change that is "
            "everywhere, or another stain or scanner; the map shows where it is strongest, not "
            "where it ends."
            if calibration.concurrent
            else "The slide as a whole scores far above every normal calibration slide: its stain, "
            "scanner or organ may differ from what the model has learned, or nearly all of it is "
            "changed; flags show only what stands out from the rest of it."
        )
    return out


def _above_normal(calibration: Calibration, known: NDArray[np.float32]) -> float:
    """How far the median lies above that of every normal slide, in units of what is usual."""
    normal = np.asarray([np.median(s.score) for s in calibration.slides])
    reach = max(float(np.ptp(normal)), calibration.center_and_scale[1])
    return float((np.median(known) - normal.max()) / reach)


def _far_above(
    calibration: Calibration | None, known: NDArray[np.float32], seen: str | None
) -> list[str]:
    """Say that a slide is unlike all normal ones; in a study that may be what is looked for."""
    if calibration is None or calibration.concurrent or seen is not None or not len(known):
        return []
    if _above_normal(calibration, known) <= _TOO_FAR:
        return []
    return [_UNLIKE_ALL]


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]

"""From slides with their truth to every figure of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.evaluation.froc import Froc, detections, froc
from wsi_anomaly.evaluation.labels import ABNORMAL, IGNORED, NORMAL
from wsi_anomaly.evaluation.metrics import (
    SPECIFICITIES,
    Estimate,
    Floats,
    Performance,
    judged,
    macro_roc_auc,
    performance,
    roc_auc,
    roc_auc_difference,
)
from wsi_anomaly.evaluation.results import ScoredSlide
from wsi_anomaly.evaluation.truth import merged_lesions
from wsi_anomaly.scoring.interpretation import TOP_SHARE

COLOUR = "mean colour"
"""Name of the control among the methods."""
LESIONS_APART_UM = 75.0
"""Lesions nearer to one another count as one, as at Camelyon16."""
SMALLEST_LESION_UM = 200.0
"""Smaller ones, isolated cells at Camelyon16, are neither found nor missed."""


@dataclass(frozen=True, eq=False)
class JudgedSlide:
    """Scores of a slide beside the truth.

    Attributes
    ----------
    name, case
        The slide, and whose it is: the same for slides that are left out together.
    labels
        (N,) 1, 0 or -1.
    raw
        Scores by method, (N,).
    smoothed
        The same, each averaged over 3 x 3 fields; None without a map.
    abnormal
        Whether the slide is; None when that is not known.
    lesions
        Outlines of all its lesions, level-0 pixels; None when they are not known.
    table
        Its fields; None without a map.
    """

    name: str
    case: str
    labels: NDArray[np.int8]
    raw: Mapping[str, NDArray[np.floating]]
    smoothed: Mapping[str, NDArray[np.floating]] | None = None
    abnormal: bool | None = None
    lesions: Sequence[Polygon | MultiPolygon] | None = None
    table: ScoredSlide | None = None


@dataclass(frozen=True)
class SlideRow:
    """One slide of the table; NaN where something cannot be said."""

    name: str
    case: str
    abnormal: bool | None
    abnormal_fields: int
    normal_fields: int
    roc_auc: float
    highest: float
    top_mean: float
    lesions: int | None


@dataclass(frozen=True, eq=False)
class Figures:
    """Every figure of an evaluation.

    Attributes
    ----------
    method
        The method that the slides, the FROC and the pictures are about.
    raw, smoothed
        Figures of fields by method, with ``mean colour`` where it is known; `smoothed` is empty
        without maps. Both are empty when fields of only one class are known.
    above_colour
        ROC AUC of the method minus that of mean colour, by "raw" and "smoothed".
    macro
        Mean ROC AUC within slides, raw and smoothed, and the number of slides it is over.
    slides
        Figures of slides by what stands for a slide; empty when slides of only one class are known.
    froc
        None when lesions are not known.
    small_lesions
        Lesions too small to be counted.
    rows
        A line for each slide.
    """

    method: str
    raw: Mapping[str, Performance]
    smoothed: Mapping[str, Performance]
    above_colour: Mapping[str, Estimate]
    macro: Mapping[str, tuple[Estimate, int]]
    slides: Mapping[str, Performance]
    froc: Froc | None
    small_lesions: int
    rows: tuple[SlideRow, ...]


def compute(
    slides: Sequence[JudgedSlide],
    method: str,
    *,
    specificities: Sequence[float] = SPECIFICITIES,
) -> Figures:
    """Compute every figure that the truth allows.

    Raises
    ------
    WsiAnomalyError
        Neither fields nor slides of both classes are known.
    """
    labels = np.concatenate([slide.labels for slide in slides])
    slide_of = np.repeat(np.arange(len(slides)), [len(slide.labels) for slide in slides])
    case_of = np.array([slide.case for slide in slides])

    def pooled(name: str) -> dict[str, NDArray[np.floating]]:
        """Scores of all slides: raw and, with maps, smoothed."""
        out = {"raw": np.concatenate([slide.raw[name] for slide in slides])}
        if (maps := _maps(slides)) is not None:
            out["smoothed"] = np.concatenate([m[name] for m in maps])
        return out

    own = pooled(method)["raw"]
    counted = labels[judged(labels, own)]
    both = bool((counted == ABNORMAL).any() and (counted == NORMAL).any())
    rows = tuple(_row(slide, method) for slide in slides)
    by_slide = _slide_figures(rows, specificities)
    if not both and not by_slide:
        raise WsiAnomalyError(_one_class(slides, counted))
    methods = [name for name in slides[0].raw if all(name in slide.raw for slide in slides)]
    tables: dict[str, dict[str, Performance]] = {"raw": {}, "smoothed": {}}
    macro: dict[str, tuple[Estimate, int]] = {}
    above: dict[str, Estimate] = {}
    if both:
        group = case_of[slide_of]
        for name in methods:
            for kind, scores in pooled(name).items():
                tables[kind][name] = performance(labels, scores, group, specificities=specificities)
        for kind, scores in pooled(method).items():
            macro[kind] = macro_roc_auc(labels, scores, slide_of, group)
            if COLOUR in methods:
                control = pooled(COLOUR)[kind]
                above[kind] = roc_auc_difference(labels, scores, control, group)
    found, small = _froc(slides, method)
    return Figures(
        method, tables["raw"], tables["smoothed"], above, macro, by_slide, found, small, rows
    )


def _maps(slides: Sequence[JudgedSlide]) -> list[Mapping[str, NDArray[np.floating]]] | None:
    maps = [slide.smoothed for slide in slides if slide.smoothed is not None]
    return maps if len(maps) == len(slides) else None


def _one_class(slides: Sequence[JudgedSlide], counted: NDArray[np.int8]) -> str:
    fields = f"All {len(counted)} fields" if len(counted) else "No field is known, and all slides"
    kind = "abnormal" if (counted == ABNORMAL).any() else "normal"
    if not len(counted):
        known = {slide.abnormal for slide in slides} - {None}
        kind = "abnormal" if known == {True} else "normal"
    return (
        f"{fields} whose truth is known are {kind}: there is nothing to tell apart; add slides or "
        "labels of the other class."
    )


def _row(slide: JudgedSlide, method: str) -> SlideRow:
    raw = np.asarray(slide.raw[method], np.float64)
    known = np.sort(raw[np.isfinite(raw)])
    shown = raw if slide.smoothed is None else np.asarray(slide.smoothed[method], np.float64)
    top = known[-max(1, int(np.ceil(TOP_SHARE * len(known)))) :] if len(known) else known
    counted = slide.labels[judged(slide.labels, raw)]
    return SlideRow(
        name=slide.name,
        case=slide.case,
        abnormal=slide.abnormal,
        abnormal_fields=int((counted == ABNORMAL).sum()),
        normal_fields=int((counted == NORMAL).sum()),
        roc_auc=roc_auc(slide.labels, raw),
        highest=float(np.nanmax(shown)) if len(known) else float("nan"),
        top_mean=float(top.mean()) if len(known) else float("nan"),
        lesions=None if slide.lesions is None else len(slide.lesions),
    )


def _slide_figures(
    rows: Sequence[SlideRow], specificities: Sequence[float]
) -> dict[str, Performance]:
    labels = np.array([IGNORED if r.abnormal is None else int(r.abnormal) for r in rows])
    if not {ABNORMAL, NORMAL} <= set(labels.tolist()):
        return {}
    cases = [row.case for row in rows]
    return {
        name: performance(labels, values, cases, specificities=specificities)
        for name, values in (
            ("highest region", [row.highest for row in rows]),
            ("mean of the top tenth", [row.top_mean for row in rows]),
        )
    }


def _froc(slides: Sequence[JudgedSlide], method: str) -> tuple[Froc | None, int]:
    known = [s for s in slides if s.lesions is not None and s.table is not None and s.smoothed]
    hits: list[Floats] = []
    false: list[Floats] = []
    small = 0
    for slide in known:
        found, wrong, too_small = hits_and_misses(slide, method)
        hits.append(found)
        false.append(wrong)
        small += too_small
    if not sum(map(len, hits)):
        return None, small
    places = [np.repeat(np.arange(len(known)), list(map(len, part))) for part in (hits, false)]
    cases = [slide.case for slide in known]
    return froc(np.concatenate(hits), places[0], np.concatenate(false), places[1], cases), small


def hits_and_misses(slide: JudgedSlide, method: str) -> tuple[Floats, Floats, int]:
    """Find the detections of one slide: scores of its lesions, scores of what hits none.

    A detection is a local maximum of the smoothed map; it hits each lesion that its field touches.

    Returns
    -------
    lesions
        (L,) highest score that hits each lesion, NaN where none does.
    false
        (F,) scores of detections that touch no lesion of any size.
    small
        Lesions too small to be counted.
    """
    table = slide.table
    assert table is not None
    assert slide.smoothed is not None
    score = np.asarray(slide.smoothed[method], np.float64)
    reach = max(2, 2 * round(table.field[0] / table.stride[0]))
    found = np.flatnonzero(detections(table.row, table.col, score, radius=reach))
    x, y = table.coords[found].T
    fields = shapely.box(x, y, x + table.field[0], y + table.field[1])
    um = float(np.sqrt(table.mpp[0] * table.mpp[1]))
    false = np.ones(len(found), bool)
    scores, small = [], 0
    for lesion in merged_lesions(slide.lesions or (), table.mpp, LESIONS_APART_UM):
        hit = shapely.intersects(lesion, fields)
        false &= ~hit
        if 2 * shapely.minimum_bounding_radius(lesion) * um < SMALLEST_LESION_UM:
            small += 1
        else:
            scores.append(float(score[found[hit]].max()) if hit.any() else float("nan"))
    return np.array(scores, np.float64), score[found[false]], small

"""Scored slides against their known outlines: what a person with a worklist would find.

Reads what ``score`` wrote, not what it computed on the way: the figures are those of the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_anomaly.annotations import Outline, fractions_inside
from wsi_anomaly.calibration import label_regions
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.evaluation import (
    ColourControl,
    Performance,
    ScoredSlide,
    label_fields,
    mean_colours,
    performance,
)
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Preprocessing, TileSet, plan_fields, read_fields


def smoothed(
    slides: Sequence[ScoredSlide], scores: Mapping[str, NDArray[np.floating]] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Scores by slide name, each the mean over its 3 x 3 fields: what flags are made of.

    `scores` are a control's, smoothed the same way; the primary method's own when None.
    """
    return {
        slide.name: slide.smoothed(
            slide.scores[slide.primary] if scores is None else scores[slide.name]
        )
        for slide in slides
    }


@dataclass(frozen=True)
class Finding:
    """What the flags of several slides found.

    Attributes
    ----------
    lesions, found
        Lesions of at least the area asked for, and those that a flagged field touches.
    false_regions
        By slide: flagged regions that touch no lesion of any size.
    """

    lesions: int
    found: int
    false_regions: Mapping[str, int]


def labels_of(slide: ScoredSlide, outlines: Iterable[Outline]) -> NDArray[np.int8]:
    """Label of each field: 1 abnormal, 0 normal, -1 on the border."""
    return label_fields(fractions_inside(outlines, slide.coords, slide.field))


def tile_performance(
    slides: Sequence[ScoredSlide],
    outlines: Mapping[str, Sequence[Outline]],
    scores: Mapping[str, NDArray[np.floating]] | None = None,
    *,
    method: str | None = None,
) -> Performance:
    """Figures of the fields of several slides, with intervals over slides.

    Parameters
    ----------
    slides
        All of them, those without a lesion too.
    outlines
        Lesions by slide name.
    scores
        Other scores by slide name (a control); the method's own when None.
    method
        Which method's scores; the primary one when None.

    Notes
    -----
    Fields that the method did not assess count for no score, the control included.
    """
    labels, values, group = [], [], []
    for i, slide in enumerate(slides):
        own = slide.scores[method or slide.primary]
        labels.append(labels_of(slide, outlines.get(slide.name, ())))
        shown = own if scores is None else scores[slide.name]
        values.append(np.where(np.isfinite(own), shown, np.nan))
        group.append(np.full(len(own), i))
    return performance(*map(np.concatenate, (labels, values, group)))


def what_was_found(
    slides: Sequence[ScoredSlide],
    outlines: Mapping[str, Sequence[Outline]],
    *,
    at_least_mm2: float = 0.0,
) -> Finding:
    """Lesions that flagged regions touch, and flagged regions that touch none."""
    lesions = found = 0
    false: dict[str, int] = {}
    for slide in slides:
        own = [outline.polygon for outline in outlines.get(slide.name, ())]
        large = [p for p in own if p.area * slide.mpp[0] * slide.mpp[1] / 1e6 >= at_least_mm2]
        x, y = slide.coords[slide.flagged].T
        fields = shapely.box(x, y, x + slide.field[0], y + slide.field[1])
        lesions += len(large)
        found += sum(bool(shapely.intersects(polygon, fields).any()) for polygon in large)
        regions, count = label_regions(slide.row, slide.col, slide.flagged)
        touching = np.zeros(len(fields), bool)
        for polygon in own:
            touching |= shapely.intersects(polygon, fields)
        true = np.unique(regions[slide.flagged][touching])
        false[slide.name] = count - len(true)
    return Finding(lesions, found, false)


def colour_scores(
    slide: ScoredSlide,
    path: str | Path,
    control: ColourControl,
    preprocessing: Preprocessing,
    *,
    magnification: int,
    tile_size: int,
) -> NDArray[np.float64]:
    """Score the very pixels that the detector saw by their colour, (N,); NaN if unreadable."""
    with open_slide(path) as opened:
        tissue = find_tissue(opened)
        # The slide's whole grid, of which the table holds the fields that were looked at.
        field_um = tile_size * mpp_of(magnification)
        fields = plan_fields(opened, tissue, field_um=field_um, min_tissue=0.0)
        place = {(int(x), int(y)): i for i, (x, y) in enumerate(fields.coords)}
        chosen = np.array([place[int(x), int(y)] for x, y in slide.coords], np.intp)
        scores = np.full(len(chosen), np.nan)
        for indices, images, _status in read_fields(
            opened,
            fields.take(chosen),
            magnification=magnification,
            tile_size=tile_size,
            preprocess=preprocessing.for_slide(opened, tissue),
        ):
            scores[indices] = control.score_samples(mean_colours(images))
    return scores


def colour_control(tiles: TileSet, *, most: int = 20_000) -> ColourControl:
    """Fit a colour control that has seen normal tiles, at most `most` of them."""
    step = max(1, len(tiles) // most)
    return ColourControl().fit(mean_colours(tiles.batch(np.arange(0, len(tiles), step))))

"""What is read from the slides themselves: mean colours, and pictures of fields."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.evaluation.colour import ColourControl
from wsi_anomaly.evaluation.figures import JudgedSlide
from wsi_anomaly.evaluation.labels import ABNORMAL, NORMAL
from wsi_anomaly.evaluation.results import ScoredSlide
from wsi_anomaly.reports.pictures import data_uri
from wsi_anomaly.slides import ReadError, Slide

SHOWN = 8
"""Pictures in each row of the report."""
_PICTURE_PX = 160
_COLOUR_PX = 8  # samples along the side of a field: enough for a mean
_MOST_PIXELS = 60_000_000
_STRIP_PX = 256
_LEAST_NORMALS = 10


def field_colours(slide: Slide, table: ScoredSlide, field_um: float) -> NDArray[np.float64]:
    """Mean colour of every field, (N, 3), from a coarse picture of the slide; NaN if unreadable."""
    if not len(table.coords):
        return np.zeros((0, 3))
    mpp = field_um / _COLOUR_PX
    corner, end = table.coords.min(axis=0), table.coords.max(axis=0) + table.field
    size = [int(np.ceil(n * s / mpp)) for n, s in zip(end - corner, table.mpp, strict=True)]
    if size[0] * size[1] > _MOST_PIXELS:
        return np.full((len(table.coords), 3), np.nan)
    image = np.zeros((size[1], size[0], 3), np.uint8)
    read = np.zeros(size[1], bool)
    for top in range(0, size[1], _STRIP_PX):
        rows = min(_STRIP_PX, size[1] - top)
        with contextlib.suppress(ReadError):  # only its own rows are lost
            y = float(corner[1]) + top * mpp / table.mpp[1]
            image[top : top + rows] = slide.read(float(corner[0]), y, (size[0], rows), mpp).rgb
            read[top : top + rows] = True
    first = np.rint((table.coords - corner) * table.mpp / mpp).astype(np.int64)
    total = np.zeros((len(first), 3))
    for dy in range(_COLOUR_PX):
        for dx in range(_COLOUR_PX):
            x = np.minimum(first[:, 0] + dx, size[0] - 1)
            y = np.minimum(first[:, 1] + dy, size[1] - 1)
            total += np.where(read[y, None], image[y, x], np.nan)
    return total / _COLOUR_PX**2


def colour_scores(
    slides: Sequence[JudgedSlide], method: str, colours: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]] | None:
    """Score every field by its mean colour, against normal fields of the other cases' slides.

    Parameters
    ----------
    slides
        All of them.
    method
        Fields that it did not assess get no score.
    colours
        (N, 3) by slide name.

    Returns
    -------
    (N,) by slide name; None where a slide has no colours or no other case has normal fields.
    """
    if any(slide.name not in colours for slide in slides):
        return None
    out: dict[str, NDArray[np.float64]] = {}
    for slide in slides:
        normal = [
            colours[other.name][(other.labels == NORMAL) & np.isfinite(other.raw[method])]
            for other in slides
            if other.case != slide.case
        ]
        means = np.concatenate(normal) if normal else np.empty((0, 3))
        means = means[np.isfinite(means).all(axis=1)]
        if len(means) < _LEAST_NORMALS:
            return None
        scores = ColourControl().fit(means).score_samples(colours[slide.name])
        out[slide.name] = np.where(np.isfinite(slide.raw[method]), scores, np.nan)
    return out


@dataclass(frozen=True)
class Shown:
    """A field to be shown: slide by index, field by index, and its score."""

    slide: int
    field: int
    score: float


def extremes(
    slides: Sequence[JudgedSlide], method: str, count: int = SHOWN
) -> dict[str, list[Shown]]:
    """Most and least anomalous fields of each class, no slide with much more than its share.

    Keys: "abnormal, highest", "abnormal, lowest", "normal, highest", "normal, lowest"; each in
    that order, empty rows left out. No field stands in two rows.
    """
    out: dict[str, list[Shown]] = {}
    for name, label in (("abnormal", ABNORMAL), ("normal", NORMAL)):
        taken: set[tuple[int, int]] = set()
        for end, sign in (("highest", -1), ("lowest", 1)):
            row: list[Shown] = []
            for i, slide in enumerate(slides):
                scores = np.asarray(slide.raw[method], np.float64)
                own = np.flatnonzero((slide.labels == label) & np.isfinite(scores))
                best = own[np.argsort(sign * scores[own], kind="stable")[: 2 * count]].tolist()
                row += [Shown(i, k, float(scores[k])) for k in best if (i, k) not in taken]
            row.sort(key=lambda shown: sign * shown.score)
            share = max(2, -(-count // max(1, len({shown.slide for shown in row}))))
            chosen = _spread(row, share, count)
            taken |= {(shown.slide, shown.field) for shown in chosen}
            if chosen:
                out[f"{name}, {end}"] = chosen
    return out


def _spread(row: Sequence[Shown], share: int, count: int) -> list[Shown]:
    taken: dict[int, int] = {}
    out: list[Shown] = []
    for shown in row:
        if taken.get(shown.slide, 0) < share and len(out) < count:
            taken[shown.slide] = taken.get(shown.slide, 0) + 1
            out.append(shown)
    return out


def field_picture(
    slide: Slide, table: ScoredSlide, field: int, field_um: float
) -> NDArray[np.uint8] | None:
    """Pixels (S, S, 3) of a field, original colours, not enlarged; None if it cannot be read."""
    mpp = max(field_um / _PICTURE_PX, slide.finest_mpp)
    side = max(1, round(field_um / mpp))
    x, y = (float(v) for v in table.coords[field])
    try:
        return slide.read(x, y, (side, side), mpp).rgb
    except ReadError:
        return None


def as_uri(picture: NDArray[np.uint8]) -> str:
    """Encode a picture (H, W, 3) for the report."""
    return data_uri(picture, quality=85)

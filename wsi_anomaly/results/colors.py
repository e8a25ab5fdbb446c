"""Colours: one scale for scores, one colour per class, the same in every file.

Scores use inferno from its light end to its dark one: perceptually uniform, readable with
colour-vision deficiency, and on paper. The opacity rises with the score, so that normal tissue
stays tissue and a normal slide looks calm. Classes use colours after Okabe and Ito.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.annotations.outlines import TISSUE as TISSUE_LABEL
from wsi_anomaly.scoring import ScoreMap


@dataclass(frozen=True)
class TileClass:
    """Class of a tile in QuPath and in the report's legend."""

    name: str
    color: tuple[int, int, int]
    meaning: str


NORMAL = TileClass("Normal", (86, 180, 233), "below the 95th percentile of normal tissue")
UNUSUAL = TileClass("Unusual", (240, 190, 50), "95th to 99th percentile of normal tissue")
VERY_UNUSUAL = TileClass("Very unusual", (230, 120, 0), "above the 99th percentile")
ANOMALOUS = TileClass("Anomalous", (200, 30, 60), "above the operating point")
UNCALIBRATED = TileClass("Not calibrated", (140, 140, 200), "raw score only")
TAKEN_AWAY = TileClass("Taken away", (110, 90, 170), "like what readers called harmless")
NOT_ASSESSED = TileClass("Not assessed", (120, 120, 120), "not judged, for the reason given")
TISSUE = TileClass(TISSUE_LABEL, (60, 140, 90), "outline of the tissue")

TILE_CLASSES = (NORMAL, UNUSUAL, VERY_UNUSUAL, ANOMALOUS, UNCALIBRATED, NOT_ASSESSED, TAKEN_AWAY)


def tile_classes(score_map: ScoreMap) -> NDArray[np.uint8]:
    """Index (N,) into ``TILE_CLASSES`` of every field."""
    found = score_map.interpretation
    taken_away = np.zeros(len(score_map.fields), bool)
    for region, _ in found.taken_away:
        taken_away[region.fields] = True
    return classes_of(found.percentile, found.flagged, taken_away, score_map.assessed)


def classes_of(
    percentile: NDArray[np.floating] | None,
    flagged: NDArray[np.bool_],
    taken_away: NDArray[np.bool_],
    assessed: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Index (N,) into ``TILE_CLASSES``, from four columns (N,) of the fields' table."""
    if percentile is None:
        out = np.full(len(flagged), TILE_CLASSES.index(UNCALIBRATED), np.uint8)
    else:
        out = np.digitize(np.nan_to_num(percentile), (95.0, 99.0)).astype(np.uint8)
    out[flagged] = TILE_CLASSES.index(ANOMALOUS)
    out[~assessed] = TILE_CLASSES.index(NOT_ASSESSED)
    out[taken_away] = TILE_CLASSES.index(TAKEN_AWAY)
    return out


_LIGHT_END, _DARK_END = 0.97, 0.22  # of inferno: white would vanish on glass, black on nuclei
_LEAST_OPACITY, _MOST_OPACITY = 0.0, 0.88


@cache
def _table() -> NDArray[np.uint8]:
    """Colour and opacity (256, 4) of positions on the scale."""
    from matplotlib import colormaps

    position = np.linspace(0, 1, 256)
    rgba: NDArray[np.uint8] = colormaps["inferno"](
        _LIGHT_END + position * (_DARK_END - _LIGHT_END), bytes=True
    )
    opacity = _LEAST_OPACITY + (_MOST_OPACITY - _LEAST_OPACITY) * position**0.6
    rgba[:, 3] = np.rint(255 * opacity)
    return rgba


def paint(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Colour and opacity (..., 4) of scores; NaN is clear.

    `low` and `high` are the ends of the scale, raw scores; values beyond them get its end colours.
    """
    position = np.clip((np.asarray(values, np.float32) - low) / (high - low), 0, 1)
    out: NDArray[np.uint8] = _table()[(np.nan_to_num(position) * 255 + 0.5).astype(np.uint8)]
    out[np.isnan(position)] = 0
    return out


def blend(rgba: NDArray[np.uint8], background: NDArray[np.floating] | float) -> NDArray[np.uint8]:
    """Lay colours (..., 4) over a background that broadcasts to (..., 3)."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    out: NDArray[np.uint8] = (rgba[..., :3] * alpha + background * (1 - alpha)).astype(np.uint8)
    return out

"""The score map as pictures: over the slide, and alone for QuPath."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.results.colors import NOT_ASSESSED, blend, paint
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.scoring import ScoreMap
from wsi_anomaly.scoring.interpretation import own_color_range

FADE = 0.62
OUTLINE_COLOR = (10, 10, 20)
_HATCH_PX = 8
_HATCH_OPACITY = (60, 210)
_LONGEST_SIDE_PX = 4096


def field_at(score_map: ScoreMap, frame: Frame, size: tuple[int, int]) -> NDArray[np.int64]:
    """Index of the field nearest to each pixel of a picture of the frame, -1 where there is none.

    Parameters
    ----------
    score_map, frame
        The map, and the extent that the picture shows.
    size
        Width and height of the picture.

    Returns
    -------
    numpy.ndarray
        (height, width) int64.
    """
    fields = score_map.fields
    index = np.full(fields.grid_shape, -1, np.int64)
    index[fields.row, fields.col] = np.arange(len(fields))

    def axis(
        count: int, start: int, extent: int, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        position = start + (np.arange(count) + 0.5) * extent / count - fields.origin[k]
        stride, side = fields.stride_level0[k], fields.field_level0[k]
        cells = fields.grid_shape[1 - k]
        nearest = np.rint((position - side / 2) / stride).astype(np.int64)
        inside = (position >= 0) & (position < (cells - 1) * stride + side)
        return np.clip(nearest, 0, max(cells - 1, 0)), inside

    col, in_x = axis(size[0], frame.x, frame.width, 0)
    row, in_y = axis(size[1], frame.y, frame.height, 1)
    out = index[np.ix_(row, col)]
    out[~(in_y[:, None] & in_x[None, :])] = -1
    return out


def score_picture(score_map: ScoreMap, frame: Frame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Colours of the scores with transparency (height, width, 4): clear where there is no tissue.

    Fields that were not assessed are hatched grey, never the colour of a low score.
    """
    return _colored(
        score_map, field_at(score_map, frame, size), score_map.interpretation.color_range
    )


def _colored(
    score_map: ScoreMap, where: NDArray[np.int64], ends: tuple[float, float]
) -> NDArray[np.uint8]:
    assessed = score_map.assessed
    colors = paint(score_map.score, *ends)
    colors[~assessed] = (*NOT_ASSESSED.color, _HATCH_OPACITY[0])
    # The last row is for pixels without a field, whose index is -1.
    colors = np.append(colors, np.zeros((1, 4), np.uint8), axis=0)
    hatched = np.append(~assessed, False)
    picture = np.empty((*where.shape, 4), np.uint8)
    across = np.arange(where.shape[1])
    for y, line in enumerate(where):
        picture[y] = colors[line]
        stripe = hatched[line] & ((y + across) % _HATCH_PX < _HATCH_PX // 2)
        picture[y, stripe, 3] = _HATCH_OPACITY[1]
    return picture


def faded(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures (..., 3) as light grey (..., 1): what the colours are laid over."""
    grey = thumbnail.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)
    return (255 - FADE * (255 - grey))[..., None]


def outline_pixels(score_map: ScoreMap, where: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels (height, width) on the edge of an anomalous region; `where` says their fields."""
    from scipy import ndimage

    flagged = np.append(score_map.interpretation.flagged, False)[where]
    thick = max(1, round(max(where.shape) / 700))
    grown = ndimage.binary_dilation(flagged, np.ones((3, 3)), iterations=thick)
    return np.asarray(grown & ~flagged)


def overlay_picture(
    score_map: ScoreMap, frame: Frame, thumbnail: NDArray[np.uint8], *, alone: bool = False
) -> NDArray[np.uint8]:
    """Scores over the thumbnail (H, W, 3) of the frame, anomalous regions outlined in black.

    With `alone` the colours are those of this slide alone, which do not compare between slides.
    """
    where = field_at(score_map, frame, (thumbnail.shape[1], thumbnail.shape[0]))
    ends = score_map.interpretation.color_range
    if alone:
        ends = own_color_range(score_map.score[score_map.assessed])
    colors = _colored(score_map, where, ends)
    out = np.empty_like(thumbnail)
    for y, line in enumerate(colors):  # line by line: pictures of floats are large
        out[y] = blend(line, faded(thumbnail[y]))
    out[outline_pixels(score_map, where)] = OUTLINE_COLOR
    return out


def write_qupath_picture(path: str | Path, score_map: ScoreMap, frame: Frame) -> None:
    """Write a transparent PNG that covers exactly the extent that QuPath shows.

    Two pixels a field, at most 4096 a side; QuPath stretches it over the slide.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from PIL import Image

    fields = score_map.fields
    scale = min(2 / min(fields.stride_level0), _LONGEST_SIDE_PX / max(frame.width, frame.height))
    size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    with atomic_file(path) as partial:
        Image.fromarray(score_picture(score_map, frame, size), "RGBA").save(partial, "PNG")

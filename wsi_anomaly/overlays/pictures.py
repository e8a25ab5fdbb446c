"""Pictures inside HTML: crops of the most anomalous places, and anything as a data URI."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.overlays.frame import Frame
from wsi_anomaly.overlays.summary import region_position
from wsi_anomaly.scoring import ScoreMap
from wsi_anomaly.slides import ReadError, Slide

CONTEXT = 3  # a crop shows this many fields across
_CROP_PX = 360


def data_uri(image: NDArray[np.uint8], *, quality: int = 88, png: bool = False) -> str:
    """Encode a picture (h, w, 3) as a ``data:`` address: JPEG, or PNG for flat colours."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    if png:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    kind = "png" if png else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Crop:
    """One place in the gallery."""

    picture: str
    position: tuple[int, int]
    score: float
    percentile: float | None
    z: float | None
    p_value: float | None
    region: int | None


def most_anomalous(score_map: ScoreMap, count: int) -> list[int]:
    """Fields to show: the highest smoothed scores that do not overlap one another's context."""
    found = score_map.interpretation
    apart = CONTEXT * score_map.fields.field_level0[0] / score_map.fields.stride_level0[0]
    order = np.argsort(-np.nan_to_num(found.smoothed, nan=-np.inf), kind="stable")
    row, col = score_map.fields.row, score_map.fields.col
    chosen: list[int] = []
    for i in order[: 50 * count].tolist():
        if not np.isfinite(found.smoothed[i]) or len(chosen) == count:
            break
        if all(max(abs(row[i] - row[j]), abs(col[i] - col[j])) >= apart for j in chosen):
            chosen.append(i)
    return chosen


def gallery(score_map: ScoreMap, slide: Slide, frame: Frame, count: int = 12) -> list[Crop]:
    """Crops of the most anomalous places with their surroundings, original colours."""
    found = score_map.interpretation
    side = score_map.fields.field_um
    mpp = max(
        CONTEXT * side / _CROP_PX, min(slide.finest_mpp, mpp_of(score_map.model["magnification"]))
    )
    pixels = max(16, round(CONTEXT * side / mpp))
    region_of = {
        int(field): rank
        for rank, region in enumerate(found.regions, start=1)
        for field in region.fields
    }
    out = []
    for i in most_anomalous(score_map, count):
        x, y = (float(v) for v in score_map.fields.coords[i])
        margin = (CONTEXT - 1) / 2 * side
        try:
            crop = slide.read(
                x - margin / slide.mpp.x, y - margin / slide.mpp.y, (pixels, pixels), mpp
            ).rgb
        except ReadError:
            continue
        out.append(
            Crop(
                data_uri(_framed(crop)),
                region_position(score_map, frame, i),
                float(score_map.score[i]),
                None if found.percentile is None else float(found.percentile[i]),
                None if found.z is None else float(found.z[i]),
                None if found.p_value is None else float(found.p_value[i]),
                region_of.get(i),
            )
        )
    return out


def _framed(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the field's corners in the middle of its surroundings; the tissue stays uncovered."""
    out = crop.copy()
    side = len(crop)
    first, last = round(side / CONTEXT), round(2 * side / CONTEXT) - 1
    reach, thick = max(4, side // 24), max(1, side // 180)
    for y, dy in ((first, 1), (last, -1)):
        for x, dx in ((first, 1), (last, -1)):
            ys = sorted((y, y + dy * thick))
            xs = sorted((x, x + dx * reach))
            out[ys[0] : ys[1] + 1, xs[0] : xs[1] + 1] = (15, 15, 25)
            ys = sorted((y, y + dy * reach))
            xs = sorted((x, x + dx * thick))
            out[ys[0] : ys[1] + 1, xs[0] : xs[1] + 1] = (15, 15, 25)
    return out

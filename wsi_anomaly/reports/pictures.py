"""Pictures inside HTML: crops of the most anomalous places, and anything as a data URI."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.magnification import mpp_of, served
from wsi_anomaly.reports.charts import Ruler, ruler
from wsi_anomaly.results.colors import blend, paint
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.raster import faded
from wsi_anomaly.results.summary import region_position
from wsi_anomaly.scoring import ScoreMap
from wsi_anomaly.scoring.regions import highest_near
from wsi_anomaly.scoring.top_fields import CONTEXT_UM, SHOWN, most_anomalous
from wsi_anomaly.slides import ReadError, Slide

_MAGNIFICATIONS = (10, 20, 40)
_VIEW_PX = 256
_MAP_TOP = 0.995  # share of the shown error maps' pixels within the colours
_MAP_OPACITY = 0.8


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
class View:
    """One picture of a place, with its scale bar."""

    title: str
    picture: str
    ruler: Ruler


@dataclass(frozen=True)
class Place:
    """One place in the gallery: the slide at each magnification, then the model's error map."""

    field: int
    views: list[View]
    position: tuple[int, int]
    smoothed: float
    percentile: float | None
    z: float | None
    p_value: float | None
    region: int | None


def gallery(score_map: ScoreMap, slide: Slide, frame: Frame, count: int = SHOWN) -> list[Place]:
    """Show the most anomalous places in original colours, at every magnification they have."""
    found = score_map.interpretation
    fields = score_map.fields
    region_of = {
        int(field): rank
        for rank, region in enumerate(found.regions, start=1)
        for field in region.fields
    }
    maps = _map_pictures(score_map)
    out = []
    for i in most_anomalous(fields, found.smoothed, count, apart_um=CONTEXT_UM):
        place = highest_near(fields, score_map.score, i)
        x, y = (float(v) for v in fields.coords[place])
        center = (x + fields.field_level0[0] / 2, y + fields.field_level0[1] / 2)
        views = _views(slide, center, fields.field_um)
        if not views:
            continue
        if place in maps:
            views.append(View("error map", maps[place], ruler(fields.field_um)))
        out.append(
            Place(
                place,
                views,
                region_position(score_map, frame, place),
                float(found.smoothed[i]),
                None if found.percentile is None else float(found.percentile[i]),
                None if found.z is None else float(found.z[i]),
                None if found.p_value is None else float(found.p_value[i]),
                region_of.get(i),
            )
        )
    return out


def _views(slide: Slide, center: tuple[float, float], field_um: float) -> list[View]:
    """Pictures around a place at the magnifications that the slide serves; none is enlarged."""
    out = []
    for magnification in served(slide.finest_mpp, _MAGNIFICATIONS):
        mpp = mpp_of(magnification)
        half = _VIEW_PX * mpp / 2
        try:
            crop = slide.read(
                center[0] - half / slide.mpp.x,
                center[1] - half / slide.mpp.y,
                (_VIEW_PX, _VIEW_PX),
                mpp,
            ).rgb
        except ReadError:
            continue
        framed = _framed(crop, field_um / mpp)
        out.append(View(f"{magnification}×", data_uri(framed), ruler(_VIEW_PX * mpp)))
    return out


def _map_pictures(score_map: ScoreMap) -> dict[int, str]:
    """Error maps over what the model saw, all in the same colours."""
    from PIL import Image

    made = score_map.pixel_maps
    if made is None:
        return {}
    shown = made.maps[:SHOWN]
    high = float(np.quantile(shown, _MAP_TOP)) or 1.0
    out = {}
    for i, tile, values in zip(
        made.fields.tolist(), made.tiles[: 3 * SHOWN], made.maps[: 3 * SHOWN], strict=False
    ):
        colors = paint(values, 0.0, high)
        colors[..., 3] = np.minimum(colors[..., 3], round(255 * _MAP_OPACITY))
        picture = Image.fromarray(blend(colors, faded(tile)))
        large = picture.resize((_VIEW_PX, _VIEW_PX), Image.Resampling.BILINEAR)
        out[i] = data_uri(np.asarray(large))
    return out


def _framed(crop: NDArray[np.uint8], field_px: float) -> NDArray[np.uint8]:
    """Draw the field's corners in the middle of its surroundings; the tissue stays uncovered."""
    side = len(crop)
    if field_px > side - 4:
        return crop
    out = crop.copy()
    first, last = round((side - field_px) / 2) - 1, round((side + field_px) / 2)
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

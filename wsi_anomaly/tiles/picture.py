"""A picture of each slide beside its tile file: where the tissue is, and where it was cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.core.wording import counted
from wsi_anomaly.slides import TISSUE, ReadError, Slide, TissueMap
from wsi_anomaly.slides.overview import MAP_MPP, Overview
from wsi_anomaly.tiles.fields import Fields, Status

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PICTURE_SUFFIX = ".png"
STATUS_COLOURS = {
    Status.OK: (0, 114, 178),
    Status.FAILED: (90, 90, 90),
    Status.BLURRED: (230, 159, 0),
    Status.PEN: (213, 94, 0),
    Status.FOLDED: (0, 158, 115),
}
"""Colours of Okabe and Ito, which colour-blind people tell apart."""

INK = (40, 40, 40)
_OUTLINE = (20, 20, 20)
_LONGER_SIDE_PX = 1000
_FILL_OK, _FILL_OTHER = 0.08, 0.45  # opacity of a field's colour over the tissue


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Sans serif letters that come with Pillow."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def overview_picture(
    slide: Slide,
    overview: Overview,
    tissue: TissueMap,
    fields: Fields,
    status: NDArray[np.uint8],
) -> Image.Image:
    """Thumbnail of the scanned area with the outline of its tissue and the fields that were cut.

    Parameters
    ----------
    slide, overview, tissue, fields
        The slide, its overview, what was found on it, and the fields.
    status
        (N,) uint8, what became of each field.
    """
    from PIL import Image, ImageDraw

    ground = thumbnail(slide, overview)
    scale = np.array(ground.size) / (slide.bounds.width, slide.bounds.height)
    origin = np.array((slide.bounds.x, slide.bounds.y))
    corners = (fields.coords - origin) * scale
    size = np.array(fields.field_level0) * scale

    colours = Image.new("RGBA", ground.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(colours)
    for (x, y), found in zip(corners, status.tolist(), strict=True):
        colour = STATUS_COLOURS[Status(found)]
        fill = round(255 * (_FILL_OK if found == Status.OK else _FILL_OTHER))
        draw.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), (*colour, fill), (*colour, 255))
    picture = Image.alpha_composite(ground.convert("RGBA"), colours).convert("RGB")
    outline_tissue(picture, slide, tissue)
    entries: list[tuple[Colour | None, str]] = [(None, "tissue")]
    for kind, colour in STATUS_COLOURS.items():
        count = int(np.count_nonzero(status == kind))
        if count:
            entries.append((colour, f"{kind.name.lower()} {count:,}"))
    caption = f"{counted(len(fields), 'field')} of {fields.field_um:g} um"
    sheet = with_legend(picture, slide, caption, entries)
    return sheet.quantize(256, dither=Image.Dither.NONE)  # a fifth of the bytes


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG; it takes its name when it is whole.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with atomic_file(path) as partial:
        picture.save(partial, format="PNG")


def outline_tissue(picture: Image.Image, slide: Slide, tissue: TissueMap) -> None:
    """Draw the outline of the tissue on a picture of the scanned area."""
    from PIL import ImageDraw

    scale = np.array(picture.size) / (slide.bounds.width, slide.bounds.height)
    draw = ImageDraw.Draw(picture)
    for polygon in tissue.polygons(TISSUE).geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            points = (np.asarray(ring.coords) - (slide.bounds.x, slide.bounds.y)) * scale
            draw.line([tuple(point) for point in points], _OUTLINE, 2)


def thumbnail(slide: Slide, overview: Overview) -> Image.Image:
    """Draw the scanned area: the overview where it is large enough, small slides from the file."""
    from PIL import Image

    height, width = overview.rgb.shape[:2]
    aspect = slide.bounds.height * slide.mpp.y / (slide.bounds.width * slide.mpp.x)
    longer = _LONGER_SIDE_PX
    size = (
        (longer, max(1, round(longer * aspect)))
        if aspect <= 1
        else (max(1, round(longer / aspect)), longer)
    )
    if max(height, width) < longer:
        try:
            small = Image.fromarray(slide.thumbnail(longer))
            return small.resize(size, Image.Resampling.LANCZOS)
        except ReadError:
            pass
    # The overview's last row and column may reach beyond the scanned area.
    seen = (
        min(width, slide.bounds.width * slide.mpp.x / MAP_MPP),
        min(height, slide.bounds.height * slide.mpp.y / MAP_MPP),
    )
    return Image.fromarray(overview.rgb).resize(size, Image.Resampling.LANCZOS, (0, 0, *seen))


def with_legend(
    picture: Image.Image, slide: Slide, caption: str, entries: Sequence[tuple[Colour | None, str]]
) -> Image.Image:
    """Add what the slide is, and what the colours mean; None is the outline of the tissue."""
    from PIL import Image, ImageDraw

    bar = 76
    sheet = Image.new("RGB", (max(picture.width, 700), picture.height + bar), (255, 255, 255))
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    top = picture.height + 10
    draw.text(
        (12, top),
        f"{as_text(slide.path.name)}   {slide.width:,} x {slide.height:,} px   "
        f"{slide.mpp.x:.4g} um/px   {caption}",
        INK,
        font(20),
    )
    x = 12.0
    for colour, text in entries:
        if colour is None:
            draw.rectangle((x, top + 40, x + 18, top + 52), None, _OUTLINE, 2)
        else:
            draw.rectangle((x, top + 40, x + 18, top + 52), colour)
        x = _word(draw, x + 26, top + 34, text)
    return sheet


def _word(draw: ImageDraw.ImageDraw, x: float, y: float, text: str) -> float:
    """Write a word; where the next one may start."""
    letters = font(18)
    draw.text((x, y), text, INK, letters)
    return x + float(draw.textlength(text, letters)) + 28

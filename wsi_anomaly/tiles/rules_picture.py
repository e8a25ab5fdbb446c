"""What the rules for tissue, ink, folds and blur keep of a slide and drop, before any tiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.magnification import serves
from wsi_anomaly.slides import FOLD, PEN, TISSUE, UNREADABLE, Slide, TissueMap, find_tissue
from wsi_anomaly.slides.overview import MAP_MPP, read_overview
from wsi_anomaly.tiles.fields import Status
from wsi_anomaly.tiles.picture import (
    STATUS_COLOURS,
    Colour,
    outline_tissue,
    thumbnail,
    with_legend,
)
from wsi_anomaly.tiles.plane import CHUNK_PX, SQUARE_UM, SlidePlane

if TYPE_CHECKING:
    from PIL import Image

_JUDGED_AT = 10  # magnification at which blur is judged
_KEPT_COLOUR = STATUS_COLOURS[Status.OK]
_DROPPED = {
    "pen": (PEN, STATUS_COLOURS[Status.PEN]),
    "fold": (FOLD, STATUS_COLOURS[Status.FOLDED]),
    "unreadable": (UNREADABLE, STATUS_COLOURS[Status.FAILED]),
}
_FILL_KEPT, _FILL_DROPPED = 0.12, 0.6  # opacity of a colour over the slide


def rules_picture(slide: Slide) -> tuple[Image.Image, dict[str, float]]:
    """Draw a slide with what is kept as tissue, and what is dropped and why.

    Parameters
    ----------
    slide
        An open slide with known mpp. Its tissue is read once at 10x, to judge blur; a slide too
        coarse for that is shown without.

    Returns
    -------
    picture
        With a legend.
    areas
        Square millimetres that are "kept", and those dropped as "pen", "fold", "unreadable" and
        "blurred" (not there where it was not judged).

    Raises
    ------
    SlideError
        The slide cannot be read.
    """
    from PIL import Image

    overview = read_overview(slide)
    tissue = find_tissue(slide, overview)
    blurred = _blurred(slide, tissue)
    masks: dict[str, tuple[NDArray[np.bool_], Colour]] = {
        name: (tissue.labels == label, colour) for name, (label, colour) in _DROPPED.items()
    }
    kept = tissue.labels == TISSUE
    if blurred is not None:
        masks["blurred"] = (kept & blurred, STATUS_COLOURS[Status.BLURRED])
        kept = kept & ~blurred
    masks = {"kept": (kept, _KEPT_COLOUR), **masks}
    areas = {
        name: float(np.count_nonzero(mask)) * (tissue.mpp / 1000) ** 2
        for name, (mask, _) in masks.items()
    }
    colours = np.zeros((*tissue.labels.shape, 4), np.uint8)
    for name, (mask, colour) in masks.items():
        fill = _FILL_KEPT if name == "kept" else _FILL_DROPPED
        colours[mask] = (*colour, round(255 * fill))
    ground = thumbnail(slide, overview)
    # The map's last row and column may reach beyond the scanned area.
    seen = (
        slide.bounds.width * slide.mpp.x / MAP_MPP,
        slide.bounds.height * slide.mpp.y / MAP_MPP,
    )
    height, width = tissue.labels.shape
    box = (0, 0, min(width, seen[0]), min(height, seen[1]))
    layer = Image.fromarray(colours, "RGBA").resize(ground.size, Image.Resampling.NEAREST, box)
    picture = Image.alpha_composite(ground.convert("RGBA"), layer).convert("RGB")
    outline_tissue(picture, slide, tissue)
    entries: list[tuple[Colour | None, str]] = [(None, "tissue")]
    for name, area in areas.items():
        if area:
            entries.append((masks[name][1], f"{name} {area:.2f} mm2"))
    return with_legend(picture, slide, "before tiling", entries), areas


def _blurred(slide: Slide, tissue: TissueMap) -> NDArray[np.bool_] | None:
    """Pixels of the tissue map in blurred squares; None where the slide is too coarse to say."""
    if not serves(slide.finest_mpp, _JUDGED_AT):
        return None
    plane = SlidePlane(slide, tissue, _JUDGED_AT)
    wanted = plane.tissue_mask(plane.square_px)
    step = CHUNK_PX // plane.square_px
    rows, columns = np.nonzero(wanted)
    for row, column in sorted(
        set(zip((rows // step).tolist(), (columns // step).tolist(), strict=True))
    ):
        plane.chunk(row, column)
    blurred = wanted & (plane.status == Status.BLURRED)
    height, width = tissue.labels.shape
    square = SQUARE_UM / tissue.mpp
    down = np.minimum(((np.arange(height) + 0.5) / square).astype(np.intp), len(blurred) - 1)
    across = np.minimum(((np.arange(width) + 0.5) / square).astype(np.intp), blurred.shape[1] - 1)
    return np.asarray(blurred[np.ix_(down, across)])

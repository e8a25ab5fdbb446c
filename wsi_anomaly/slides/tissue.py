"""Find tissue, pen marks and folds on a slide, by colour and shape at about 8 um a pixel.

Hematoxylin and eosin both absorb green most. So stained tissue is where green is denser than
red or blue; grey things (glass, dust, black borders, coverslip edges, the shadow of a bubble)
are not, whatever their darkness, and inks absorb in other proportions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_anomaly.slides.base import Slide
from wsi_anomaly.slides.density import INKS, Densities, densities
from wsi_anomaly.slides.morphology import (
    closed,
    connected,
    grow,
    opened,
    shrink,
    without_small,
)
from wsi_anomaly.slides.overview import MAP_MPP, Overview, glass_colour, read_overview
from wsi_anomaly.slides.tissue_map import (
    BACKGROUND,
    FOLD,
    PEN,
    TISSUE,
    UNREADABLE,
    TissueMap,
)

_MIN_PIECE_UM2 = 10_000.0  # a piece of tissue smaller than 100 x 100 um is debris
_MAX_HOLE_UM2 = 10_000.0  # lumina and fat cells up to 100 x 100 um belong to the tissue
_MIN_INK_UM2 = 20_000.0
_MIN_FADED_UM2 = 10000.0
_INK_REACH_UM = 1000.0  # a stroke's faded parts are looked for so far from its dense ones
_CLOSE_UM = 20.0
_LUMEN_UM = 64.0  # clear glass wider than this (a vessel, a duct) is no tissue; no fat cell is
_FOLD_UM = 150.0  # a fold is a strip, narrower than this
_FAT_UM = 24.0  # fat is seen when its thin membranes are averaged over this far
_SURE_STAIN = 0.05  # green's excess density that every piece of tissue reaches somewhere
_CLEAR_STAIN = 0.03  # green's excess density of glass near tissue, at most
_FAINT_STAIN, _FAINT_TEXTURE = 0.015, 0.02  # green's excess density in fat: mean, deviation
_FOLD_CHANNEL = 1.3  # each channel's density against the slide's, at least
_OPAQUE = 4.5  # density of the three channels together through which nothing is seen
_BLACK_LEVEL, _GLASS_LEVEL = 40, 150
_MIN_STAIN, _MAX_STAIN = 0.025, 0.08  # limits of the threshold on green's excess density


def find_tissue(slide: Slide, overview: Overview | None = None) -> TissueMap:
    """Map a slide's tissue.

    Parameters
    ----------
    slide
        An open slide with known mpp.
    overview
        Its overview, when it has been read already.

    Returns
    -------
    Labels over the scanned area; parts that cannot be decoded are UNREADABLE.
    """
    overview = overview or read_overview(slide)
    labels, white = label_pixels(overview.rgb, overview.usable, MAP_MPP)
    labels[~overview.readable] = UNREADABLE
    return TissueMap.over(slide, labels, white)


def label_pixels(
    rgb: NDArray[np.uint8], usable: NDArray[np.bool_], mpp: float
) -> tuple[NDArray[np.uint8], tuple[float, float, float]]:
    """Label an overview picture.

    Parameters
    ----------
    rgb
        (H, W, 3) uint8 at `mpp`.
    usable
        (H, W) bool: scanned and readable.
    mpp
        Micrometres per pixel.

    Returns
    -------
    (H, W) uint8 labels, and the intensity of bare glass. A picture on black (fluorescence) has no
    tissue: what follows knows stained tissue on white alone.
    """
    usable = usable & ~_border(rgb)
    white = glass_colour(rgb, usable)
    if not _is_bright_field(rgb[usable]):
        return np.full(usable.shape, BACKGROUND, np.uint8), white
    density = densities(rgb, white)

    pen = _pen(density, usable, mpp) & usable
    sharp = ndimage.gaussian_filter(density.excess, 1.0)
    here = usable & ~pen
    least = _MIN_PIECE_UM2 / 4 / mpp**2
    surely = without_small((sharp > _threshold(sharp[here])) & here, least)
    # Pale tissue is darker somewhere; glass that the camera saw a little pinker is not.
    surely = connected(surely, without_small((sharp > _SURE_STAIN) & here, least / 4))
    faint = _fat(density.excess, _FAT_UM / mpp) & here & ~surely
    tissue = connected(surely | opened(faint, 1.5 * _FAT_UM / mpp), surely)
    tissue = closed(tissue, _CLOSE_UM / mpp) & usable & ~pen
    tissue = without_small(tissue, _MIN_PIECE_UM2 / mpp**2)
    tissue = ~without_small(~tissue, _MAX_HOLE_UM2 / mpp**2) & usable & ~pen
    tissue &= ~_clear(sharp < _CLEAR_STAIN, mpp)

    labels = np.full(tissue.shape, BACKGROUND, np.uint8)
    labels[tissue] = TISSUE
    labels[tissue & _folds(rgb, density, tissue, mpp)] = FOLD
    labels[pen] = PEN
    return labels, white


def _threshold(stain: NDArray[np.float32]) -> float:
    """Otsu's threshold of green's excess, held within what glass and pale tissue allow."""
    counts, edges = np.histogram(stain, 200, (0.0, 0.4))
    if not counts.any():
        return _MAX_STAIN
    middle = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = total / below - (total[-1] - total) / above
    between = np.nan_to_num(below * above * gap**2)
    return float(np.clip(middle[int(between.argmax())], _MIN_STAIN, _MAX_STAIN))


def _clear(glass: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    """Find the wide gaps of tissue, with their corners but not the narrow clefts they end in."""
    return connected(opened(glass, _LUMEN_UM / 4 / mpp), opened(glass, _LUMEN_UM / 2 / mpp))


def _fat(excess: NDArray[np.float32], radius: float) -> NDArray[np.bool_]:
    """Thin stained membranes with nothing between them: faint on average, yet not even.

    Evenness tells them from glass that one field of the scanner's camera saw a little pinker.
    """
    mean = ndimage.gaussian_filter(excess, radius)
    found = np.asarray(mean > _FAINT_STAIN)
    # In place: on a large slide every picture of floats counts.
    spread = excess * excess
    ndimage.gaussian_filter(spread, radius, output=spread)
    spread -= np.square(mean, out=mean)
    found &= spread > _FAINT_TEXTURE**2
    return found


def _is_bright_field(pixels: NDArray[np.uint8]) -> bool:
    """Whether light shines through: fluorescence has much black and hardly any white."""
    black = float((pixels.max(-1) < _BLACK_LEVEL).mean()) if len(pixels) else 0.0
    return black < 0.3 or float((pixels.min(-1) > _GLASS_LEVEL).mean()) > 0.05


def _border(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Black rows and columns along the picture's edges: the scanner's frame, no pen."""
    black = rgb.max(-1) < _BLACK_LEVEL
    border = np.zeros(black.shape, bool)
    for axis in (0, 1):
        lines = black.mean(1 - axis) > 0.8
        for edge in (lines, lines[::-1]):
            depth = int(np.argmin(edge)) if not edge.all() else len(edge)
            where = np.zeros(len(lines), bool)
            where[: depth + 1 if depth else 0] = True  # and the line that is half black
            where = where if edge is lines else where[::-1]
            border |= where[:, None] if axis == 0 else where[None, :]
    return border


def _pen(density: Densities, usable: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    """Dense ink in strokes, and what has its colour not far from it."""
    ink = np.zeros(usable.shape, bool)
    for kind in range(len(INKS)):
        # By majority: under the ink, single nuclei and clefts of the tissue have another colour.
        sure = density.has_ink(kind, surely=True).astype(np.float32)
        dense = (ndimage.uniform_filter(sure, 3) > 0.5) & usable
        core = without_small(opened(dense, 1.5), _MIN_INK_UM2 / mpp**2)
        if core.any():
            faded = density.has_ink(kind, surely=False) & usable & grow(core, _INK_REACH_UM / mpp)
            ink |= without_small(faded | core, _MIN_FADED_UM2 / mpp**2)
    return closed(ink, _CLOSE_UM / mpp) if ink.any() else ink


def _folds(
    rgb: NDArray[np.uint8], density: Densities, tissue: NDArray[np.bool_], mpp: float
) -> NDArray[np.bool_]:
    """Tissue that lies double: a strip far denser than its slide's tissue, in every channel.

    Width tells it from tumour and lymphocytes, which may be as dense but come in patches; what
    lets no light through is not assessable however wide.
    """
    if not tissue.any():
        return np.zeros_like(tissue)
    total = ndimage.gaussian_filter(density.total, 1.0)
    inside = total[tissue]
    middle = float(np.median(inside))
    spread = float(np.median(np.abs(inside - middle))) * 1.4826
    dense = np.asarray((total > max(2.0 * middle, middle + 5 * spread)) & tissue)
    if not dense.any():
        return dense
    for channel in range(3):
        table, intensity = density.tables[channel], rgb[..., channel]
        usual = table[int(np.median(intensity[tissue]))]
        dense &= (table > _FOLD_CHANNEL * usual)[intensity]
    opaque = (total > _OPAQUE) & (total > 4 * middle) & tissue
    # A patch is ragged: its gaps are closed before its width is judged, and its fringe is no strip.
    patches = shrink(closed(dense, _CLOSE_UM / mpp), _FOLD_UM / 2 / mpp)
    strips = dense & ~grow(patches, _FOLD_UM / mpp)
    return without_small(np.asarray(strips | opaque), 4_000.0 / mpp**2)

"""Find tissue, pen marks and folds on a slide, by colour and shape at about 8 um a pixel.

Hematoxylin and eosin both absorb green most. So stained tissue is where green is denser than
red or blue; grey things (glass, dust, black borders, coverslip edges, the shadow of a bubble)
are not, whatever their darkness, and inks absorb in other proportions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_anomaly.core.optical_density import density_table
from wsi_anomaly.core.robust import MAD_TO_SD
from wsi_anomaly.slides.absorption import (
    INKS,
    excess_density,
    has_ink,
    ink_colours,
    total_density,
)
from wsi_anomaly.slides.bands import bands
from wsi_anomaly.slides.base import Slide
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
_MIN_MISSING_UM2 = 2_000.0  # a tile of 256 px that was not scanned has twice as much at 40x
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
_NO_LIGHT, _EDGE_PX = 4, 2.0  # ink lets a little light through; an edge blends over so many pixels
_MIN_STAIN, _MAX_STAIN = 0.025, 0.08  # limits of the threshold on green's excess density
_STAIN_RANGE, _BINS = (0.0, 0.4), 200  # histogram of green's excess density
_SHARP_PX = 1.0  # deviation of the filter that takes away the noise of single pixels
_REACH = 4.0  # deviations that SciPy's filters reach


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
    nothing = _not_scanned(rgb, mpp) & usable
    usable = usable & ~nothing
    white = glass_colour(rgb, usable)
    if not _is_bright_field(rgb, usable, int(np.count_nonzero(nothing))):
        return np.full(usable.shape, BACKGROUND, np.uint8), white
    # By channel and grey level, (3, 256), as the compiled loops look densities up.
    tables = np.ascontiguousarray(density_table(white).T, np.float32)

    pen = _pen(ink_colours(rgb, tables), usable, mpp) & usable
    usable &= ~pen
    surely, glass, faint = _stained(rgb, tables, usable, mpp)
    faint = opened(faint & ~surely, 1.5 * _FAT_UM / mpp)
    tissue = connected(surely | faint, surely)
    del surely, faint
    tissue = closed(tissue, _CLOSE_UM / mpp) & usable
    tissue = without_small(tissue, _MIN_PIECE_UM2 / mpp**2)
    tissue = ~without_small(~tissue, _MAX_HOLE_UM2 / mpp**2) & usable
    tissue &= ~_clear(glass, mpp)
    del glass

    labels = np.full(tissue.shape, BACKGROUND, np.uint8)
    labels[tissue] = TISSUE
    folds = tissue & _folds(rgb, tables, tissue, mpp)
    labels[folds] = FOLD
    if pen.any():  # a stroke over dense tissue has the colours of both, and goes on from its ink
        near = folds & grow(pen, _INK_REACH_UM / mpp)
        pen |= connected(near, near & grow(pen, _EDGE_PX))
    labels[pen] = PEN
    return labels, white


def _stained(
    rgb: NDArray[np.uint8], tables: NDArray[np.float32], here: NDArray[np.bool_], mpp: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Where surely is stained tissue, where bare glass may be, and where fat."""
    sharp = np.empty(here.shape, np.float32)
    faint = np.empty(here.shape, np.bool_)
    counts = np.zeros(_BINS, np.int64)
    for band in bands(len(here), halo=round(_REACH * max(_SHARP_PX, _FAT_UM / mpp)) + 1):
        excess = excess_density(rgb[band.wide], tables)
        faint[band.rows] = _fat(excess, _FAT_UM / mpp)[band.within] & here[band.rows]
        ndimage.gaussian_filter(excess, _SHARP_PX, output=excess)
        sharp[band.rows] = excess[band.within]
        counts += np.histogram(sharp[band.rows][here[band.rows]], _BINS, _STAIN_RANGE)[0]
    least = _MIN_PIECE_UM2 / 4 / mpp**2
    found, dark = (sharp > _threshold(counts)) & here, (sharp > _SURE_STAIN) & here
    glass = np.asarray(sharp < _CLEAR_STAIN)
    del sharp
    # Pale tissue is darker somewhere; glass that the camera saw a little pinker is not.
    surely = connected(without_small(found, least), without_small(dark, least / 4))
    return surely, glass, faint


def _threshold(counts: NDArray[np.int64]) -> float:
    """Otsu's threshold of green's excess, held within what glass and pale tissue allow."""
    edges = np.linspace(*_STAIN_RANGE, _BINS + 1)
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
    spread = excess * excess
    ndimage.gaussian_filter(spread, radius, output=spread)
    spread -= np.square(mean, out=mean)
    found &= spread > _FAINT_TEXTURE**2
    return found


def _is_bright_field(rgb: NDArray[np.uint8], usable: NDArray[np.bool_], nothing: int) -> bool:
    """Whether light shines through: fluorescence has much black and hardly any white.

    Black without any light is among the `nothing` pixels that were taken away already.
    """
    whole = max(1, int(np.count_nonzero(usable)))
    darkest, brightest = _over_channels(np.minimum, rgb), _over_channels(np.maximum, rgb)
    black = int(np.count_nonzero((brightest < _BLACK_LEVEL) & usable))
    white = int(np.count_nonzero((darkest > _GLASS_LEVEL) & usable))
    return black + nothing < 0.3 * (whole + nothing) or white > 0.05 * whole


def _over_channels(choose: np.ufunc, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Minimum or maximum of the three channels; a reduction over so short an axis is slow."""
    chosen: NDArray[np.uint8] = choose(choose(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
    return chosen


def _not_scanned(rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Black that no ink is: the scanner's frame, and what a file without transparency lacks."""
    darkest = _over_channels(np.maximum, rgb) <= _NO_LIGHT
    missing = without_small(darkest, _MIN_MISSING_UM2 / mpp**2)
    return _border(rgb) | (grow(missing, _EDGE_PX) if missing.any() else missing)


def _border(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Black rows and columns along the picture's edges: the scanner's frame, no pen."""
    black = _over_channels(np.maximum, rgb) < _BLACK_LEVEL
    border = np.zeros(black.shape, bool)
    for axis in (0, 1):
        lines = black.mean(1 - axis) > 0.8
        for edge in (lines, lines[::-1]):
            first = int(not edge[0])  # the outermost line may reach beyond the slide
            found = int(np.argmin(edge[first:])) if not edge[first:].all() else len(edge)
            where = np.zeros(len(lines), bool)
            where[: first + found + 1 if found else 0] = True  # and the line that is half black
            where = where if edge is lines else where[::-1]
            border |= where[:, None] if axis == 0 else where[None, :]
    return border


def _pen(colours: NDArray[np.uint8], usable: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    """Dense ink in strokes, and what has its colour not far from it."""
    ink = np.zeros(usable.shape, bool)
    for kind in range(len(INKS)):
        dense = _majority(has_ink(colours, kind, surely=True)) & usable
        core = without_small(opened(dense, 1.5), _MIN_INK_UM2 / mpp**2)
        if core.any():
            faded = has_ink(colours, kind, surely=False) & usable & grow(core, _INK_REACH_UM / mpp)
            ink |= without_small(faded | core, _MIN_FADED_UM2 / mpp**2)
    return closed(ink, _CLOSE_UM / mpp) if ink.any() else ink


def _majority(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where most of 3 x 3 pixels are set.

    Under the ink, single nuclei and clefts of the tissue have another colour.
    """
    count = mask.astype(np.uint8)
    for axis in (0, 1):
        ndimage.correlate1d(count, (1, 1, 1), axis, output=count)
    return np.asarray(count > 4)


def _folds(
    rgb: NDArray[np.uint8], tables: NDArray[np.float32], tissue: NDArray[np.bool_], mpp: float
) -> NDArray[np.bool_]:
    """Tissue that lies double: a strip far denser than its slide's tissue, in every channel.

    Width tells it from tumour and lymphocytes, which may be as dense but come in patches; what
    lets no light through is not assessable however wide.
    """
    if not tissue.any():
        return np.zeros_like(tissue)
    total = np.empty(tissue.shape, np.float32)
    for band in bands(len(tissue), halo=round(_REACH * _SHARP_PX) + 1):
        wide = total_density(rgb[band.wide], tables)
        total[band.rows] = ndimage.gaussian_filter(wide, _SHARP_PX)[band.within]
    inside = total[tissue]
    middle = float(np.median(inside, overwrite_input=True))
    inside -= np.float32(middle)
    np.abs(inside, out=inside)
    spread = float(np.median(inside, overwrite_input=True)) * MAD_TO_SD
    del inside
    dense = np.asarray((total > max(2.0 * middle, middle + 5 * spread)) & tissue)
    if not dense.any():
        return dense
    pixels, darker = rgb[dense], np.ones(np.count_nonzero(dense), np.bool_)
    for channel, table in enumerate(tables):
        usual = table[int(np.median(rgb[..., channel][tissue], overwrite_input=True))]
        darker &= (table > _FOLD_CHANNEL * usual)[pixels[:, channel]]
    dense[dense] = darker
    opaque = (total > _OPAQUE) & (total > 4 * middle) & tissue
    # A patch is ragged: its gaps are closed before its width is judged, and its fringe is no strip.
    patches = shrink(closed(dense, _CLOSE_UM / mpp), _FOLD_UM / 2 / mpp)
    strips = dense & ~grow(patches, _FOLD_UM / mpp)
    return without_small(np.asarray(strips | opaque), 4_000.0 / mpp**2)

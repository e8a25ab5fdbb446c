"""The whole scanned area of a slide as one small picture, read in blocks of bounded size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.slides.bands import bands
from wsi_anomaly.slides.base import ReadError, Slide

MAP_MPP = 8.0
"""Micrometres per pixel of overviews and tissue maps."""

_BLOCK_SOURCE_PX = 4096  # source pixels a side that are read at once
_GLASS_LEVEL, _GLASS_TINT = 190, 24
_GLASS_PIXELS = 500_000  # are plenty to find a colour
_PURE_WHITE = (255.0, 255.0, 255.0)


@dataclass(frozen=True, eq=False)
class Overview:
    """The scanned area at `MAP_MPP`.

    Attributes
    ----------
    rgb
        (H, W, 3) uint8.
    covered
        (H, W) bool: scanned.
    readable
        (H, W) bool: False where the file is damaged.
    """

    rgb: NDArray[np.uint8]
    covered: NDArray[np.bool_]
    readable: NDArray[np.bool_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(H, W) bool: real pixels."""
        return self.covered & self.readable


def map_shape(slide: Slide) -> tuple[int, int]:
    """Height and width of the slide's overview and tissue map."""
    width = max(2, int(np.ceil(slide.bounds.width * slide.mpp.x / MAP_MPP)))
    height = max(2, int(np.ceil(slide.bounds.height * slide.mpp.y / MAP_MPP)))
    return height, width


def read_overview(slide: Slide) -> Overview:
    """Read the scanned area at `MAP_MPP`; never raises for damaged parts."""
    height, width = map_shape(slide)
    level_mpp = slide.finest_mpp * slide.level_downsamples[slide.best_level(MAP_MPP)]
    block = max(16, int(_BLOCK_SOURCE_PX * level_mpp / MAP_MPP))
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = slide.background
    overview = Overview(rgb, np.ones((height, width), bool), np.ones((height, width), bool))
    for top in range(0, height, block):
        for left in range(0, width, block):
            size = (min(block, height - top), min(block, width - left))
            _read_block(slide, overview, (top, left), size)
    return overview


def _read_block(
    slide: Slide, overview: Overview, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Fill one block of the overview; where it cannot be read, its quarters, down to 8 pixels."""
    (top, left), (height, width) = corner, size
    here = np.s_[top : top + height, left : left + width]
    x = slide.bounds.x + left * MAP_MPP / slide.mpp.x
    y = slide.bounds.y + top * MAP_MPP / slide.mpp.y
    try:
        region = slide.read(x, y, (width, height), MAP_MPP)
    except ReadError:
        if max(size) <= 8:
            overview.readable[here] = False
            return
        for down, tall in ((0, height // 2), (height // 2, height - height // 2)):
            for right, wide in ((0, width // 2), (width // 2, width - width // 2)):
                if tall and wide:
                    _read_block(slide, overview, (top + down, left + right), (tall, wide))
        return
    overview.rgb[here] = region.rgb
    if region.coverage is not None:
        overview.covered[here] = region.coverage


def _some_pixels(rgb: NDArray[np.uint8], usable: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Every so many of the usable pixels (n, 3), at least `_GLASS_PIXELS` if there are."""
    step = max(1, int(np.count_nonzero(usable)) // _GLASS_PIXELS)
    parts, passed = [], 0
    for band in bands(len(rgb)):
        part = rgb[band.rows][usable[band.rows]]
        parts.append(part[-passed % step :: step].copy())
        passed += len(part)
    return np.concatenate(parts)


def glass_colour(rgb: NDArray[np.uint8], usable: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Intensity of bare glass: where the bright, colourless pixels of a picture (H, W, 3) crowd.

    Pure white counts as glass only when nothing else does: many scanners fill with it what they
    did not scan.
    """
    pixels = _some_pixels(rgb, usable)
    low, high = pixels.min(1), pixels.max(1)
    bright = pixels[(low > _GLASS_LEVEL) & (high - low < _GLASS_TINT)]
    glass = bright[bright.min(1) < 255]
    if len(glass) < max(20, len(pixels) // 100):
        return _PURE_WHITE
    middle = np.median(glass, axis=0)
    crowd = (np.abs(glass - middle) <= 5).all(1)
    if np.count_nonzero(crowd) < 0.4 * len(glass):
        return _PURE_WHITE
    red, green, blue = np.median(glass[crowd], axis=0)
    return float(red), float(green), float(blue)

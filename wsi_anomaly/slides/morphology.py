"""Growing and shrinking masks by a radius: exact, in linear time, in one byte a pixel.

SciPy's distance transform says more and takes forty bytes a pixel for it, which a worker cannot
spare on a large slide.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.slides.bands import bands

Mask = NDArray[np.bool_]


def grow(mask: Mask, radius_px: float) -> Mask:
    """Where a pixel of `mask` (H, W) lies no farther than `radius_px` (at most 250)."""
    out = np.zeros(mask.shape, np.bool_)
    if mask.any():
        _grow(np.ascontiguousarray(mask), float(radius_px), out)
    return out


def shrink(mask: Mask, radius_px: float) -> Mask:
    """Where every pixel within `radius_px` belongs to `mask` (H, W); beyond the picture all do."""
    return ~grow(~mask, radius_px)


def opened(mask: Mask, radius_px: float) -> Mask:
    """Keep the parts of `mask` (H, W) that a disk fits into."""
    return grow(shrink(mask, radius_px), radius_px)


def closed(mask: Mask, radius_px: float) -> Mask:
    """Add the gaps of `mask` (H, W) that no disk fits into."""
    margin = math.ceil(radius_px) + 1
    both = shrink(grow(np.pad(mask, margin), radius_px), radius_px)
    return both[margin:-margin, margin:-margin] | mask


def connected(mask: Mask, seeds: Mask) -> Mask:
    """Keep the parts of `mask` (H, W) that hold a seed."""
    components, count = ndimage.label(mask, np.ones((3, 3)))
    keep = np.zeros(count + 1, np.bool_)
    for band in bands(len(mask)):
        keep[components[band.rows][seeds[band.rows]]] = True
    return _kept(keep, components)


def without_small(mask: Mask, min_px: float) -> Mask:
    """Keep the parts of `mask` (H, W) that have at least `min_px` pixels."""
    components, count = ndimage.label(mask)
    sizes = np.zeros(count + 1, np.int64)
    for band in bands(len(mask)):
        sizes += np.bincount(components[band.rows].ravel(), minlength=count + 1)
    return _kept(sizes >= min_px, components)


def _kept(keep: NDArray[np.bool_], components: NDArray[np.int32]) -> Mask:
    """Where a component is kept, the ground never; by parts, as an index takes eight bytes."""
    keep[0] = False
    out = np.empty(components.shape, np.bool_)
    for band in bands(len(out)):
        np.take(keep, components[band.rows], out=out[band.rows])
    return out


@compiled()
def _grow(mask, radius, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Distance along the row first, then whether a row above or below is near enough."""
    height, width = mask.shape
    reach = int(radius)
    near = np.empty((height, width), np.uint8)
    for y in range(height):
        far = 255
        for x in range(width):
            far = 0 if mask[y, x] else min(far + 1, 255)
            near[y, x] = far
        far = 255
        for x in range(width - 1, -1, -1):
            far = 0 if mask[y, x] else min(far + 1, 255)
            near[y, x] = min(near[y, x], far)
    for y in range(height):
        line = out[y]
        for dy in range(-reach, reach + 1):
            if 0 <= y + dy < height:
                half = np.uint8(math.sqrt(radius * radius - dy * dy) + 1e-9)
                other = near[y + dy]
                for x in range(width):
                    line[x] |= other[x] <= half

"""Mask images: where a picture of the slide is not 0, there is the annotation."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from wsi_anomaly.annotations.outlines import Outline
from wsi_anomaly.core.errors import AnnotationError

_MAX_ASPECT_ERROR = 0.02  # a mask that differs by more was made for something else
_LARGEST_PIXELS = 200_000_000
_USUAL_PIXELS = 30_000_000


def outlines_from_mask(
    mask: NDArray[Any],
    level0_size: tuple[int, int],
    label: str = "",
    *,
    origin: tuple[float, float] = (0.0, 0.0),
) -> list[Outline]:
    """Outlines of a mask, exactly along its pixels: one for each connected piece, with holes.

    Parameters
    ----------
    mask
        (h, w), any scale, over exactly the area given; everything but 0 is inside. Pixels that
        meet in a corner only belong to different pieces.
    level0_size
        Width and height that the mask covers, level-0 pixels.
    label
        Label of the outlines.
    origin
        Level-0 position (x, y) of the mask's top left corner.

    Raises
    ------
    AnnotationError
        The mask has several channels, or other proportions than the area.
    """
    if mask.ndim != 2 or 0 in mask.shape:
        raise AnnotationError(
            f"A mask has one channel, not the shape {mask.shape}; save it as a grey image."
        )
    height, width = mask.shape
    ratio = (width / height) / (level0_size[0] / level0_size[1])
    rounding = 1 / min(mask.shape)  # half a pixel on each side of a small mask
    if abs(math.log(ratio)) > _MAX_ASPECT_ERROR + rounding:
        raise AnnotationError(
            f"The mask of {width} x {height} pixels does not cover a slide of "
            f"{level0_size[0]} x {level0_size[1]}; give a mask of the whole slide, at any scale."
        )
    scale = (level0_size[0] / width, level0_size[1] / height)
    return [
        Outline(label, shapely.transform(piece, lambda xy: xy * scale + origin))
        for piece in mask_polygons(mask != 0)
    ]


def read_mask(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a mask image (h, w): PNG, or TIFF, of whose levels one of reasonable size is taken.

    Raises
    ------
    AnnotationError
        The file is missing, no image, or too large.
    """
    path = Path(path)
    try:
        return _read_tiff(path) if path.suffix.lower() in (".tif", ".tiff") else _read_image(path)
    except AnnotationError:
        raise
    except OSError as error:
        reason = error.strerror or "it is no image"
        raise AnnotationError(
            f"{path} cannot be read ({reason}); check the path of the mask."
        ) from error
    except Exception as error:  # whatever a decoder raises on a damaged file
        raise AnnotationError(
            f"{path} is damaged ({' '.join(str(error).split())}); save the mask again."
        ) from error


def mask_polygons(inside: NDArray[np.bool_]) -> list[Polygon]:
    """Polygons of the 4-connected pieces of a mask (h, w), with holes, in its pixels, row by row.

    They run exactly along the pixels; those that meet in a corner only are apart.
    """
    padded = np.pad(inside, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]  # edges below and above a pixel
    upright = padded[1:-1, 1:] != padded[1:-1, :-1]
    lines = np.concatenate([_runs(across, upright), _runs(upright.T, across.T)[..., ::-1]])
    if not len(lines):
        return []
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(lines.astype(np.float64))))
    # The holes are faces as well: tell them by the pixel below the face's topmost left corner.
    found = []
    for face in faces:
        y, x = min((y, x) for x, y in face.exterior.coords)
        if inside[int(y), int(x)]:
            found.append(((y, x), face))
    return [face for _, face in sorted(found, key=lambda item: item[0])]


def rasterized(shape: Polygon, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of a mask (h, w) whose centres lie inside a polygon and outside its holes.

    Parameters
    ----------
    shape
        In pixels of the mask; may reach beyond it.
    size
        Height and width of the mask.
    """
    from skimage.draw import polygon2mask

    mask = np.zeros(size, bool)
    left, top, right, bottom = shape.bounds
    here = np.s_[
        max(0, int(top)) : max(0, int(bottom) + 1), max(0, int(left)) : max(0, int(right) + 1)
    ]
    window = mask[here]
    if window.size:
        corner = (here[0].start + 0.5, here[1].start + 0.5)
        rings = [np.asarray(ring.coords)[:, 1::-1] for ring in (shape.exterior, *shape.interiors)]
        outside, *holes = (polygon2mask(window.shape, ring - corner) for ring in rings)  # type: ignore[no-untyped-call]
        window[:] = outside
        for hole in holes:
            window &= ~hole
    return mask


def _runs(along: NDArray[np.bool_], crossing: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Find the ends (n, 2, 2), x and y, of horizontal edges joined where no other edge meets them.

    Parameters
    ----------
    along
        (h + 1, w) horizontal edges of pixels.
    crossing
        (h, w + 1) upright ones.
    """
    meets = np.zeros((along.shape[0], crossing.shape[1]), np.bool_)  # at the corners of pixels
    meets[:-1] |= crossing
    meets[1:] |= crossing
    first, last = along.copy(), along.copy()
    first[:, 1:] &= ~along[:, :-1] | meets[:, 1:-1]
    last[:, :-1] &= ~along[:, 1:] | meets[:, 1:-1]
    row, start = np.nonzero(first)
    end = np.nonzero(last)[1] + 1
    return np.stack([np.stack([start, row], 1), np.stack([end, row], 1)], 1)


def _read_image(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as image:
        _check_size(path, image.size[0] * image.size[1])
        single = image if image.mode in ("1", "L", "P", "I", "I;16", "F") else image.convert("L")
        return np.asarray(single)


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        sizes = [math.prod(level.shape) for level in levels]
        fitting = [i for i, size in enumerate(sizes) if size <= _USUAL_PIXELS]
        chosen = fitting[0] if fitting else len(levels) - 1
        _check_size(path, sizes[chosen])
        pixels = np.asarray(levels[chosen].asarray())
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        return np.asarray(pixels[..., :3].max(axis=2))
    return np.asarray(pixels.squeeze())


def _check_size(path: Path, pixels: int) -> None:
    if pixels > _LARGEST_PIXELS:
        raise AnnotationError(
            f"{path} has {pixels / 1e6:,.0f} megapixels, more than a mask needs; "
            "save it at a lower resolution."
        )

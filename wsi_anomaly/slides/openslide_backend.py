"""Slides through OpenSlide: every scanner format that it knows."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import openslide

from wsi_anomaly.core.errors import NotASlideError, SlideError
from wsi_anomaly.core.staging import where_read
from wsi_anomaly.slides.base import (
    MAX_SIDE_PX,
    READERS,
    Bounds,
    Mpp,
    ReadError,
    Region,
    Slide,
    SlideInfo,
)
from wsi_anomaly.slides.decoding import MAX_TILE_BYTES
from wsi_anomaly.slides.levels import exact_levels
from wsi_anomaly.slides.physical import find_mpp, mpp_problem, objective_power
from wsi_anomaly.slides.tiff_pictures import CONVERT
from wsi_anomaly.slides.tile_cache import CACHE_BYTES
from wsi_anomaly.slides.timeout import HangingError

NAME = "openslide"


@READERS.register(NAME)
class OpenSlideSlide(Slide):
    """A slide read by OpenSlide.

    OpenSlide's handle is dead after its first error, so every error opens a new one.
    """

    def __init__(self, path: Path, *, mpp: Mpp | float | None = None) -> None:
        self._handle: openslide.OpenSlide | None = _open(path)
        super().__init__(path, _info(path, self._handle, mpp))

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Pixels of one level as they are stored; see :meth:`Slide.read_level`."""
        try:
            return self._patiently(lambda: self._read_level(level, x, y, width, height))
        except SlideError as error:
            if isinstance(error.__cause__, HangingError):
                self._handle = None  # in use by the thread that hangs: left to it
            raise

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        if self._handle is None:
            self._handle = _open(self.path)
        handle = self._handle
        # OpenSlide divides by its own figure, so that it is the one that leads back to x and y.
        downsample = handle.level_downsamples[level]
        corner = (round(x * downsample), round(y * downsample))
        try:
            rgba = np.asarray(handle.read_region(corner, level, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            with contextlib.suppress(openslide.OpenSlideError):
                handle.close()
            if self._handle is handle:  # a thread that has hung does not disturb those after it
                self._handle = None
            raise ReadError(
                f"{self.path}: level {level} at {corner} cannot be read: {error}."
            ) from error
        if handle.level_dimensions[level] != self.level_dimensions[level]:  # padded: no slide there
            right, bottom = self.level_dimensions[level]
            rgba = rgba.copy()
            rgba[max(0, bottom - y) :] = 0
            rgba[:, max(0, right - x) :] = 0
        return composite(rgba, self.background)


def composite(rgba: np.ndarray, background: tuple[int, int, int]) -> Region:
    """Lay pixels (H, W, 4) on the background; transparent is where nothing was scanned."""
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return Region(np.ascontiguousarray(rgba[..., :3]))
    weight = alpha[..., None].astype(np.float32) / 255
    rgb = rgba[..., :3] * weight + np.array(background, np.float32) * (1 - weight)
    return Region(np.rint(rgb).astype(np.uint8), alpha >= 128)


def _open(path: Path) -> openslide.OpenSlide:
    file = where_read(path)
    try:
        handle = openslide.OpenSlide(file)
        handle.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
        return handle
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise NotASlideError(
            f"{path} is no whole-slide image that OpenSlide knows; convert it to a tiled, "
            "pyramidal TIFF or leave it out."
        ) from error
    except (openslide.OpenSlideError, OSError) as error:
        reason = " ".join(str(error).removeprefix(f"Reading {file}: ").split())
        raise NotASlideError(
            f"{path} cannot be opened as a slide ({reason}); copy it again or leave it out."
        ) from error


def _info(path: Path, handle: openslide.OpenSlide, mpp: Mpp | float | None) -> SlideInfo:
    properties = dict(handle.properties)
    width, height = handle.dimensions
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise NotASlideError(
            f"{path} is damaged: it claims {width} x {height} pixels, which no slide has; copy it "
            "again or leave it out."
        )
    pieces = [_tile_size(properties, level) for level in range(handle.level_count)]
    for tile in filter(None, pieces):
        if 4 * math.prod(tile) > MAX_TILE_BYTES:
            raise NotASlideError(
                f"{path} cannot be used: it holds {tile[0]} x {tile[1]} pixels in one compressed "
                f"piece, too much to decode at once; {CONVERT}."
            )
    reported = zip(handle.level_dimensions, handle.level_downsamples, pieces, strict=True)
    levels = exact_levels((width, height), reported)
    return SlideInfo(
        width=width,
        height=height,
        level_dimensions=tuple(size for _, size in levels),
        level_downsamples=tuple(downsample for downsample, _ in levels),
        mpp=find_mpp(properties, mpp),
        mpp_problem=mpp_problem(properties),
        bounds=_bounds(properties, width, height),
        background=_background(properties),
        objective_power=objective_power(properties),
        properties=properties,
    )


def _tile_size(properties: dict[str, str], level: int) -> tuple[int, int] | None:
    try:
        width, height = (
            int(properties[f"openslide.level[{level}].tile-{side}"]) for side in ("width", "height")
        )
    except (KeyError, ValueError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _bounds(properties: dict[str, str], width: int, height: int) -> Bounds:
    names = ("x", "y", "width", "height")
    try:
        x, y, w, h = (int(properties[f"openslide.bounds-{name}"]) for name in names)
    except (KeyError, ValueError):
        return Bounds(0, 0, width, height)
    x, y = max(0, x), max(0, y)
    w, h = min(w, width - x), min(h, height - y)
    return Bounds(x, y, w, h) if w > 0 and h > 0 else Bounds(0, 0, width, height)


def _background(properties: dict[str, str]) -> tuple[int, int, int]:
    text = properties.get("openslide.background-color", "FFFFFF")
    try:
        value = int(text, 16)
    except ValueError:
        value = 0xFFFFFF
    return (value >> 16) & 255, (value >> 8) & 255, value & 255

"""Slides of the TIFF family, straight from their compressed tiles.

The pixels are OpenSlide's, several times sooner: each compressed tile is decoded once and kept
while it is needed, and nothing is composed or converted on the way. Two differences, both meant:
a tile whose stream is damaged is an error (OpenSlide lets a zeroed stretch pass as a picture), and
a level of 2221 of 4443 pixels is read without OpenSlide's shift of a fraction of a pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import NotASlideError, SlideError
from wsi_anomaly.slides.base import (
    READERS,
    RGB,
    Bounds,
    Mpp,
    ReadError,
    Region,
    Slide,
    SlideInfo,
)
from wsi_anomaly.slides.openslide_backend import exact_downsample
from wsi_anomaly.slides.patience import HangingError
from wsi_anomaly.slides.physical import find_mpp, objective_power
from wsi_anomaly.slides.sources import Source, open_source
from wsi_anomaly.slides.tiff_structure import (
    DamagedError,
    LayoutError,
    TiffLevel,
    TiffStructure,
    read_structure,
)
from wsi_anomaly.slides.tile_cache import TileCache

_Key = tuple[int, int, int]  # level, row, column of a tile

NAME = "tiff"
_WHITE = (255, 255, 255)
_DAMAGED = np.zeros((0, 0, 3), np.uint8)  # stands in the cache for a tile that cannot be decoded


@READERS.register(NAME)
class TiffSlide(Slide):
    """A slide whose compressed tiles are read and decoded directly.

    Safe for threads; a damaged tile fails by itself.

    Raises
    ------
    LayoutError
        It is not a TIFF, or its layout is its vendor's own; OpenSlide may know it.
    NotASlideError
        It is damaged.
    """

    def __init__(self, path: Path, *, mpp: Mpp | float | None = None) -> None:
        self._source: Source | None = _open(path)
        try:
            structure = _structure(path, self._source)
        except BaseException:
            self._source.close()
            raise
        self._levels = structure.levels
        self._cache = TileCache()
        self._hung: set[_Key] = set()  # each costs its waiting only once
        super().__init__(path, _info(structure, mpp))

    def close(self) -> None:
        """Close the file and let go of decoded tiles."""
        self._cache.clear()
        if self._source is not None:
            self._source.close()
            self._source = None

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Pixels of one level as they are stored; see :meth:`Slide.read_level`."""
        tile: list[_Key] = []
        try:
            return self._patiently(
                lambda: self._read_level(level, x, y, width, height, tile), lambda: tuple(tile)
            )
        except SlideError as error:
            if isinstance(error.__cause__, HangingError):
                self._hung.update(tile)
            raise

    def _read_level(
        self, level: int, x: int, y: int, width: int, height: int, under_way: list[_Key]
    ) -> Region:
        """Read; `under_way` always holds the tile that is being decoded."""
        tiles = self._levels[level]
        rgb = np.empty((height, width, 3), np.uint8)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, tiles.width), min(y + height, tiles.height)
        coverage: NDArray[np.bool_] | None = None
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            rgb[:] = self.background
            coverage = np.zeros((height, width), bool)
            coverage[max(top - y, 0) : max(bottom - y, 0), max(left - x, 0) : max(right - x, 0)] = 1
            if left >= right or top >= bottom:
                return Region(rgb, coverage)
        for row in range(top // tiles.tile_height, (bottom - 1) // tiles.tile_height + 1):
            above = row * tiles.tile_height
            first, last = max(top, above), min(bottom, above + tiles.tile_height)
            for column in range(left // tiles.tile_width, (right - 1) // tiles.tile_width + 1):
                before = column * tiles.tile_width
                start, end = max(left, before), min(right, before + tiles.tile_width)
                here = np.s_[first - y : last - y, start - x : end - x]
                under_way[:] = [(level, row, column)]
                tile = self._tile(level, row, column)
                if tile is None:
                    rgb[here] = self.background
                    if coverage is None:
                        coverage = np.ones((height, width), bool)
                    coverage[here] = False
                else:
                    rgb[here] = tile[first - above : last - above, start - before : end - before]
        return Region(rgb, coverage)

    def _tile(self, level: int, row: int, column: int) -> RGB | None:
        """Return the pixels of a tile; None where nothing was scanned."""
        key = (level, row, column)
        if key in self._hung:
            raise ReadError(f"{self.path} cannot be read: a tile of it has hung before.")
        tile = self._cache.get(key)
        if tile is None:
            tiles = self._levels[level]
            if not tiles.byte_counts[:, row, column].all():
                return None
            try:
                tile = self._decode(tiles, row, column)
            except OSError as error:
                raise ReadError(f"{self.path} cannot be read: {error}.") from error
            except Exception:  # noqa: BLE001 - codecs raise errors of many kinds
                tile = _DAMAGED
            self._cache.put(key, tile)
        if tile is _DAMAGED:
            raise ReadError(
                f"{self.path}: the compressed tile in row {row}, column {column} of level {level} "
                "is damaged; copy the file again."
            )
        return tile

    def _decode(self, tiles: TiffLevel, row: int, column: int) -> RGB:
        if self._source is None:
            self._source = _open(self.path)
        index = row * tiles.offsets.shape[2] + column
        planes = []
        for plane, decode in enumerate(tiles.decoders):
            size = int(tiles.byte_counts[plane, row, column])
            data = self._source.read(int(tiles.offsets[plane, row, column]), size)
            if len(data) < size:
                raise ValueError("the file ends inside it")
            planes.append(decode(data, index + plane * tiles.offsets[0].size))
        pixels = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        needed = (
            min(tiles.tile_height, tiles.height - row * tiles.tile_height),
            min(tiles.tile_width, tiles.width - column * tiles.tile_width),
        )
        if pixels.shape[0] < needed[0] or pixels.shape[1] < needed[1] or pixels.shape[2] != 3:
            raise ValueError("it is smaller than it should be")
        pixels.flags.writeable = False
        return pixels


def _open(path: Path) -> Source:
    try:
        return open_source(path)
    except OSError as error:
        raise NotASlideError(f"{path} cannot be opened: {error.strerror or error}.") from error


def _structure(path: Path, source: Source) -> TiffStructure:
    try:
        with source.open() as file:
            return read_structure(file)
    except DamagedError as error:
        raise NotASlideError(
            f"{path} is damaged: {error}; copy it again or leave it out."
        ) from error


def _info(structure: TiffStructure, mpp: Mpp | float | None) -> SlideInfo:
    full = structure.levels[0]
    size = (full.width, full.height)
    dimensions = tuple((level.width, level.height) for level in structure.levels)
    properties = structure.properties
    return SlideInfo(
        width=full.width,
        height=full.height,
        level_dimensions=dimensions,
        level_downsamples=tuple(
            exact_downsample(size, (w, h), (full.width / w + full.height / h) / 2)
            for w, h in dimensions
        ),
        mpp=find_mpp(properties, mpp),
        bounds=_bounds(full),
        background=_WHITE,
        objective_power=objective_power(properties),
        properties=properties,
    )


def _bounds(full: TiffLevel) -> Bounds:
    """Find the rectangle of tiles that were scanned, as OpenSlide 4.0.1 does."""
    scanned: NDArray[np.bool_] = np.all(full.byte_counts > 0, axis=0)
    rows, columns = np.flatnonzero(scanned.any(1)), np.flatnonzero(scanned.any(0))
    if not len(rows):
        return Bounds(0, 0, full.width, full.height)
    x, y = int(columns[0]) * full.tile_width, int(rows[0]) * full.tile_height
    right = min(full.width, (int(columns[-1]) + 1) * full.tile_width)
    bottom = min(full.height, (int(rows[-1]) + 1) * full.tile_height)
    return Bounds(x, y, right - x, bottom - y)


__all__ = ["NAME", "LayoutError", "TiffSlide"]

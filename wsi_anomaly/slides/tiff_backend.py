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

from wsi_anomaly.core.errors import NotASlideError
from wsi_anomaly.slides.base import READERS, RGB, Bounds, Mpp, SlideInfo
from wsi_anomaly.slides.jpeg import CUT_OFF, ZEROED
from wsi_anomaly.slides.levels import exact_levels
from wsi_anomaly.slides.physical import find_mpp, mpp_problem, objective_power
from wsi_anomaly.slides.sources import Source, open_source
from wsi_anomaly.slides.tiff_pictures import StoredError
from wsi_anomaly.slides.tiff_structure import (
    DamagedError,
    LayoutError,
    TiffLevel,
    TiffStructure,
    read_structure,
)
from wsi_anomaly.slides.tiled import TiledSlide, TileGrid

NAME = "tiff"
_WHITE = (255, 255, 255)
_TRIED_TILES = 16
_PROVEN = frozenset({CUT_OFF, ZEROED})  # OpenSlide makes pictures of what is not there


@READERS.register(NAME)
class TiffSlide(TiledSlide):
    """A slide whose compressed tiles are read and decoded directly.

    Safe for threads; a damaged tile fails by itself.

    Raises
    ------
    LayoutError
        It is not a TIFF, or its layout is its vendor's own; OpenSlide may know it.
    NotASlideError
        It is damaged.
    """

    has_scenes = True

    def __init__(
        self, path: Path, *, mpp: Mpp | float | None = None, scene: int | None = None
    ) -> None:
        self._source: Source | None = _open(path)
        try:
            structure = _structure(path, self._source, scene)
        except BaseException:
            self._source.close()
            raise
        self._levels = structure.levels
        info = _info(structure, mpp)
        grids = tuple(
            TileGrid(width, height, level.tile_width, level.tile_height)
            for level, (width, height) in zip(structure.levels, info.level_dimensions, strict=True)
        )
        super().__init__(path, info, grids, scene=scene)

    def close(self) -> None:
        """Close the file and let go of decoded tiles."""
        super().close()
        if self._source is not None:
            self._source.close()
            self._source = None

    def unknown_coding(self) -> list[tuple[int, int]]:
        """Find out whether none of the tiles can be decoded though none is proven to be damaged.

        Returns
        -------
        Corners of tiles that were tried, level-0 pixels; empty once one was decoded, or is damaged
        beyond doubt.
        """
        tried: list[tuple[int, int]] = []
        for level in reversed(range(len(self._levels))):
            tiles = self._levels[level]
            stored = np.argwhere((tiles.byte_counts > 0).all(axis=0))
            some = np.linspace(0, len(stored) - 1, min(len(stored), _TRIED_TILES)).astype(int)
            for row, column in stored[some].tolist():
                try:
                    self._decode(level, row, column)
                except OSError:
                    return []
                except Exception as error:  # noqa: BLE001 - codecs raise errors of many kinds
                    if str(error) in _PROVEN:
                        return []
                else:
                    return []
                scale = self.level_downsamples[level]
                corner = (column * tiles.tile_width, row * tiles.tile_height)
                tried.append((int(corner[0] * scale), int(corner[1] * scale)))
        return tried

    def _decode(self, level: int, row: int, column: int) -> RGB | None:
        tiles = self._levels[level]
        if not tiles.byte_counts[:, row, column].all():
            return None
        if self._source is None:
            self._source = _open(self.path)
        index = row * tiles.offsets.shape[2] + column
        planes = []
        for plane, decode in enumerate(tiles.decoders):
            size = int(tiles.byte_counts[plane, row, column])
            data = self._source.read(int(tiles.offsets[plane, row, column]), size)
            if len(data) < size:
                raise ValueError(CUT_OFF)
            planes.append(decode(data, index + plane * tiles.offsets[0].size))
        pixels = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return pixels


def _open(path: Path) -> Source:
    try:
        return open_source(path)
    except OSError as error:
        raise NotASlideError(f"{path} cannot be opened: {error.strerror or error}.") from error


def _structure(path: Path, source: Source, scene: int | None) -> TiffStructure:
    try:
        with source.open() as file:
            return read_structure(file, path.name, scene)
    except StoredError as error:
        raise NotASlideError(f"{path} cannot be used: {error}; {error.remedy}.") from error
    except DamagedError as error:
        raise NotASlideError(
            f"{path} is damaged: {error}; copy it again or leave it out."
        ) from error


def _info(structure: TiffStructure, mpp: Mpp | float | None) -> SlideInfo:
    full = structure.levels[0]
    size = (full.width, full.height)
    levels = exact_levels(
        size,
        [
            (
                (level.width, level.height),
                (full.width / level.width + full.height / level.height) / 2,
                (level.tile_width, level.tile_height),
            )
            for level in structure.levels
        ],
    )
    properties = structure.properties
    return SlideInfo(
        width=full.width,
        height=full.height,
        level_dimensions=tuple(dimensions for _, dimensions in levels),
        level_downsamples=tuple(downsample for downsample, _ in levels),
        mpp=find_mpp(properties, mpp),
        mpp_problem=mpp_problem(properties),
        bounds=_bounds(full),
        background=_WHITE,
        objective_power=objective_power(properties),
        properties=properties,
        left_out=structure.left_out,
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

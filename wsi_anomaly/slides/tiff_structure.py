"""What a TIFF holds: its pyramid, where its compressed tiles lie, and what it says of itself.

Only layouts that need no vendor's knowledge are taken: Aperio SVS, OME-TIFF, and any other TIFF
whose tiles (or strips) make up the picture without overlap. The rest is left to OpenSlide.
"""

from __future__ import annotations

import logging
import math
import os
import struct
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_anomaly.slides.base import MAX_SIDE_PX
from wsi_anomaly.slides.decoding import (
    MAX_TILE_BYTES,
    Decoder,
    UnknownCodingError,
    decoder_of,
    used_bits,
)
from wsi_anomaly.slides.levels import is_padded
from wsi_anomaly.slides.tiff_pictures import StoredError, choose, pictures_of

_VENDORS = frozenset({"avs", "bif", "eer", "ndpi", "ndtiff", "philips", "qpi", "scn", "ventana"})
_MAX_TILE_PX = 1 << 16
_VIRTUAL_STRIP_BYTES = 1_000_000  # an uncompressed strip is read in parts of this size
_UNITS = {1: "", 2: "inch", 3: "centimeter"}


_READING: ContextVar[bool] = ContextVar("reading", default=False)


def _not_while_reading(_record: logging.LogRecord) -> bool:
    """Keep quiet what tifffile logs in a thread that reads here: it is raised, in one sentence."""
    return not _READING.get()


# The logger is the whole program's: what it logs in other threads is left alone.
logging.getLogger("tifffile").addFilter(_not_while_reading)


class LayoutError(UnknownCodingError):
    """The direct reader does not take this file; OpenSlide may. The text says why."""


class DamagedError(Exception):
    """The file is a TIFF, but what it says of itself cannot be. The text says what."""


@dataclass(frozen=True, eq=False)
class TiffLevel:
    """One picture of the pyramid, cut into tiles; a strip is a tile as wide as the picture.

    Attributes
    ----------
    offsets, byte_counts
        (planes, rows, columns) int64, where each tile's bytes lie; a count of 0: never scanned.
        One plane, or three when red, green and blue are stored apart.
    decoders
        One for each plane.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: NDArray[np.int64]
    byte_counts: NDArray[np.int64]
    decoders: tuple[Decoder, ...]


@dataclass(frozen=True)
class TiffStructure:
    """A slide's levels, finest first, and its properties, named as OpenSlide names them.

    Attributes
    ----------
    left_out
        What else the file holds and is not looked at, a phrase each.
    """

    levels: tuple[TiffLevel, ...]
    properties: dict[str, str]
    left_out: tuple[str, ...] = ()


def read_structure(file: IO[bytes], name: str = "", scene: int | None = None) -> TiffStructure:
    """Parse a TIFF.

    Parameters
    ----------
    file
        The file, from its beginning.
    name
        Its name, under which an OME set knows it.
    scene
        Which of several pictures is the slide, from 1; None: the largest.

    Raises
    ------
    LayoutError
        It is not a TIFF, or one that this reader does not take.
    StoredError
        Its pixels cannot be used, nor by OpenSlide.
    DamagedError
        It is one, but damaged.
    """
    reading = _READING.set(True)
    try:
        return _parsed(file, name, scene)
    finally:
        _READING.reset(reading)


def _parsed(file: IO[bytes], name: str, scene: int | None) -> TiffStructure:
    try:
        tif = tifffile.TiffFile(file)
    except tifffile.TiffFileError as error:
        raise LayoutError("it is no TIFF") from error
    except Exception as error:  # a damaged header fails in many ways
        raise DamagedError(f"its header cannot be read ({error})") from error
    try:
        structure = _structure(tif, name, scene)
        _check_end(tif, structure, file.seek(0, os.SEEK_END))
        return structure
    except UnknownCodingError as error:
        raise LayoutError(str(error)) from error
    except (DamagedError, StoredError):
        raise
    except Exception as error:
        raise DamagedError(f"its directories cannot be read ({error})") from error


def _check_end(tif: tifffile.TiffFile, structure: TiffStructure, size: int) -> None:
    """Refuse a file that was cut off: half a slide must not pass for a whole one."""
    last, form = tif.pages[-1], tif.tiff
    tif.filehandle.seek(last.offset)
    tags = struct.unpack(form.tagnoformat, tif.filehandle.read(form.tagnosize))[0]
    tif.filehandle.seek(last.offset + form.tagnosize + tags * form.tagsize)
    following = tif.filehandle.read(form.offsetsize)
    if len(following) < form.offsetsize or any(following):
        raise DamagedError("it is cut off, or its directories are")
    needed = max(int((level.offsets + level.byte_counts).max()) for level in structure.levels)
    if needed > size:
        raise DamagedError(
            f"it is cut off, at least {needed - size:,} of {needed:,} bytes are gone"
        )


def _structure(tif: tifffile.TiffFile, name: str, scene: int | None) -> TiffStructure:
    first: Any = tif.pages[0]
    vendor = _VENDORS & {flag.lower() for flag in tif.flags}
    software = str(first.software or "")
    if vendor or software.startswith(("MedScan", "Philips")):
        raise LayoutError("its layout is its vendor's own")
    picture, left_out = choose(pictures_of(tif, name), scene)
    properties = _tag_properties(picture.levels[0][0].keyframe)
    if tif.is_svs:
        properties |= _aperio_properties(first.description)
    properties |= picture.properties
    levels = [_level(pages) for pages in picture.levels]
    full = levels[0]
    levels = [
        level
        for level in levels
        if level is full or _same_proportions(full, level)  # else another picture: label, map
    ]
    if tif.is_svs and any((level.byte_counts == 0).any() for level in levels[1:]):
        raise LayoutError("tiles are missing, which Aperio fills from a finer level")
    levels = sorted(levels, key=lambda level: -level.width)
    return TiffStructure(tuple(levels), properties, tuple(left_out))


def _check_pixels(pages: Sequence[Any]) -> None:
    page = pages[0].keyframe
    samples = len(pages) * int(page.samplesperpixel)
    if page.dtype is None or page.dtype.kind != "u" or page.bitspersample > 16:
        kind = "floating point numbers" if page.sampleformat == 3 else "numbers, not as 8 bits"
        raise StoredError(f"its pixels are stored as {page.bitspersample}-bit {kind}")
    if page.dtype != np.uint8 or page.bitspersample != 8:
        used = used_bits(page)
        if used is not None:
            raise StoredError(f"its pixels use {used} of the {page.bitspersample} bits a colour")
        raise LayoutError(f"its pixels have {page.bitspersample} bits, not 8 a colour")
    if samples not in {1, 3} or (len(pages) > 1 and page.samplesperpixel != 1):
        raise LayoutError(f"its pixels have {samples} samples, not red, green and blue")


def _level(pages: Sequence[Any]) -> TiffLevel:
    page = pages[0].keyframe
    _check_pixels(pages)
    width, height = int(page.imagewidth), int(page.imagelength)
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise DamagedError(f"it claims {width} x {height} pixels, which no slide has")
    planes = 3 if page.planarconfig == 2 else 1
    if page.is_tiled:
        tile_width, tile_height = int(page.tilewidth), int(page.tilelength)
    else:
        tile_width, tile_height = width, min(int(page.rowsperstrip), height)
    if min(tile_width, tile_height) < 1 or (
        page.is_tiled and max(tile_width, tile_height) > _MAX_TILE_PX
    ):
        raise DamagedError(f"it claims tiles of {tile_width} x {tile_height} pixels")
    rows, columns = math.ceil(height / tile_height), math.ceil(width / tile_width)
    count = planes * rows * columns
    for part in pages:
        listed = min(len(part.dataoffsets), len(part.databytecounts))
        if listed < count:
            raise DamagedError(
                f"{width} x {height} pixels need {count} tiles, and it lists {listed}"
            )

    def table(name: str) -> NDArray[np.int64]:
        values = [np.array(getattr(part, name)[:count], np.int64) for part in pages]
        return np.concatenate(values).reshape(-1, rows, columns)

    level = TiffLevel(
        width,
        height,
        tile_width,
        tile_height,
        table("dataoffsets"),
        table("databytecounts"),
        tuple(decoder_of(part.keyframe) for part in pages) * planes,
    )
    if not page.is_tiled and page.compression == 1 and rows == 1:
        return _in_virtual_strips(level, width * int(page.samplesperpixel) // planes)
    if tile_width * tile_height * 3 > MAX_TILE_BYTES:
        raise StoredError(  # OpenSlide would decode it, in gigabytes
            f"it holds {tile_width} x {tile_height} pixels in one compressed piece, too much to "
            "decode at once"
        )
    return level


def _in_virtual_strips(level: TiffLevel, line_bytes: int) -> TiffLevel:
    """Cut a picture that is stored in one uncompressed piece into strips of bounded size."""
    rows = max(1, min(level.height, _VIRTUAL_STRIP_BYTES // line_bytes))
    tops = np.arange(0, level.height, rows, dtype=np.int64)
    size = np.minimum(rows, level.height - tops) * line_bytes
    return replace(
        level,
        tile_height=rows,
        offsets=level.offsets + (tops * line_bytes)[None, :, None],
        byte_counts=np.where(level.byte_counts > 0, size[None, :, None], 0),
    )


def _same_proportions(full: TiffLevel, level: TiffLevel) -> bool:
    """Whether a page is a reduced copy: sizes are rounded by a pixel, or padded to whole tiles."""
    tile = (level.tile_width, level.tile_height)
    if is_padded((full.width, full.height), (level.width, level.height), tile):
        return True
    x, y = full.width / level.width, full.height / level.height
    slack = max(x, y) / min(level.width, level.height) * 1.5
    return x >= 1 and abs(x - y) <= max(0.01 * x, slack)


def _tag_properties(page: Any) -> dict[str, str]:
    properties = {}
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        if tag is not None and isinstance(tag.value, tuple) and tag.value[1]:
            properties[f"tiff.{name}"] = repr(tag.value[0] / tag.value[1])
    unit = page.tags.get("ResolutionUnit")
    properties["tiff.ResolutionUnit"] = _UNITS.get(int(unit.value) if unit else 2, "")
    for name in ("ImageDescription", "Software", "Make", "Model", "DateTime"):
        tag = page.tags.get(name)
        if tag is not None and isinstance(tag.value, str):
            properties[f"tiff.{name}"] = tag.value
    return properties


def _aperio_properties(description: str) -> dict[str, str]:
    """Read ``name = value`` pairs, set apart by bars, of an Aperio description."""
    properties = {}
    for pair in description.split("|")[1:]:
        name, equals, value = pair.partition("=")
        if equals:
            properties[f"aperio.{name.strip()}"] = value.strip()
    return properties

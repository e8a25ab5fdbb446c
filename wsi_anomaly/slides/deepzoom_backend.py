"""DeepZoom trees: ``HE.dzi`` beside ``HE_files/LEVEL/COLUMN_ROW.jpeg``, here or at an address.

The format that web viewers serve (OpenSeadragon, ``vips dzsave``). Level numbers count up to full
resolution by doubling; tiles share `overlap` pixels with their neighbours, which are cut off here.
It has no place for a pixel size: that comes from ``--mpp``.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import imagecodecs
import numpy as np

from wsi_anomaly.core.errors import NotASlideError
from wsi_anomaly.core.file_names import output_name
from wsi_anomaly.core.remote import is_remote, open_remote, reason_of, remote_place, url_of
from wsi_anomaly.slides.base import MAX_SIDE_PX, READERS, RGB, Bounds, Mpp, SlideInfo
from wsi_anomaly.slides.jpeg import damage
from wsi_anomaly.slides.physical import find_mpp
from wsi_anomaly.slides.tiled import TiledSlide, TileGrid

NAME = "deepzoom"
SUFFIX = ".dzi"

_WHITE = (255, 255, 255)
_LARGEST_XML_BYTES = 1 << 16
_LARGEST_TILE_BYTES = 1 << 26
_LARGEST_TILE_PX = 1 << 13
_SMALLEST_LEVEL_PX = 256  # coarser levels serve nobody
_IDENTITY_TILES = 64
_FORMATS = {"jpeg", "jpg", "png"}


@dataclass(frozen=True)
class DeepZoomLayout:
    """What a ``.dzi`` file says; lengths in full-resolution pixels."""

    width: int
    height: int
    tile_size: int
    overlap: int
    suffix: str

    @property
    def finest_level(self) -> int:
        """Number of the level of full resolution."""
        return (max(self.width, self.height) - 1).bit_length()

    def grid(self, level: int) -> TileGrid:
        """Tiles of the level of this number."""
        scale = 1 << (self.finest_level - level)
        return TileGrid(
            -(-self.width // scale), -(-self.height // scale), self.tile_size, self.tile_size
        )

    def useful_levels(self) -> list[int]:
        """Numbers of the levels worth reading, finest first."""
        numbers = [self.finest_level]
        while numbers[-1] > 0:
            coarser = self.grid(numbers[-1] - 1)
            if max(coarser.width, coarser.height) < _SMALLEST_LEVEL_PX:
                break
            numbers.append(numbers[-1] - 1)
        return numbers

    def count(self, level: int) -> tuple[int, int]:
        """Rows and columns of tiles of a level."""
        grid = self.grid(level)
        return -(-grid.height // self.tile_size), -(-grid.width // self.tile_size)


class _Tree:
    """The files of a DeepZoom image, wherever they lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remote = is_remote(path)
        self._system: Any = None
        if self.remote:
            self._system, inside = remote_place(path)
            self._folder = inside[: -len(SUFFIX)] + "_files"
        self.layout = self._read_layout()

    def tile(self, level: int, row: int, column: int) -> bytes | None:
        """Compressed tile; None where there is no such file; OSError when it cannot be read."""
        name = f"{level}/{column}_{row}.{self.layout.suffix}"
        try:
            if self.remote:
                return bytes(self._system.cat_file(f"{self._folder}/{name}"))
            file = self.path.with_name(f"{self.path.stem}_files") / name
            if file.stat().st_size > _LARGEST_TILE_BYTES:
                return b""
            return file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception as error:  # fsspec's file systems raise errors of many kinds
            raise OSError(reason_of(error)) from error

    def _read_layout(self) -> DeepZoomLayout:
        shown = url_of(self.path) if self.remote else str(self.path)
        try:
            with open_remote(self.path) if self.remote else self.path.open("rb") as file:
                text = file.read(_LARGEST_XML_BYTES + 1)
        except OSError as error:
            raise NotASlideError(
                f"{shown} cannot be opened ({reason_of(error)}); check its path and permissions."
            ) from error
        try:
            return _parse(text)
        except (ValueError, expat.ExpatError) as error:
            raise NotASlideError(
                f"{shown} is no DeepZoom description ({reason_of(error)}); save it again or leave "
                "it out."
            ) from error


@READERS.register(NAME)
class DeepZoomSlide(TiledSlide):
    """A DeepZoom tree. Safe for threads; a missing or damaged tile fails by itself.

    A tile that is missing is damage, not glass: what lies there is never taken for normal.

    Raises
    ------
    NotASlideError
        It is no DeepZoom description, or none of its tiles is there.
    """

    backend = NAME

    def __init__(self, path: Path, *, mpp: Mpp | float | None = None) -> None:
        self._tree = _Tree(path)
        layout = self._tree.layout
        self._numbers = layout.useful_levels()
        grids = tuple(layout.grid(number) for number in self._numbers)
        if all(tile is None for tile in self._some_tiles()):
            folder = path.with_name(f"{path.stem}_files")
            raise NotASlideError(
                f"{url_of(path) if self._tree.remote else path} has no tiles: {folder.name} must "
                "lie beside it; copy that folder too."
            )
        super().__init__(path, _info(layout, grids, mpp), grids)
        self.name = output_name(path)

    def _some_tiles(self) -> Iterator[bytes | None]:
        for number in reversed(self._numbers):
            rows, columns = self._tree.layout.count(number)
            yield self._tree.tile(number, rows // 2, columns // 2)

    def _decode(self, level: int, row: int, column: int) -> RGB:
        data = self._tree.tile(self._numbers[level], row, column)
        if not data:
            raise ValueError("it is missing")
        return decode_tile(data, self._tree.layout, self._grids[level], row, column)


def decode_tile(data: bytes, layout: DeepZoomLayout, grid: TileGrid, row: int, column: int) -> RGB:
    """Decode a tile and cut its overlap off.

    Returns
    -------
    (h, w, 3) uint8, the part of the level that this tile alone stands for.

    Raises
    ------
    Exception
        It is damaged, or of another size than its place: a tile of another image.
    """
    room = 2 * (layout.tile_size + 2 * layout.overlap) ** 2
    if layout.suffix == "png":
        if math.prod(struct.unpack(">II", data[16:24].ljust(8, b"\xff"))) > room:
            raise ValueError("it claims more pixels than its place has")
        pixels = imagecodecs.png_decode(data)
        pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
    else:
        reason = damage(data, most_px=room)
        if reason:
            raise ValueError(reason)
        pixels = imagecodecs.jpeg8_decode(data, outcolorspace="rgb")
    before = layout.overlap if row else 0, layout.overlap if column else 0
    height, width = grid.size_of(row, column)
    after = (
        min(layout.overlap, grid.height - row * grid.tile_height - height),
        min(layout.overlap, grid.width - column * grid.tile_width - width),
    )
    expected = before[0] + height + after[0], before[1] + width + after[1]
    if pixels.shape[:2] != expected or pixels.dtype != np.uint8:
        raise ValueError("it is not of the size of its place")
    return np.ascontiguousarray(
        pixels[before[0] : before[0] + height, before[1] : before[1] + width]
    )


def deepzoom_fingerprint(path: Path) -> str:
    """Identity of a DeepZoom tree: 16 hexadecimal digits of its description and its pixels.

    The description alone is the same for any two images of equal size. Hashed with it are all
    tiles of the finest level that has at most 64, which show the whole slide.

    Raises
    ------
    OSError
        A tile cannot be read.
    NotASlideError
        It is no DeepZoom tree.
    """
    tree = _Tree(path)
    layout = tree.layout
    level = layout.finest_level
    while math.prod(layout.count(level)) > _IDENTITY_TILES:
        level -= 1
    digest = hashlib.sha256(repr(layout).encode())
    rows, columns = layout.count(level)
    for row in range(rows):
        for column in range(columns):
            data = tree.tile(level, row, column)
            digest.update(b"missing" if data is None else hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def _parse(text: bytes) -> DeepZoomLayout:
    """Read the description; without a document type, hence without entities."""
    if len(text) > _LARGEST_XML_BYTES:
        raise ValueError("it is too long")
    found: dict[str, dict[str, str]] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        found.setdefault(name.rpartition(":")[2], attributes)

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(text, True)
    try:
        image, size = found["Image"], found["Size"]
        layout = DeepZoomLayout(
            int(size["Width"]),
            int(size["Height"]),
            int(image["TileSize"]),
            int(image["Overlap"]),
            image["Format"].lower().lstrip("."),
        )
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    if layout.suffix not in _FORMATS:
        raise ValueError(f"its tiles are {layout.suffix!r}, not JPEG or PNG")
    if not (0 < layout.width <= MAX_SIDE_PX and 0 < layout.height <= MAX_SIDE_PX):
        raise ValueError(f"it claims {layout.width} x {layout.height} pixels")
    if not (0 < layout.tile_size <= _LARGEST_TILE_PX and 0 <= layout.overlap < layout.tile_size):
        raise ValueError(
            f"it claims tiles of {layout.tile_size} pixels that overlap by {layout.overlap}"
        )
    return layout


def _info(
    layout: DeepZoomLayout, grids: tuple[TileGrid, ...], mpp: Mpp | float | None
) -> SlideInfo:
    return SlideInfo(
        width=layout.width,
        height=layout.height,
        level_dimensions=tuple((grid.width, grid.height) for grid in grids),
        level_downsamples=tuple(float(1 << i) for i in range(len(grids))),
        mpp=mpp if isinstance(mpp, Mpp) else find_mpp({}, mpp),
        bounds=Bounds(0, 0, layout.width, layout.height),
        background=_WHITE,
        objective_power=None,
        properties={"deepzoom.TileSize": str(layout.tile_size)},
    )

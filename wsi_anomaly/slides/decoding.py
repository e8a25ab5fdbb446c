"""One compressed tile of a TIFF becomes pixels."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.slides.jpeg import CUT_OFF, damage

Decoder = Callable[[bytes, int], NDArray[np.uint8]]
"""Takes a tile's bytes and its number; gives (h, w, 3) or (h, w) uint8; raises any exception."""

_NONE, _JPEG, _APERIO_YCBCR, _APERIO_RGB, _JPEG2000 = 1, 7, 33003, 33005, 34712
_BLACK_IS_ZERO, _RGB, _YCBCR = 1, 2, 6
_END_OF_CODESTREAM = b"\xff\xd9"
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # and the segment that says the size
_LEAST_ROOM_PX = 1 << 16
_SAMPLED_TILES = 16
_MOST_BITS_OF_A_DARK_PICTURE = 14  # a slide's glass reaches the upper quarter of 16 bits

MAX_TILE_BYTES = 200_000_000
"""A larger strip or tile, decoded, does not fit a worker."""


class UnknownCodingError(Exception):
    """Pixels are stored in a way that this reader does not know."""


def decoder_of(page: Any) -> Decoder:
    """Choose the decoder for a page of tifffile's.

    Raises
    ------
    UnknownCodingError
        There is none.
    """
    photometric, compression = int(page.photometric), int(page.compression)
    if compression == _JPEG:
        if photometric not in {_BLACK_IS_ZERO, _RGB, _YCBCR}:
            raise UnknownCodingError(f"its colours are coded as {page.photometric!s}")
        return _jpeg(page, photometric)
    if compression == _APERIO_YCBCR:
        return _jpeg2000_ycbcr(_room(page))
    if compression in {_APERIO_RGB, _JPEG2000} and photometric in {_RGB, _YCBCR}:
        return _jpeg2000(_room(page))
    if photometric not in {_BLACK_IS_ZERO, _RGB}:
        raise UnknownCodingError(f"its colours are coded as {page.photometric!s}")
    if compression == _NONE and page.fillorder == 1:
        return _uncompressed(page)
    decode = page.decode

    def by_tifffile(data: bytes, index: int) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = decode(data, index)[0]
        return pixels.reshape(pixels.shape[1:]).squeeze(-1) if pixels.shape[-1] == 1 else pixels[0]

    return by_tifffile


def used_bits(page: Any) -> int | None:
    """Bits a colour that the values of a page of 16 bits need, where they are clearly fewer.

    A camera's 12 bits in 16 look almost black when their upper 8 are taken.
    """
    width, height = _piece(page)
    if 2 * width * height * int(page.samplesperpixel) > MAX_TILE_BYTES:
        return None
    stored = np.flatnonzero(page.databytecounts)
    largest = 0
    for place in np.linspace(0, len(stored) - 1, min(len(stored), _SAMPLED_TILES)).astype(int):
        index = int(stored[place])
        page.parent.filehandle.seek(page.dataoffsets[index])
        data = page.parent.filehandle.read(page.databytecounts[index])
        with contextlib.suppress(Exception):  # codecs raise errors of many kinds
            largest = max(
                largest, int(page.decode(data, index, jpegtables=page.jpegtables)[0].max())
            )
    bits = largest.bit_length()
    return bits if 0 < bits <= _MOST_BITS_OF_A_DARK_PICTURE else None


def _jpeg(page: Any, photometric: int) -> Decoder:
    tables = page.jpegtables
    grey = photometric == _BLACK_IS_ZERO or page.planarconfig == 2
    # The colour space is the tag's, as OpenSlide has it: Aperio's streams do not say it.
    space = "grayscale" if grey else "ycbcr" if photometric == _YCBCR else "rgb"
    out = "grayscale" if grey else "rgb"
    room = _room(page)

    def decode(data: bytes, _index: int) -> NDArray[np.uint8]:
        reason = damage(data, tables, room)
        if reason:
            raise ValueError(reason)
        pixels: NDArray[np.uint8] = imagecodecs.jpeg8_decode(
            data, tables=tables, colorspace=space, outcolorspace=out
        )
        return pixels

    return decode


def _room(page: Any) -> int:
    """Pixels that one compressed piece may claim: those of its place, and some that pad it."""
    width, height = _piece(page)
    return 2 * max(width * height, _LEAST_ROOM_PX)


def _piece(page: Any) -> tuple[int, int]:
    """Width and height of a tile or strip."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    return int(page.imagewidth), int(min(page.rowsperstrip, page.imagelength))


def _jpeg2000(room: int) -> Decoder:
    def decode(data: bytes, _index: int) -> NDArray[np.uint8]:
        # OpenJPEG fills what is cut off and says nothing; a whole stream has its end marker.
        if not data.rstrip(b"\0").endswith(_END_OF_CODESTREAM):
            raise ValueError(CUT_OFF)
        start = data.find(_START_OF_CODESTREAM)
        size = data[start + 8 : start + 16]
        if start < 0 or len(size) < 8 or math.prod(struct.unpack(">II", size)) > room:
            raise ValueError("it claims more pixels than its place has")
        pixels: NDArray[np.uint8] = imagecodecs.jpeg2k_decode(data)
        return pixels

    return decode


def _jpeg2000_ycbcr(room: int) -> Decoder:
    stored = _jpeg2000(room)

    def decode(data: bytes, index: int) -> NDArray[np.uint8]:
        y, cb, cr = np.moveaxis(stored(data, index).astype(np.float32), -1, 0)
        cb, cr = cb - 128, cr - 128
        rgb = np.stack((y + 1.402 * cr, y - 0.34414 * cb - 0.71414 * cr, y + 1.772 * cb), axis=-1)
        pixels: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
        return pixels

    return decode


def _uncompressed(page: Any) -> Decoder:
    width, _ = _piece(page)
    samples = 1 if page.planarconfig == 2 else int(page.samplesperpixel)

    def decode(data: bytes, _index: int) -> NDArray[np.uint8]:
        rows = len(data) // (width * samples)
        pixels = np.frombuffer(data, np.uint8, rows * width * samples)
        return pixels.reshape((rows, width) if samples == 1 else (rows, width, samples))

    return decode

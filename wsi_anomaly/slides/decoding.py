"""One compressed tile of a TIFF becomes pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.slides.jpeg import damage

Decoder = Callable[[bytes, int], NDArray[np.uint8]]
"""Takes a tile's bytes and its number; gives (h, w, 3) or (h, w) uint8; raises any exception."""

_NONE, _JPEG, _APERIO_YCBCR, _APERIO_RGB, _JPEG2000 = 1, 7, 33003, 33005, 34712
_BLACK_IS_ZERO, _RGB, _YCBCR = 1, 2, 6
_END_OF_CODESTREAM = b"\xff\xd9"


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
        return _jpeg2000_ycbcr
    if compression in {_APERIO_RGB, _JPEG2000} and photometric in {_RGB, _YCBCR}:
        return _jpeg2000
    if photometric not in {_BLACK_IS_ZERO, _RGB}:
        raise UnknownCodingError(f"its colours are coded as {page.photometric!s}")
    if compression == _NONE and page.fillorder == 1:
        return _uncompressed(page)
    decode = page.decode

    def by_tifffile(data: bytes, index: int) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = decode(data, index)[0]
        return pixels.reshape(pixels.shape[1:]).squeeze(-1) if pixels.shape[-1] == 1 else pixels[0]

    return by_tifffile


def _jpeg(page: Any, photometric: int) -> Decoder:
    tables = page.jpegtables
    grey = photometric == _BLACK_IS_ZERO or page.planarconfig == 2
    # The colour space is the tag's, as OpenSlide has it: Aperio's streams do not say it.
    space = "grayscale" if grey else "ycbcr" if photometric == _YCBCR else "rgb"
    out = "grayscale" if grey else "rgb"

    def decode(data: bytes, _index: int) -> NDArray[np.uint8]:
        reason = damage(data, tables)
        if reason:
            raise ValueError(reason)
        pixels: NDArray[np.uint8] = imagecodecs.jpeg8_decode(
            data, tables=tables, colorspace=space, outcolorspace=out
        )
        return pixels

    return decode


def _jpeg2000(data: bytes, _index: int) -> NDArray[np.uint8]:
    # OpenJPEG fills what is cut off and says nothing; a whole stream has its end marker.
    if not data.rstrip(b"\0").endswith(_END_OF_CODESTREAM):
        raise ValueError("it is cut off")
    pixels: NDArray[np.uint8] = imagecodecs.jpeg2k_decode(data)
    return pixels


def _jpeg2000_ycbcr(data: bytes, index: int) -> NDArray[np.uint8]:
    y, cb, cr = np.moveaxis(_jpeg2000(data, index).astype(np.float32), -1, 0)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack((y + 1.402 * cr, y - 0.34414 * cb - 0.71414 * cr, y + 1.772 * cb), axis=-1)
    pixels: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return pixels


def _uncompressed(page: Any) -> Decoder:
    width = int(page.tilewidth if page.is_tiled else page.imagewidth)
    samples = 1 if page.planarconfig == 2 else int(page.samplesperpixel)

    def decode(data: bytes, _index: int) -> NDArray[np.uint8]:
        rows = len(data) // (width * samples)
        pixels = np.frombuffer(data, np.uint8, rows * width * samples)
        return pixels.reshape((rows, width) if samples == 1 else (rows, width, samples))

    return decode

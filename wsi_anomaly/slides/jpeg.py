"""Whether a JPEG stream is whole: decoders fill what is missing with grey and say nothing."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator

_END_OF_BLOCK = 0
_SOI, _EOI, _SOS, _DHT = b"\xff\xd8", 0xD9, 0xDA, 0xC4
# In coded data ff is followed by 00 (a stuffed byte), ff (padding) or a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FILL = b"\xff\xff"  # ITU T.81, B.1.1.2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # segments that say the size
_HOLE = bytes(64)  # coded data of a picture has no such run of zeros; a lost disk block does

CUT_OFF, ZEROED = "it is cut off", "a part of it is zeroed"
"""Reasons that prove a stream to be damaged, whatever another decoder makes of it."""


def damage(data: bytes, tables: bytes | None = None, most_px: int | None = None) -> str | None:
    """Say what is wrong with a JPEG stream, or None.

    Finds what is missing, cut off, overwritten by other bytes or zeroed. A flipped bit that
    leaves the stream well-formed cannot be found by anybody.

    Parameters
    ----------
    data
        One compressed tile.
    tables
        TIFF's JPEGTables, when the tile leaves its tables out.
    most_px
        Pixels for which there is room: a stream that claims more is not decoded into gigabytes.
    """
    if data[:2] != _SOI:
        return "it is no JPEG stream"
    try:
        for marker, at in _segments(data):
            if marker in _FRAMES and most_px is not None:
                height, width = struct.unpack(">HH", data[at + 3 : at + 7].ljust(4, b"\0"))
                if height * width > most_px:
                    return "it claims more pixels than its place has"
    except ValueError as error:
        return str(error)
    if _HOLE in data and not all(
        symbol == _END_OF_BLOCK for symbol in (*_zero_codes(data), *_zero_codes(tables or b""))
    ):
        return ZEROED
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and place of the length of each segment, up to the end of the picture.

    Raises
    ------
    ValueError
        The stream is damaged.
    """
    position, scan = 2, False
    while True:
        if scan:
            found = _MARKER.search(data, position)
            if found is None:
                raise ValueError(CUT_OFF)
            position = found.start()
        while data[position : position + 2] == _FILL:  # legal before any marker
            position += 1
        if position + 4 > len(data) and data[position : position + 2] != bytes((0xFF, _EOI)):
            raise ValueError(CUT_OFF)
        if data[position] != 0xFF:
            raise ValueError("its segments are damaged")
        marker = data[position + 1]
        if marker == _EOI:
            return
        if not 0xC0 <= marker <= 0xFE:
            raise ValueError("foreign bytes stand in it")
        yield marker, position + 2
        scan = marker == _SOS
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def _zero_codes(data: bytes) -> Iterator[int]:
    """Yield what the shortest code, which is all zeros, means in each of the AC tables.

    Where it ends a block in all of them, blank glass becomes long runs of zero bits. The standard
    table of brightness spells it otherwise.
    """
    with contextlib.suppress(ValueError):
        for marker, place in _segments(data):
            if marker == _SOS:
                return
            if marker == _DHT:
                at, end = place + 2, place + int.from_bytes(data[place : place + 2], "big")
                while at + 17 < end:
                    if data[at] >> 4:
                        yield data[at + 17]
                    at += 17 + sum(data[at + 1 : at + 17])

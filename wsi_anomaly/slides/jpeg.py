"""Whether a JPEG stream is whole: decoders fill what is missing with grey and say nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

_END_OF_BLOCK = 0
_SOI, _EOI, _SOS, _DHT = b"\xff\xd8", 0xD9, 0xDA, 0xC4
# In coded data ff is followed by 00 (a stuffed byte), ff (padding) or a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_HOLE = bytes(64)  # coded data of a picture has no such run of zeros; a lost disk block does


def damage(data: bytes, tables: bytes | None = None) -> str | None:
    """Say what is wrong with a JPEG stream, or None.

    Finds what is missing, cut off, overwritten by other bytes or zeroed. A flipped bit that
    leaves the stream well-formed cannot be found by anybody.

    Parameters
    ----------
    data
        One compressed tile.
    tables
        TIFF's JPEGTables, when the tile leaves its tables out.
    """
    if data[:2] != _SOI:
        return "it is no JPEG stream"
    position, scan = 2, False
    while True:
        if scan:
            found = _MARKER.search(data, position)
            if found is None:
                return "it is cut off"
            position = found.start()
        if position + 4 > len(data) and data[position : position + 2] != bytes((0xFF, _EOI)):
            return "it is cut off"
        if data[position] != 0xFF:
            return "its segments are damaged"
        marker = data[position + 1]
        if marker == _EOI:
            break
        if not 0xC0 <= marker <= 0xFE:
            return "foreign bytes stand in it"
        scan = marker == _SOS
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    if _HOLE in data and not all(
        symbol == _END_OF_BLOCK for symbol in (*_zero_codes(data), *_zero_codes(tables or b""))
    ):
        return "a part of it is zeroed"
    return None


def _zero_codes(data: bytes) -> Iterator[int]:
    """Yield what the shortest code, which is all zeros, means in each of the AC tables.

    Where it ends a block in all of them, blank glass becomes long runs of zero bits. The standard
    table of brightness spells it otherwise.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != _SOS:
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == _DHT:
            at, end = position + 4, position + 2 + size
            while at + 17 < end:
                if data[at] >> 4:
                    yield data[at + 17]
                at += 17 + sum(data[at + 1 : at + 17])
        position += 2 + size

"""How much a piece of a stranger's array unpacks to, known before it is unpacked."""

from __future__ import annotations

from pathlib import Path


def unpacked_bytes(piece: Path, packed_by: str) -> int:
    """Bytes that a piece says it unpacks to; its decoder takes it at its word.

    Raises
    ------
    ValueError
        It is packed by something that does not say so.
    """
    if packed_by == "none":
        return piece.stat().st_size
    with open(piece, "rb") as file:
        head = file.read(18)
    if packed_by == "blosc":
        return int.from_bytes(head[4:8], "little")
    if packed_by == "zstd" and head[:4] == b"\x28\xb5\x2f\xfd":
        # RFC 8878, 3.1.1.1: how long the content's size is, and where it stands.
        kind, single, names = head[4] >> 6, head[4] >> 5 & 1, head[4] & 3
        start = 5 + (not single) + (0, 1, 2, 4)[names]
        length = (single, 2, 4, 8)[kind]
        return int.from_bytes(head[start : start + length], "little") + 256 * (length == 2)
    raise ValueError(f"it is packed by {packed_by}, whose size cannot be known")

"""Mutate files without coverage: quick, seeded, and everywhere (atheris runs on Linux only)."""

from __future__ import annotations

import random

NUMBERS = (b"0", b"-1", b"1e999", b"NaN", b"99999999999999999999", b"0.5", b"null", b"true")
TEXTS = (b'""', b"[]", b"{}", b"../../x", b"<script>", b"\x00", b"\xff\xfe", b"&lol9;", b"=1+1")
TOKENS = b' "[]{}<>,:=\n'


def mutated(data: bytes, chance: random.Random, *, text: bool) -> bytes:
    """Change a file in one to four places."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        (_change_text if text and chance.random() < 0.7 else _change_bytes)(changed, chance)
    return bytes(changed)


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, max(0, len(data) - 1))
    kind = chance.randint(0, 4)
    if kind == 0 and data:
        data[at] ^= 1 << chance.randint(0, 7)
    elif kind == 1:
        size = chance.choice((1, 2, 4, 8))
        data[at : at + size] = chance.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * size
    elif kind == 2:
        del data[at : at + chance.randint(1, 64)]
    elif kind == 3:
        data[at:at] = chance.randbytes(chance.randint(1, 16))
    else:
        del data[at:]


def _change_text(data: bytearray, chance: random.Random) -> None:
    places = [i for i, byte in enumerate(data) if byte in TOKENS] or [0]
    start = chance.choice(places)
    later = [i for i in places if i > start][:3] or [len(data)]
    data[start + 1 : chance.choice(later)] = chance.choice(NUMBERS + TEXTS)

"""Small pictures in models and results: JPEG streams, packed into one array that runs no code."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIDE = 160
"""Side of a small picture, pixels."""
_QUALITY = 75
_LARGEST_PX = 512
_LARGEST_BYTES = 1 << 18


def as_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode a square of pixels (S, S, 3), made smaller than :data:`SIDE` if it is larger."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if max(picture.size) > SIDE:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def refuse_large(stream: bytes) -> None:
    """See by the head of a stream that it is a JPEG of a small picture; nothing is decoded.

    Raises
    ------
    ValueError
        It is not.
    """
    from PIL import Image

    try:
        if len(stream) > _LARGEST_BYTES:
            raise ValueError("it is too large")
        with Image.open(io.BytesIO(stream), formats=["JPEG"]) as picture:
            size = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("a small picture is no JPEG") from error
    if not 0 < min(size) <= max(size) <= _LARGEST_PX:
        raise ValueError(f"a small picture claims {size[0]} x {size[1]} pixels")


def made_anew(stream: bytes) -> bytes | None:
    """Decode a stream that anybody may have written and encode what it shows.

    None where it is broken or too large: what is shown to people is never a stranger's stream.
    """
    from PIL import Image

    try:
        refuse_large(stream)
        with Image.open(io.BytesIO(stream), formats=["JPEG"]) as picture:
            return as_jpeg(np.asarray(picture.convert("RGB")))
    except (OSError, ValueError, SyntaxError):
        return None


def packed(streams: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Put n streams into one array (bytes,); with where each ends (n,)."""
    joined = np.frombuffer(b"".join(streams), np.uint8).copy()
    return joined, np.cumsum([len(stream) for stream in streams], dtype=np.int64)


def unpacked(joined: ArrayLike, ends: ArrayLike) -> list[bytes]:
    """Take streams apart again, from one array (bytes,) and where each ends (n,).

    Raises
    ------
    ValueError
        Array and ends do not belong together.
    """
    content, stops = np.asarray(joined), np.asarray(ends)
    whole = content.dtype == np.uint8 and content.ndim == stops.ndim == 1
    starts = np.concatenate(([0], stops))
    if (
        not whole
        or stops.dtype.kind != "i"
        or starts[-1] != len(content)
        or (np.diff(starts) < 0).any()
    ):
        raise ValueError("its small pictures do not fit together")
    return [content[a:b].tobytes() for a, b in zip(starts[:-1], stops, strict=True)]

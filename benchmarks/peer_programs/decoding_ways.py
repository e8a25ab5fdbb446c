"""How each decoder brings the same JPEG tiles to pixels.

A way takes a job and returns a function that decodes its tiles once. Runs in every decoder's
environment; a decoder is imported by its own way only.

Job: ``streams`` (an .npz of ``data``, all whole streams one after the other, and ``ends``),
``colorspace`` ("ycbcr" or "rgb", which the streams do not always say).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

Job = dict[str, Any]
Decode = Callable[[bytes], np.ndarray]
Run = Callable[[], dict[str, Any]]


def _each(job: Job, decode: Decode) -> Run:
    """Decode all, keeping none: memory is met again, as in a reader's cache that is full."""
    with np.load(job["streams"]) as file:
        data, ends = file["data"].tobytes(), file["ends"].tolist()
    streams = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    seen = hashlib.sha256(b"".join(decode(stream).tobytes() for stream in streams[::10]))

    def run() -> dict[str, Any]:
        for stream in streams:
            decode(stream)
        return {"tiles": len(streams), "pixels": seen.hexdigest()}

    return run


def imagecodecs(job: Job) -> Run:
    """imagecodecs on libjpeg-turbo, as our reader and hs2p's on tifffile call it."""
    from imagecodecs import jpeg8_decode

    space = job["colorspace"]
    return _each(job, lambda s: jpeg8_decode(s, colorspace=space, outcolorspace="rgb"))


def simplejpeg(job: Job) -> Run:
    """simplejpeg on its own libjpeg-turbo."""
    from simplejpeg import decode_jpeg

    return _each(job, decode_jpeg)


def simplejpeg_quick(job: Job) -> Run:
    """The same with the quicker cosine transform and without smooth colours."""
    from simplejpeg import decode_jpeg

    return _each(job, lambda s: decode_jpeg(s, fastdct=True, fastupsample=True))


def simplejpeg_half(job: Job) -> Run:
    """The same at half the size, decoded so by libjpeg-turbo."""
    from simplejpeg import decode_jpeg

    half = job["side"] // 2
    return _each(job, lambda s: decode_jpeg(s, min_height=half, min_width=half, min_factor=2))


def pillow(job: Job) -> Run:
    """Pillow on its own libjpeg-turbo."""
    from PIL import Image

    return _each(job, lambda s: np.asarray(Image.open(io.BytesIO(s)).convert("RGB")))


def opencv(job: Job) -> Run:
    """OpenCV on its own libjpeg-turbo."""
    import cv2

    return _each(job, lambda s: cv2.imdecode(np.frombuffer(s, np.uint8), cv2.IMREAD_COLOR_RGB))

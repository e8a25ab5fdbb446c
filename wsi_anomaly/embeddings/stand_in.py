"""What stands for a slide that is not at hand: its size, and where it was embedded; no pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wsi_anomaly.slides import Bounds, Mpp, ReadError, Slide
from wsi_anomaly.slides.base import RGB, Region, SlideInfo
from wsi_anomaly.tiles import Fields

_EMBEDDED = (222, 222, 226)


class StandIn(Slide):
    """A slide without pixels.

    Parameters
    ----------
    path
        The embeddings, which it is called after.
    name
        The slide's name.
    size
        Width and height, level-0 pixels.
    mpp
        Pixel size.
    fields
        What was embedded; a thumbnail shows it in grey.
    """

    backend = "embeddings"

    def __init__(
        self, path: Path, name: str, size: tuple[int, int], mpp: Mpp, fields: Fields
    ) -> None:
        super().__init__(path, SlideInfo(*size, (size,), (1.0,), mpp, Bounds(0, 0, *size)))
        self.name = name
        self._fields = fields

    def close(self) -> None:
        """Nothing is open."""

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Refuse: there are no pixels."""
        raise ReadError(f"The slide of {self.path} is not at hand.")

    def read(self, x: float, y: float, size_px: tuple[int, int], mpp: float) -> Region:
        """Refuse, see :meth:`read_level`."""
        return self.read_level(0, round(x), round(y), *size_px)

    def thumbnail(self, max_px: int) -> RGB:
        """Picture (h, w, 3) of the slide's area, what was embedded in grey."""
        scale = max_px / max(self.width, self.height)
        size = max(1, round(self.height * scale)), max(1, round(self.width * scale))
        out = np.full((*size, 3), 255, np.uint8)
        first = np.floor(self._fields.coords * scale).astype(int).clip(0)
        last = np.ceil((self._fields.coords + self._fields.stride_level0) * scale).astype(int)
        for (left, top), (right, bottom) in zip(first.tolist(), last.tolist(), strict=True):
            out[top:bottom, left:right] = _EMBEDDED
        return out

"""Where things stand in QuPath: its origin is the top left of the image as it shows it."""

from __future__ import annotations

from dataclasses import dataclass

import shapely
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.options import Origin
from wsi_anomaly.scoring import SlideFacts


@dataclass(frozen=True)
class Frame:
    """Visible extent of a slide in QuPath.

    Attributes
    ----------
    origin
        "bounds": QuPath crops the slide to the scanned area (MIRAX, Leica SCN); "level0": it does
        not. The same for slides whose bounds are the whole file.
    x, y
        Level-0 position of QuPath's (0, 0).
    width, height
        Extent that QuPath shows, level-0 pixels.
    """

    origin: Origin
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def of(cls, slide: SlideFacts, origin: Origin = "bounds") -> Frame:
        """Frame of a slide."""
        if origin == "bounds":
            b = slide.bounds
            return cls(origin, b.x, b.y, b.width, b.height)
        return cls(origin, 0, 0, slide.width, slide.height)

    def shape(self, shape: Polygon | MultiPolygon) -> Polygon | MultiPolygon:
        """Move an outline from level-0 pixels into QuPath's."""
        if not self.x and not self.y:
            return shape
        return shapely.transform(shape, lambda xy: xy - (self.x, self.y))

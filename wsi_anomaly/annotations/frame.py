"""Where a file's numbers count from on its slide: one rule for every command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import shapely

from wsi_anomaly.annotations.outlines import Outline
from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.options import Origin

_MIN_ON_SLIDE = 0.9  # outlines of which less lies on the slide were drawn in another frame


@dataclass(frozen=True)
class Extent:
    """What places outlines on a slide.

    Attributes
    ----------
    path
        The slide, for messages.
    size
        Its width and height, level-0 pixels.
    bounds
        Its scanned area: x, y, width, height, level-0 pixels. A mask image covers it.
    origin
        Where QuPath's (0, 0) lies, for a GeoJSON file that does not say so itself: "bounds", the
        corner of the scanned area, or "level0", that of the file.
    """

    path: Path
    size: tuple[int, int]
    bounds: tuple[int, int, int, int]
    origin: Origin = "bounds"

    @property
    def qupath_corner(self) -> tuple[int, int]:
        """Level-0 position of QuPath's (0, 0)."""
        return self.bounds[:2] if self.origin == "bounds" else (0, 0)

    def check(self, path: Path, outlines: Iterable[Outline]) -> None:
        """See that outlines, level-0 pixels, were drawn on this slide.

        Raises
        ------
        AnnotationError
            More than a tenth of them lies beyond it.
        """
        area = shapely.union_all([outline.polygon for outline in outlines])
        inside = shapely.intersection(area, shapely.box(0, 0, *self.size)).area
        if inside < _MIN_ON_SLIDE * area.area:
            raise AnnotationError(
                f"{path} was not drawn on {self.path}: {1 - inside / area.area:.0%} of it lies "
                f"beyond its {self.size[0]} x {self.size[1]} pixels; outlines are in pixels of the "
                "full resolution."
            )


def moved(outline: Outline, by: tuple[float, float]) -> Outline:
    """Shift an outline by (x, y) pixels."""
    if not any(by):
        return outline
    return replace(outline, polygon=shapely.transform(outline.polygon, lambda xy: xy + by))

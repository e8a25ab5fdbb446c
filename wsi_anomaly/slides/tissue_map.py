"""Where the tissue is: a small labelled map and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon

BACKGROUND, TISSUE, PEN, FOLD, UNREADABLE = range(5)
LABEL_NAMES = ("background", "tissue", "pen", "fold", "unreadable")


@dataclass(frozen=True, eq=False)
class TissueMap:
    """What stands where on a slide, about 8 um a pixel.

    Attributes
    ----------
    labels
        (H, W) uint8: BACKGROUND, TISSUE, PEN, FOLD or UNREADABLE (the file is damaged there).
    mpp
        Micrometres per map pixel.
    origin
        Level-0 position (x, y) of the map's top left corner.
    downsample
        Level-0 pixels per map pixel (x, y).
    white
        Intensity (3,) of the slide's bare glass.
    """

    labels: NDArray[np.uint8]
    mpp: float
    origin: tuple[float, float]
    downsample: tuple[float, float]
    white: tuple[float, float, float] = (255.0, 255.0, 255.0)

    def fractions(
        self, coords: NDArray[np.int64], field_level0: tuple[float, float]
    ) -> NDArray[np.float32]:
        """Share of each field's area under each label.

        Parameters
        ----------
        coords
            (N, 2) level-0 top left corners.
        field_level0
            Width and height of a field, level-0 pixels.

        Returns
        -------
        (N, 5) float32, one column a label; what lies beyond the map is background.
        """
        corner = (np.asarray(coords, np.float64) - self.origin) / self.downsample
        size = np.asarray(field_level0, np.float64) / self.downsample
        height, width = self.labels.shape
        out = np.zeros((len(corner), len(LABEL_NAMES)), np.float32)
        for label in range(1, len(LABEL_NAMES)):
            mask = self.labels == label
            if not mask.any():
                continue
            # Integral image; linear between its nodes, hence exact for fractional rectangles.
            total = np.zeros((height + 1, width + 1), np.float64)
            np.cumsum(np.cumsum(mask, 0, dtype=np.int32), 1, out=total[1:, 1:])
            left, top = corner[:, 0], corner[:, 1]
            right, bottom = left + size[0], top + size[1]
            area = (
                _at(total, right, bottom)
                - _at(total, left, bottom)
                - _at(total, right, top)
                + _at(total, left, top)
            )
            out[:, label] = area / (size[0] * size[1])
        np.clip(out, 0, 1, out=out)
        out[:, BACKGROUND] = np.maximum(0, 1 - out[:, 1:].sum(1))
        return out

    def area_mm2(self, label: int = TISSUE) -> float:
        """Area under a label, square millimetres."""
        return float(np.count_nonzero(self.labels == label)) * (self.mpp / 1000) ** 2

    def polygons(self, label: int = TISSUE, min_area_um2: float = 10_000.0) -> MultiPolygon:
        """Outline a label, with holes, level-0 pixels; pieces below `min_area_um2` are left out."""
        import shapely
        from shapely.geometry import MultiPolygon, Polygon
        from skimage import measure

        mask = np.pad(self.labels == label, 1).astype(np.uint8)
        smallest = min_area_um2 / self.mpp**2
        rings = [
            shapely.linearrings(ring[:, ::-1])
            for ring in measure.find_contours(mask, 0.5)  # type: ignore[no-untyped-call]
            if len(ring) > 3 and Polygon(ring).area >= smallest
        ]
        if not rings:
            return MultiPolygon()
        # Contour coordinates are pixel centres of the padded map.
        shape = shapely.transform(
            shapely.build_area(shapely.geometrycollections(rings)),
            lambda xy: (xy - 0.5) * self.downsample + self.origin,
        )
        parts = [part for part in shapely.get_parts(shape) if isinstance(part, Polygon)]
        return MultiPolygon(parts)


def _at(
    total: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integral image at fractional positions (bilinear), held at the map's edge."""
    height, width = total.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    column = np.minimum(x.astype(np.intp), width - 2)
    row = np.minimum(y.astype(np.intp), height - 2)
    u, v = x - column, y - row
    upper = total[row, column] * (1 - u) + total[row, column + 1] * u
    lower = total[row + 1, column] * (1 - u) + total[row + 1, column + 1] * u
    result: NDArray[np.float64] = upper * (1 - v) + lower * v
    return result

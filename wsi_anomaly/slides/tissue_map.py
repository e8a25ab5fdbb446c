"""Where the tissue is: a small labelled map and what can be asked of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.slides.base import Slide
from wsi_anomaly.slides.morphology import opened
from wsi_anomaly.slides.overview import MAP_MPP, Overview, glass_colour, map_shape, read_overview

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon, Polygon

BACKGROUND, TISSUE, PEN, FOLD, UNREADABLE, MASKED = range(6)
LABEL_NAMES = ("background", "tissue", "pen", "fold", "unreadable", "masked")

_RIM_UM = 48.0
_MAX_ASPECT_ERROR = 0.02  # a mask that differs by more was made for something else


@dataclass(frozen=True, eq=False)
class TissueMap:
    """What stands where on a slide, about 8 um a pixel.

    Attributes
    ----------
    labels
        (H, W) uint8: BACKGROUND, TISSUE, PEN, FOLD, UNREADABLE (the file is damaged there) or
        MASKED (tissue that somebody's mask leaves out).
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

    @classmethod
    def over(
        cls, slide: Slide, labels: NDArray[np.uint8], white: tuple[float, float, float]
    ) -> Self:
        """Lay labels (H, W), of the pixels of the slide's overview, over its scanned area."""
        return cls(
            labels,
            MAP_MPP,
            (float(slide.bounds.x), float(slide.bounds.y)),
            (MAP_MPP / slide.mpp.x, MAP_MPP / slide.mpp.y),
            white,
        )

    @classmethod
    def from_polygons(
        cls,
        slide: Slide,
        polygons: Iterable[Polygon | MultiPolygon],
        overview: Overview | None = None,
    ) -> Self:
        """Take tissue from somebody's outlines instead of finding it.

        Parameters
        ----------
        slide
            An open slide with known mpp.
        polygons
            Tissue, level-0 pixels; holes are not tissue.
        overview
            The slide's overview, when it has been read already.

        Returns
        -------
        TISSUE and BACKGROUND as the outlines say; UNREADABLE where the file is damaged.

        Raises
        ------
        AnnotationError
            None of the outlines lies on the slide.
        """
        import shapely

        from wsi_anomaly.annotations.masks import rasterized

        origin = (slide.bounds.x, slide.bounds.y)
        downsample = (MAP_MPP / slide.mpp.x, MAP_MPP / slide.mpp.y)
        mask = np.zeros(map_shape(slide), bool)
        for part in shapely.get_parts(list(polygons)):
            onto_map = shapely.transform(part, lambda xy: (xy - origin) / downsample)
            mask |= rasterized(onto_map, mask.shape)
        return cls._from_mask(slide, mask, overview)

    @classmethod
    def from_image(cls, slide: Slide, mask: NDArray[Any], overview: Overview | None = None) -> Self:
        """Take tissue from somebody's mask image instead of finding it.

        Parameters
        ----------
        slide
            An open slide with known mpp.
        mask
            (h, w), any size, over exactly the scanned area; everything but 0 is tissue.
        overview
            The slide's overview, when it has been read already.

        Returns
        -------
        TISSUE and BACKGROUND as the mask says; UNREADABLE where the file is damaged.

        Raises
        ------
        AnnotationError
            The mask has other proportions than the scanned area, or is empty.
        """
        if mask.ndim != 2 or 0 in mask.shape:
            raise AnnotationError(
                f"A tissue mask for {slide.path} has one channel, not the shape {mask.shape}; "
                "save it as a grey image."
            )
        bounds = slide.bounds
        ratio = (mask.shape[1] / mask.shape[0]) / (bounds.width / bounds.height)
        rounding = 1 / min(mask.shape)  # half a pixel on each side of a small mask
        if abs(np.log(ratio)) > _MAX_ASPECT_ERROR + rounding:
            raise AnnotationError(
                f"The tissue mask of {mask.shape[1]} x {mask.shape[0]} pixels does not cover "
                f"{slide.path}, whose scanned area is {bounds.width} x {bounds.height}; "
                "give a mask of exactly that area, at any scale."
            )
        height, width = map_shape(slide)
        # Centres of map pixels; the last row and column may reach beyond the scanned area.
        rows = (np.arange(height) + 0.5) * MAP_MPP / slide.mpp.y / bounds.height * mask.shape[0]
        columns = (np.arange(width) + 0.5) * MAP_MPP / slide.mpp.x / bounds.width * mask.shape[1]
        rows = np.minimum(rows.astype(np.intp), mask.shape[0] - 1)
        columns = np.minimum(columns.astype(np.intp), mask.shape[1] - 1)
        return cls._from_mask(slide, mask[np.ix_(rows, columns)] != 0, overview)

    @classmethod
    def _from_mask(cls, slide: Slide, mask: NDArray[np.bool_], overview: Overview | None) -> Self:
        if not mask.any():
            raise AnnotationError(
                f"The tissue mask marks nothing on {slide.path}; outlines are in pixels of the "
                "full resolution, and a mask image covers exactly the scanned area."
            )
        overview = overview or read_overview(slide)
        labels = np.where(mask, TISSUE, BACKGROUND).astype(np.uint8)
        labels[~overview.readable] = UNREADABLE
        return cls.over(slide, labels, glass_colour(overview.rgb, overview.usable))

    def with_masked(self, found: TissueMap) -> Self:
        """Label as MASKED the tissue, folded or inked too, that `found` has and this map has not.

        A narrow rim is not: two outlines of one piece of tissue never agree to the pixel.

        Parameters
        ----------
        found
            The same slide's tissue as :func:`~wsi_anomaly.slides.find_tissue` finds it.
        """
        labels = self.labels.copy()
        left_out = (labels == BACKGROUND) & np.isin(found.labels, (TISSUE, PEN, FOLD))
        labels[opened(left_out, _RIM_UM / 2 / self.mpp)] = MASKED
        return replace(self, labels=labels)

    def fractions(
        self, coords: NDArray[np.integer | np.floating], field_level0: tuple[float, float]
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
        (N, 6) float32, one column a label; what lies beyond the map is background.
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
            total = np.zeros((height + 1, width + 1), np.int32)
            inner = total[1:, 1:]
            np.cumsum(mask, 0, dtype=np.int32, out=inner)
            np.cumsum(inner, 1, out=inner)
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

    def outside_mm2(self, coords: NDArray[np.integer], field_level0: tuple[float, float]) -> float:
        """Area of tissue, inked and folded too, that lies in none of these fields (N, 2).

        Parameters
        ----------
        coords, field_level0
            As for :meth:`fractions`.
        """
        first = (coords - self.origin) / self.downsample
        last = first + np.asarray(field_level0) / self.downsample
        shape = self.labels.shape
        (left, top), (right, bottom) = (
            np.clip(np.rint(corner), 0, shape[::-1]).astype(np.intp).T for corner in (first, last)
        )
        # Each rectangle adds one between its corners, once the sums are taken both ways.
        covered = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
        for row, column, step in (
            (top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1),
        ):  # fmt: skip
            np.add.at(covered, (row, column), step)
        np.cumsum(covered, 0, out=covered)
        np.cumsum(covered, 1, out=covered)
        tissue = np.isin(self.labels, (TISSUE, PEN, FOLD, UNREADABLE))
        outside = np.count_nonzero(tissue & (covered[:-1, :-1] == 0))
        return float(outside) * (self.mpp / 1000) ** 2

    def polygons(self, label: int = TISSUE, min_area_um2: float = 10_000.0) -> MultiPolygon:
        """Outline a label, with holes, level-0 pixels; pieces below `min_area_um2` are left out."""
        import shapely
        from shapely.geometry import MultiPolygon, Polygon

        from wsi_anomaly.annotations.masks import mask_polygons

        smallest = min_area_um2 / self.mpp**2
        parts = [
            Polygon(piece.exterior, [r for r in piece.interiors if Polygon(r).area >= smallest])
            for piece in mask_polygons(self.labels == label)
            if Polygon(piece.exterior).area >= smallest
        ]
        onto_slide = shapely.transform(parts, lambda xy: xy * self.downsample + self.origin)
        return MultiPolygon(list(onto_slide))


def _at(
    total: NDArray[np.int32], x: NDArray[np.float64], y: NDArray[np.float64]
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

"""Where a slide lies in the world that the viewer shows.

World coordinates are micrometres: x to the right from the left edge of what QuPath shows, y up, so
that the top of the slide lies at the side of a square world that the tile pyramid halves evenly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.tiles import Fields

TILE_PX = 256


@dataclass(frozen=True)
class World:
    """Where the slide lies in the square world of the tile pyramid.

    Attributes
    ----------
    mpp_x, mpp_y
        Micrometres per level-0 pixel.
    origin
        Level-0 position of QuPath's (0, 0).
    width_um, height_um
        Extent that is shown.
    max_zoom
        Zoom level at which a picture pixel is as small as the slide's own.
    """

    mpp_x: float
    mpp_y: float
    origin: tuple[int, int]
    width_um: float
    height_um: float
    max_zoom: int

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> World:
        """Read it from a summary."""
        slide = summary["slide"]
        mpp_x, mpp_y = (float(v) for v in slide["mpp"])
        if summary["qupath_origin"] == "bounds":
            x, y, width, height = (int(v) for v in slide["bounds"])
        else:
            x, y, (width, height) = 0, 0, slide["size_px"]
        size = max(width * mpp_x, height * mpp_y)
        zoom = max(0, math.ceil(math.log2(size / (TILE_PX * min(mpp_x, mpp_y)))))
        return cls(mpp_x, mpp_y, (x, y), width * mpp_x, height * mpp_y, zoom)

    @property
    def side_um(self) -> float:
        """Side of the square world."""
        return self.mpp(0) * TILE_PX

    def mpp(self, zoom: int) -> float:
        """Micrometres per pixel at a zoom level."""
        return min(self.mpp_x, self.mpp_y) * 2.0 ** (self.max_zoom - zoom)

    def corner_level0(self, zoom: int, x: int, y: int) -> tuple[float, float]:
        """Level-0 position of a tile's top left corner."""
        step = self.mpp(zoom) * TILE_PX
        return (
            self.origin[0] + x * step / self.mpp_x,
            self.origin[1] + y * step / self.mpp_y,
        )

    def um(self, xy_level0: NDArray[np.floating]) -> NDArray[np.floating]:
        """World coordinates of level-0 positions (..., 2)."""
        x = (xy_level0[..., 0] - self.origin[0]) * self.mpp_x
        y = self.side_um - (xy_level0[..., 1] - self.origin[1]) * self.mpp_y
        return np.stack([x, y], -1)

    def level0(self, xy_um: NDArray[np.floating]) -> NDArray[np.floating]:
        """Level-0 positions of world coordinates (..., 2)."""
        x = xy_um[..., 0] / self.mpp_x + self.origin[0]
        y = (self.side_um - xy_um[..., 1]) / self.mpp_y + self.origin[1]
        return np.stack([x, y], -1)


def grid_um(world: World, fields: Fields) -> tuple[float, float, tuple[float, float]]:
    """Left and upper end of the grid of cells in the world, and the size (x, y) of a cell, um."""
    corner = world.um(np.asarray(fields.origin))
    step = (fields.stride_level0[0] * world.mpp_x, fields.stride_level0[1] * world.mpp_y)
    # With overlap a field stands for the square of one stride around its centre.
    inset = (
        (fields.field_level0[0] * world.mpp_x - step[0]) / 2,
        (fields.field_level0[1] * world.mpp_y - step[1]) / 2,
    )
    return float(corner[0] + inset[0]), float(corner[1] - inset[1]), step

"""The page of one slide in the viewer: deep zoom, heatmap and regions as a Bokeh figure.

World coordinates are micrometres: x to the right from the left edge of what QuPath shows, y up, so
that the top of the slide lies at the side of a square world that the tile pyramid halves evenly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.results.colors import ANOMALOUS, NOT_ASSESSED, paint
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.scoring import AnomalousRegion
from wsi_anomaly.scoring.interpretation import own_color_range
from wsi_anomaly.tiles import Fields
from wsi_anomaly.viewer.opened import OpenResult

TILE_PX = 256
_COLORS = 256


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


def page_data(
    name: str, folder: Path, summary: Mapping[str, Any], opened: OpenResult | None = None
) -> dict[str, Any]:
    """Everything that the page's script needs: figure, scores, colours, regions; JSON-ready.

    Parameters
    ----------
    name, folder, summary
        The slide's name in the address, its results folder and their summary.
    opened
        The folder's content, if it has been read already.

    Raises
    ------
    OutputError
        The scores cannot be read.
    """
    from urllib.parse import quote

    from bokeh.core.types import ID
    from bokeh.embed import json_item

    world, opened = World.of(summary), opened or OpenResult.read(folder)
    stored = opened.stored
    low, high = (float(v) for v in summary["color_range"])
    known = stored.score[np.isfinite(stored.score)]
    top = _rounded(float(known.max())) if len(known) else high
    grid = stored.grid()
    assessed = np.full(stored.fields.grid_shape, 0, np.uint8)  # 0: no field, 1: scored, 2: not
    assessed[stored.fields.row, stored.fields.col] = np.where(np.isfinite(stored.score), 1, 2)
    figure = _figure(world, opened, f"../tile/{quote(name, safe='')}/{{Z}}/{{X}}/{{Y}}.jpg")
    colors = paint(np.linspace(0, 1, _COLORS), 0.0, 1.0).tolist()
    return {
        "figure": json_item(figure, ID("figure")),
        "scores": [None if not np.isfinite(v) else _rounded(v) for v in grid.ravel().tolist()],
        "kind": assessed.ravel().tolist(),
        "color_range": [low, high],
        "own_range": list(own_color_range(known)),
        "highest": max(top, high),
        "colors": colors,
        "not_assessed": [*NOT_ASSESSED.color, 150],
        "threshold": summary["flagged"]["threshold"],
        "result": summary["result_hash"],
        "regions": [_region(world, stored, region) for region in opened.regions],
        "cells": _cells(world, opened),
        "extent": [world.width_um, world.height_um, world.side_um],
    }


def _region(world: World, stored: StoredScores, region: AnomalousRegion) -> dict[str, Any]:
    middle = stored.fields.coords[region.peak] + np.asarray(stored.fields.field_level0) / 2
    return {
        "qupath": np.rint(middle - world.origin).astype(int).tolist(),
        "um": world.um(middle).tolist(),
        "area_mm2": region.area_mm2,
        "score": region.highest,
    }


def _cells(world: World, opened: OpenResult) -> dict[str, Any]:
    """Where the grid lies in the world, and which region each flagged field belongs to."""
    left, top, step = _grid_um(world, opened.stored.fields)
    fields = opened.stored.fields
    columns = fields.grid_shape[1]
    region_of = [
        (int(cell), i)
        for i, region in enumerate(opened.regions)
        for cell in fields.row[region.fields].astype(int) * columns + fields.col[region.fields]
    ]
    return {
        "left": left, "top": top, "step": step, "shape": fields.grid_shape, "region_of": region_of,
    }  # fmt: skip


def _grid_um(world: World, fields: Fields) -> tuple[float, float, tuple[float, float]]:
    """Left and upper end of the grid of cells in the world, and the size of a cell."""
    corner = world.um(np.asarray(fields.origin))
    step = (fields.stride_level0[0] * world.mpp_x, fields.stride_level0[1] * world.mpp_y)
    # With overlap a field stands for the square of one stride around its centre.
    inset = (
        (fields.field_level0[0] * world.mpp_x - step[0]) / 2,
        (fields.field_level0[1] * world.mpp_y - step[1]) / 2,
    )
    return float(corner[0] + inset[0]), float(corner[1] - inset[1]), step


def _rounded(score: float) -> float:
    """Six digits: a float32 has no more, and the page is a third smaller."""
    return float(f"{score:.6g}")


def _figure(world: World, opened: OpenResult, url: str) -> Any:
    from bokeh.models import ColumnDataSource, Range1d, WMTSTileSource
    from bokeh.plotting import figure as new_figure

    top = world.side_um
    made = new_figure(
        sizing_mode="stretch_both",
        x_range=Range1d(start=0, end=world.width_um, name="x_range"),
        y_range=Range1d(start=top - world.height_um, end=top, name="y_range"),
        tools="pan,wheel_zoom,box_zoom",
        active_scroll="wheel_zoom",
        toolbar_location=None,
        output_backend="canvas",
        background_fill_color="#ffffff",
        outline_line_color=None,
    )
    made.axis.visible = False
    made.grid.visible = False
    made.min_border = 0
    made.add_tile(
        WMTSTileSource(
            url=url,
            tile_size=TILE_PX,
            min_zoom=0,
            max_zoom=world.max_zoom,
            initial_resolution=world.mpp(0),
            x_origin_offset=0,
            y_origin_offset=0,
            wrap_around=False,
        )
    )
    rows, cols = opened.stored.fields.grid_shape
    left, upper, step = _grid_um(world, opened.stored.fields)
    made.image_rgba(
        image="image", x="x", y="y", dw="dw", dh="dh", name="heatmap",
        source=ColumnDataSource(
            {
                "image": [np.zeros((rows, cols), np.uint32)],
                "x": [left],
                "y": [upper - rows * step[1]],
                "dw": [cols * step[0]],
                "dh": [rows * step[1]],
            },
            name="map",
        ),
    )  # fmt: skip
    made.multi_polygons(
        xs="xs", ys="ys", fill_alpha=0, line_width="width", line_color="color",
        source=ColumnDataSource(_outlines(world, opened.regions), name="outlines"),
    )  # fmt: skip
    made.scatter(
        x="x", y="y", marker="circle", size=26, fill_alpha=0, line_width=3,
        line_color="#{:02x}{:02x}{:02x}".format(*ANOMALOUS.color),
        source=ColumnDataSource({"x": [], "y": []}, name="mark"),
    )  # fmt: skip
    return made


def _outlines(world: World, regions: Sequence[AnomalousRegion]) -> dict[str, list[Any]]:
    """Rings of each region, one entry a region: a reviewed one takes the colour of its verdict."""
    import shapely

    xs: list[Any] = []
    ys: list[Any] = []
    for region in regions:
        rings = [
            [world.um(np.asarray(ring.coords)) for ring in (part.exterior, *part.interiors)]
            for part in shapely.get_parts(region.outline)
        ]
        xs.append([[ring[:, 0].tolist() for ring in part] for part in rings])
        ys.append([[ring[:, 1].tolist() for ring in part] for part in rings])
    count = len(regions)
    return {"xs": xs, "ys": ys, "color": ["#0a0a14"] * count, "width": [2] * count}

"""The slide, its heatmap and the outlines of its regions as a Bokeh figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wsi_anomaly.results.colors import ANOMALOUS
from wsi_anomaly.scoring import AnomalousRegion
from wsi_anomaly.viewer.opened import OpenResult
from wsi_anomaly.viewer.world import TILE_PX, World, grid_um

MARKED = "#0072b2"
"""Blue of marked normal tissue, which those tell from red and green who cannot tell these."""


def slide_figure(world: World, opened: OpenResult, url: str, grey_url: str) -> Any:
    """Draw up the figure; its parts have names, by which the page's script finds them.

    Parameters
    ----------
    world, opened
        The slide and its result.
    url, grey_url
        Addresses of its tiles in colour and in grey, with places for ``{Z}``, ``{X}`` and ``{Y}``.
    """
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
    for name, address in (("slide", url), ("grey", grey_url)):
        source = WMTSTileSource(
            url=address,
            tile_size=TILE_PX,
            min_zoom=0,
            max_zoom=world.max_zoom,
            initial_resolution=world.mpp(0),
            x_origin_offset=0,
            y_origin_offset=0,
            wrap_around=False,
        )
        made.add_tile(source, name=name, visible=name == "slide")
    rows, cols = opened.stored.fields.grid_shape
    left, upper, step = grid_um(world, opened.stored.fields)
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
    made.multi_polygons(
        xs="xs", ys="ys", fill_alpha=0, line_width="width", line_color="color", line_dash=[6, 4],
        source=ColumnDataSource(_outlines(world, opened.taken_away)), name="taken", visible=False,
    )  # fmt: skip
    _add_marks(made)
    made.scatter(
        x="x", y="y", marker="circle", size=26, fill_alpha=0, line_width=3,
        line_color="#{:02x}{:02x}{:02x}".format(*ANOMALOUS.color),
        source=ColumnDataSource({"x": [], "y": []}, name="mark"),
    )  # fmt: skip
    return made


def _add_marks(figure: Any) -> None:
    """Make room for marked normal tissue, which the page's script fills in.

    Hatched in blue on white, with its name: it is told from flags and verdicts without colour too.
    """
    from bokeh.models import ColumnDataSource

    source = ColumnDataSource({"xs": [], "ys": []}, name="normal")
    figure.multi_polygons(
        xs="xs", ys="ys", source=source, line_color="#ffffff", line_width=6, line_alpha=0.9,
        fill_alpha=0,
    )  # fmt: skip
    figure.multi_polygons(
        xs="xs", ys="ys", source=source, line_color=MARKED, line_width=2.5, fill_color=MARKED,
        fill_alpha=0.08, hatch_pattern="/", hatch_color=MARKED, hatch_alpha=0.45, hatch_scale=10,
    )  # fmt: skip
    figure.text(
        x="x", y="y", text="text", source=ColumnDataSource({"x": [], "y": [], "text": []},
        name="normal_names"), text_align="center", text_baseline="middle", text_color="#ffffff",
        text_font_size="12px", text_font_style="bold", background_fill_color=MARKED,
        background_fill_alpha=0.9, padding=3, border_radius=3,
    )  # fmt: skip


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

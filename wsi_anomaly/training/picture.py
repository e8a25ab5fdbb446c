"""The picture at the end of a training: curves, errors on tiles, the most and least normal ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.detectors import Model
from wsi_anomaly.detectors.base import sample_images
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.tiles import TileSet
from wsi_anomaly.tiles.plane import Plane
from wsi_anomaly.training.fields import draw_windows

_LOOKED_AT = 1024
_SHOWN = 8
_DPI = 110


def training_picture(
    model: Model, log: Sequence[dict[str, Any]], tiles: TileSet, loss_name: str
) -> bytes:
    """Draw the picture as a PNG.

    Parameters
    ----------
    model
        The trained model.
    log
        Reports of the training loop; may be empty.
    tiles
        Held-out normal tiles (or training tiles when there are no others).
    loss_name
        What the loss is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    extremes = _tiles if model.primary in model.tile_methods else _fields
    rows = extremes(model, tiles)
    maps = {
        name: model.pixel_maps(images) if images.shape[1] == model.tile_size else None
        for name, images in rows.items()
    }
    figure = Figure(figsize=(10, 8.2 if log else 5.2), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    top = figure.add_gridspec(2 if log else 1, 1, height_ratios=(2, 4) if log else (1,))
    if log:
        _curves(figure.add_subplot(top[0]), log, loss_name)
    grid = top[1 if log else 0].subgridspec(4, _SHOWN, hspace=0.08, wspace=0.05)
    highest = max((float(m.max()) for m in maps.values() if m is not None), default=1.0)
    for k, (name, images) in enumerate(rows.items()):
        for j, image in enumerate(images):
            axes = figure.add_subplot(grid[2 * k, j])
            _show(axes, image)
            if j == 0:
                axes.set_ylabel(name, fontsize=8)
            found = maps[name]
            if found is not None:
                axes = figure.add_subplot(grid[2 * k + 1, j])
                axes.imshow(found[j], cmap="inferno", vmin=0, vmax=highest)
                axes.set_xticks([])
                axes.set_yticks([])
                if j == 0:
                    axes.set_ylabel("error", fontsize=8)
    figure.suptitle(f"{model.name}: training, and held-out normal tissue", fontsize=11)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png")
    return buffer.getvalue()


def _tiles(model: Model, tiles: TileSet) -> dict[str, NDArray[np.uint8]]:
    """Take the tiles that the ranking method finds most and least normal, (n, s, s, 3)."""
    images = sample_images(tiles, _LOOKED_AT)
    order = np.argsort(model.score_tiles(images)[model.primary], kind="stable")
    return {"most normal": images[order[:_SHOWN]], "least normal": images[order[::-1][:_SHOWN]]}


def _fields(model: Model, tiles: TileSet) -> dict[str, NDArray[np.uint8]]:
    """Take the same of the fields round cells, (n, s, s, 3) with the largest field's side."""
    maps, side = model.dense_maps(), max(model.fields_um) * model.magnification // 10
    scored: list[tuple[float, Plane, int, int]] = []
    for store in tiles.stores:
        stored = store.plane(model.magnification)
        if stored is None:
            continue
        plane, cells = stored
        wanted = draw_windows(cells, _LOOKED_AT // len(tiles.stores))
        for part in embed_cells(plane, cells, maps, model.fields_um, wanted=wanted):
            scores = model.score_fields(part.embeddings, part.shares)[model.primary].tolist()
            at = cells.take(part.indices)
            scored += zip(scores, [plane] * len(at), at.row.tolist(), at.col.tolist(), strict=True)
    scored.sort(key=lambda entry: entry[0])
    # The next to an extreme one is nearly the same picture: every so many is shown.
    step = max(1, len(scored) // _LOOKED_AT)
    rows = {"most normal": scored[::step], "least normal": scored[::-step]}
    return {
        name: np.stack([_around(plane, row, col, side) for _, plane, row, col in found[:_SHOWN]])
        for name, found in rows.items()
    }


def _around(plane: Plane, row: int, col: int, side: int) -> NDArray[np.uint8]:
    """Pixels of the field round a cell; background beyond the plane."""
    corner = [place * plane.square_px + (plane.square_px - side) // 2 for place in (row, col)]
    out = np.full((side, side, 3), plane.background, np.uint8)
    (top, left), (bottom, right) = (
        (max(corner[0], 0), max(corner[1], 0)),
        (min(corner[0] + side, plane.height), min(corner[1] + side, plane.width)),
    )
    out[top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]] = plane.read(
        left, top, right - left, bottom - top
    )
    return out


def _show(axes: Any, image: NDArray[np.uint8]) -> None:
    axes.imshow(image)
    axes.set_xticks([])
    axes.set_yticks([])


def _curves(axes: Any, log: Sequence[dict[str, Any]], loss_name: str) -> None:
    steps = [entry["step"] for entry in log]
    axes.plot(steps, [entry["loss"] for entry in log], color="#2d6a8a", lw=1.2, label="training")
    seen = [(e["step"], e["validation"]) for e in log if e["validation"] is not None]
    if seen:
        axes.plot(*zip(*seen, strict=True), "o-", color="#c8503c", ms=4, label="validation cases")
    former = ""
    for entry in log:
        if entry["stage"] != former:
            axes.axvline(entry["step"], color="#999", lw=0.6, ls=":")
            axes.text(
                entry["step"], 0.97, " " + entry["stage"], fontsize=7, va="top", color="#555",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
            former = entry["stage"]
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel(loss_name, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="lower left")

"""The picture at the end of a training: curves, errors on tiles, the most and least normal ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.autoencoder.batches import Tiles
from wsi_anomaly.detectors import Model
from wsi_anomaly.detectors.base import sample_images

_LOOKED_AT = 1024
_SHOWN = 8
_DPI = 110


def training_picture(
    model: Model, log: Sequence[dict[str, Any]], tiles: Tiles, loss_name: str
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

    images = sample_images(tiles, _LOOKED_AT)
    order = np.argsort(model.score_tiles(images)[model.primary], kind="stable")
    rows = {"most normal": order[:_SHOWN], "least normal": order[::-1][:_SHOWN]}
    maps = {name: model.pixel_maps(images[chosen]) for name, chosen in rows.items() if len(chosen)}
    figure = Figure(figsize=(10, 8.2 if log else 5.2), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    top = figure.add_gridspec(2 if log else 1, 1, height_ratios=(2, 4) if log else (1,))
    if log:
        _curves(figure.add_subplot(top[0]), log, loss_name)
    grid = top[1 if log else 0].subgridspec(4, _SHOWN, hspace=0.08, wspace=0.05)
    highest = max((float(m.max()) for m in maps.values() if m is not None), default=1.0)
    for k, (name, chosen) in enumerate(rows.items()):
        for j, index in enumerate(chosen):
            axes = figure.add_subplot(grid[2 * k, j])
            _show(axes, images[index])
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
    figure.suptitle(f"{model.name}: training, and held-out normal tiles", fontsize=11)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png")
    return buffer.getvalue()


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

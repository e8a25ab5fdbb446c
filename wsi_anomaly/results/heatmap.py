"""``heatmap.png``: the score map over the slide, with legend and scale bar."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.results.colors import NOT_ASSESSED, blend, paint
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.scoring import ScoreMap

_DPI = 150
_WIDTH_IN = 10.0
_BELOW_IN = 1.15  # for the legend
_TISSUE_GREY = 205.0  # of average tissue in the faded thumbnail
_APART = 0.16  # of the bar, from one percentile to the next: their labels do not touch


def round_length(um: float) -> float:
    """Largest of 1, 2, 5 x 10^k that does not exceed a length."""
    power = 10.0 ** math.floor(math.log10(um))
    return max(step for step in (1.0, 2.0, 5.0) if step * power <= um * (1 + 1e-9)) * power


def length_label(um: float) -> str:
    """Write a length as a scale bar does: 500 µm, 2 mm."""
    return f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"


def legend_colors(steps: int = 256) -> NDArray[np.uint8]:
    """Colours (steps, 3) as they look on tissue."""
    return blend(paint(np.linspace(0, 1, steps), 0.0, 1.0), _TISSUE_GREY)


def percentile_ticks(score_map: ScoreMap) -> list[tuple[float, str]]:
    """Raw scores of round percentiles of normal tissue that lie in the colour range."""
    if score_map.calibration is None:
        return []
    low, high = score_map.interpretation.color_range
    ticks: list[tuple[float, str]] = []
    for percent in (75, 90, 99, 99.9):
        value = score_map.calibration.quantile(percent / 100)
        if low <= value <= high and (not ticks or value - ticks[-1][0] > _APART * (high - low)):
            ticks.append((value, f"{percent:g}"))
    return ticks


def write_heatmap_png(
    path: str | Path, score_map: ScoreMap, overlay: NDArray[np.uint8], frame: Frame
) -> None:
    """Write the picture.

    Parameters
    ----------
    path
        The PNG.
    score_map, frame
        The map, and the extent that `overlay` shows.
    overlay
        (h, w, 3) uint8, of :func:`~wsi_anomaly.results.raster.overlay_picture`.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from imagecodecs import PNG, png_encode
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    height, width = overlay.shape[:2]
    shown = min(_WIDTH_IN - 0.6, 11.0 * width / height)
    tall = shown * height / width
    total = tall + _BELOW_IN + 0.7
    figure = Figure(figsize=(_WIDTH_IN, total), dpi=_DPI, frameon=False)
    canvas = FigureCanvasAgg(figure)
    text: dict[str, Any] = {"color": "#222", "family": "DejaVu Sans"}

    left = (_WIDTH_IN - shown) / 2
    um_per_in = frame.width * score_map.slide.mpp.x / shown
    _scale_bar(figure, um_per_in, left + 0.02 * shown, _BELOW_IN + 0.025 * tall, 0.2 * shown)

    name = score_map.slide.name
    figure.text(0.03, 1 - 0.36 / total, name if len(name) < 70 else name[:67] + "...",
                fontsize=13, weight="bold", parse_math=False, **text)  # fmt: skip
    figure.text(
        0.97, 1 - 0.36 / total, f"anomaly score: {score_map.primary}",
        ha="right", fontsize=9, parse_math=False, **text,
    )  # fmt: skip
    _legend(figure, score_map, total, text)

    # The picture is laid down first, pixel by pixel: matplotlib would resample it once more.
    renderer: Any = canvas.get_renderer()  # type: ignore[no-untyped-call]
    pixels = np.asarray(renderer.buffer_rgba())
    pixels[...] = 255
    size = (round(shown * _DPI), round(tall * _DPI))
    x, y = round(left * _DPI), len(pixels) - round(_BELOW_IN * _DPI) - size[1]
    picture = Image.fromarray(overlay).resize(size, Image.Resampling.LANCZOS)
    pixels[y : y + size[1], x : x + size[0], :3] = picture
    figure.draw(renderer)
    with atomic_file(path) as partial:
        # A third of the time of PNG's usual settings, and hardly larger.
        encoded = png_encode(np.ascontiguousarray(pixels[..., :3]), level=1, filter=PNG.FILTER.UP)
        partial.write_bytes(encoded)


def _scale_bar(figure: Any, um_per_in: float, x: float, y: float, longest: float) -> None:
    """Draw a bar of round length; `x`, `y` (its left end) and `longest` in inches."""
    from matplotlib.lines import Line2D

    um = round_length(longest * um_per_in)
    end = x + um / um_per_in
    inches = figure.dpi_scale_trans
    for color, thickness in (("white", 6), ("black", 3)):
        figure.add_artist(
            Line2D([x, end], [y, y], color=color, linewidth=thickness, solid_capstyle="butt",
                   transform=inches)
        )  # fmt: skip
    figure.text(
        (x + end) / 2, y + 0.07, length_label(um), ha="center", va="bottom", fontsize=9,
        transform=inches,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def _legend(figure: Any, score_map: ScoreMap, total: float, text: dict[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    low, high = score_map.interpretation.color_range
    bar = figure.add_axes((0.03, 0.62 / total, 0.55, 0.17 / total))
    bar.imshow(legend_colors()[None], aspect="auto", extent=(low, high, 0, 1))
    bar.set_yticks([])
    bar.tick_params(labelsize=8, length=3)
    bar.set_xlabel("raw anomaly score", fontsize=8)
    ticks = percentile_ticks(score_map)
    for value, label in ticks:
        bar.annotate(
            f"{label}%", (value, 1), (0, 5), textcoords="offset points", ha="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    if ticks:
        note = "above the bar: percentile of normal tissue\ncolours fixed by normal slides"
    elif score_map.interpretation.color_range_fixed:
        note = "colours fixed by normal slides"
    else:
        note = "no calibration: colours of this slide only,\nthey do not compare between slides"
    figure.add_artist(
        Rectangle((0.62, 0.62 / total), 0.02, 0.17 / total, linewidth=0,
                  facecolor=[value / 255 for value in NOT_ASSESSED.color])
    )  # fmt: skip
    figure.text(0.65, 0.65 / total, "not assessed", fontsize=8, **text)
    figure.text(0.62, 0.22 / total, note, fontsize=7.5, **text)
    if score_map.interpretation.regions:
        figure.text(0.78, 0.65 / total, "black line: flagged region", fontsize=8, **text)

"""Geometry of the report's small charts; the templates draw them as SVG, without scripts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wsi_anomaly.results.heatmap import legend_colors, percentile_ticks
from wsi_anomaly.scoring import ScoreMap

WIDTH = 640
_BINS = 48
_MARGIN = 14
_STOPS = 16


def round_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Round values between two ends, and their labels."""
    span = high - low
    power = 10.0 ** np.floor(np.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10) if span / (s * power) <= most)
    values = np.arange(np.ceil(low / step) * step, high + step * 1e-9, step)
    return [(float(v), f"{round(float(v), 9):.5g}") for v in values]


@dataclass(frozen=True)
class Axis:
    """A linear axis over the width of a chart."""

    low: float
    high: float

    def px(self, value: float) -> float:
        """Position of a value."""
        inner = WIDTH - 2 * _MARGIN
        return round(_MARGIN + (value - self.low) / (self.high - self.low) * inner, 1)

    def ticks(self, most: int = 7) -> list[tuple[float, str]]:
        """Positions and labels of round values."""
        return [(self.px(v), label) for v, label in round_ticks(self.low, self.high, most)]


@dataclass(frozen=True)
class Histogram:
    """Scores of one slide beside those of normal tissue; heights on a square-root scale.

    Attributes
    ----------
    bars
        (x, y, width, height) of this slide's bins.
    normal
        SVG path of normal tissue, or None.
    point
        Position of the operating point, or None.
    ticks
        Positions and labels of the score axis.
    base, height, width
        Bottom line and size of the drawing.
    """

    bars: list[tuple[float, float, float, float]]
    normal: str | None
    point: float | None
    ticks: list[tuple[float, str]]
    base: float = 196
    height: float = 230
    width: float = WIDTH


def histogram(score_map: ScoreMap) -> Histogram | None:
    """Draw up the histogram; None when nothing was assessed."""
    known = score_map.score[score_map.assessed]
    if not len(known):
        return None
    reference = score_map.calibration
    point = score_map.interpretation.operating_point.threshold
    ends = [float(known.min()), float(known.max())]
    if reference is not None:
        ends += [reference.quantile(0.001), reference.quantile(1.0)]
    if point is not None:
        ends.append(point)
    low = min(ends)
    axis = Axis(low, max(*ends, low + 1e-6 * max(1.0, abs(low))))
    edges = np.linspace(axis.low, axis.high, _BINS + 1)
    here = np.histogram(known, edges)[0] / len(known)
    normal = np.zeros(_BINS) if reference is None else reference.histogram(edges)
    # Square root: the few high tiles are what matters, a linear scale would hide them.
    top, base, room = float(np.sqrt(max(here.max(), normal.max()))), Histogram.base, 168.0

    def py(share: float) -> float:
        return round(base - float(np.sqrt(share)) / top * room, 1)

    bins = [(axis.px(a), axis.px(b)) for a, b in pairwise(edges.tolist())]
    bars = [
        (a + 0.5, py(v), round(b - a - 1, 1), round(base - py(v), 1))
        for (a, b), v in zip(bins, here.tolist(), strict=True)
        if v > 0
    ]
    steps = "".join(
        f"L{a},{py(v)}L{b},{py(v)}" for (a, b), v in zip(bins, normal.tolist(), strict=True)
    )
    return Histogram(
        bars,
        None if reference is None else f"M{axis.px(axis.low)},{base}{steps}",
        None if point is None else axis.px(point),
        axis.ticks(),
    )


@dataclass(frozen=True)
class Ruler:
    """A scale bar in a picture: its share of the width, per cent, and what it is."""

    percent: float
    label: str


def ruler(width_um: float, share: float = 0.2) -> Ruler:
    """Draw up the scale bar of a picture: a round length of at most `share` of its width.

    Examples
    --------
    >>> ruler(12_000.0)
    Ruler(percent=16.67, label='2 mm')
    """
    most = width_um * share
    power = 10.0 ** math.floor(math.log10(most))
    length = next(step for step in (5, 2, 1) if step * power <= most) * power
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return Ruler(round(100 * length / width_um, 2), label)


@dataclass(frozen=True)
class ColorBar:
    """Legend of the heatmap: raw scores below, percentiles of normal tissue above."""

    stops: list[tuple[float, str]]
    scores: list[tuple[float, str]]
    percentiles: list[tuple[float, str]]
    left: float = _MARGIN
    inner: float = WIDTH - 2 * _MARGIN
    width: float = WIDTH


def color_bar(score_map: ScoreMap) -> ColorBar:
    """Draw up the legend."""
    axis = Axis(*score_map.interpretation.color_range)
    colors = legend_colors(_STOPS).tolist()
    return ColorBar(
        [(k / (_STOPS - 1), "#{:02x}{:02x}{:02x}".format(*rgb)) for k, rgb in enumerate(colors)],
        axis.ticks(),
        [(axis.px(value), f"{label}%") for value, label in percentile_ticks(score_map)],
    )

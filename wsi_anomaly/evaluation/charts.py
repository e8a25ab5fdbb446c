"""Geometry of the report's charts; the template draws them as SVG, without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_anomaly.evaluation.froc import FALSE_PER_SLIDE, Froc, sensitivity_at
from wsi_anomaly.evaluation.labels import ABNORMAL, NORMAL
from wsi_anomaly.evaluation.metrics import judged
from wsi_anomaly.reports.charts import round_ticks

WIDTH, HEIGHT = 440, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 46
_BINS = 60
_SHARES = tuple((v, f"{v:g}") for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


@dataclass(frozen=True)
class Line:
    """A curve: what it shows, the class that colours it, its SVG path, and its markers."""

    label: str
    kind: str
    path: str
    marks: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Chart:
    """A chart: its curves, and ticks as (position, label)."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    base: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Series:
    """Scores of a curve, with its label and the class that colours it."""

    label: str
    kind: str
    scores: NDArray[np.floating]


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _path(x: ArrayLike, y: ArrayLike) -> str:
    """Path through points of the unit square; points that fall on one another are drawn once."""
    points: list[tuple[float, float]] = []
    for a, b in zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True):
        point = (_x(a), _y(b))
        if not points or max(abs(point[0] - points[-1][0]), abs(point[1] - points[-1][1])) >= 0.5:
            points.append(point)
    return "M" + "L".join(f"{a},{b}" for a, b in points)


def _ticks(values: Sequence[tuple[float, str]], *, upright: bool) -> list[tuple[float, str]]:
    return [((_y if upright else _x)(v), label) for v, label in values]


def roc_chart(labels: NDArray[np.int8], series: Sequence[Series], noun: str) -> Chart:
    """ROC curves of several scores (N,) of the same entries."""
    from sklearn.metrics import roc_curve

    lines = [Line("chance", "chance", _path((0, 1), (0, 1)))]
    for one in series:
        keep = judged(labels, one.scores)
        false, true, _ = roc_curve(labels[keep] == ABNORMAL, one.scores[keep])
        lines.append(Line(one.label, one.kind, _path(false, true)))
    return Chart(
        "ROC", f"share of normal {noun}s above the threshold", "sensitivity",
        _ticks(_SHARES, upright=False), _ticks(_SHARES, upright=True), lines,
    )  # fmt: skip


def pr_chart(labels: NDArray[np.int8], series: Sequence[Series], noun: str) -> Chart:
    """Precision-recall curves of several scores (N,) of the same entries."""
    from sklearn.metrics import precision_recall_curve

    lines: list[Line] = []
    for one in series:
        keep = judged(labels, one.scores)
        truth = labels[keep] == ABNORMAL
        if not lines:
            share = float(truth.mean())
            label = f"chance: {share:.3f}, the share of abnormal {noun}s"
            lines.append(Line(label, "chance", _path((0, 1), (share, share))))
        precision, recall, _ = precision_recall_curve(truth, one.scores[keep])
        # From the highest threshold; the point (0, 1) is only scikit-learn's convention.
        lines.append(Line(one.label, one.kind, _path(recall[-2::-1], precision[-2::-1])))
    return Chart(
        "Precision and recall", "sensitivity (recall)", "precision",
        _ticks(_SHARES, upright=False), _ticks(_SHARES, upright=True), lines,
    )  # fmt: skip


def froc_chart(found: Froc) -> Chart:
    """Sensitivity for lesions against false positives per slide, on a logarithmic axis."""
    low, high = np.log2(FALSE_PER_SLIDE[0] / 2), np.log2(FALSE_PER_SLIDE[-1])

    def at(false: ArrayLike) -> NDArray[np.float64]:
        share: NDArray[np.float64] = (np.log2(np.asarray(false)) - low) / (high - low)
        return share

    false = 2.0 ** np.linspace(low, high, 200)
    marks = tuple((_x(float(at(k))), _y(estimate.value)) for k, estimate in found.at.items())
    curve = sensitivity_at(found.false_per_slide, found.sensitivity, false)
    names = {0.25: "1/4", 0.5: "1/2"}
    return Chart(
        "FROC", "false positives per slide", "share of lesions found",
        [(_x(float(at(k))), names.get(k, f"{k:g}")) for k in FALSE_PER_SLIDE],
        _ticks(_SHARES, upright=True),
        [Line(f"mean of the six points: {found.mean}", "main", _path(at(false), curve), marks)],
    )  # fmt: skip


def score_chart(
    labels: NDArray[np.int8], scores: NDArray[np.floating], label: str, noun: str
) -> Chart:
    """Histograms of scores (N,), normal and abnormal; heights on a square-root scale."""
    keep = judged(labels, scores)
    labels, scores = labels[keep], np.asarray(scores, np.float64)[keep]
    low, high = (float(v) for v in np.quantile(scores, (0.0005, 0.9995)))
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    kinds = (("normal", NORMAL), ("abnormal", ABNORMAL))
    shares = {
        name: np.histogram(np.clip(scores[labels == k], low, high), edges)[0]
        / max(1, int((labels == k).sum()))
        for name, k in kinds
    }
    top = float(np.sqrt(max(values.max() for values in shares.values()))) or 1.0
    place = (edges - low) / (high - low)
    lines = []
    for name, k in kinds:
        heights = np.sqrt(shares[name]) / top
        steps = "".join(
            f"L{_x(a)},{_y(h)}L{_x(b)},{_y(h)}"
            for (a, b), h in zip(pairwise(place.tolist()), heights.tolist(), strict=True)
        )
        path = f"M{_x(0)},{_y(0)}{steps}L{_x(1)},{_y(0)}Z"
        lines.append(Line(f"{int((labels == k).sum()):,} {name}", f"area {name}", path))
    # Round shares, at the heights that their roots give them.
    round_shares = [v for v in (0.01, 0.05, 0.1, 0.2, 0.4, 0.8) if np.sqrt(v) <= top]
    return Chart(
        "Scores", label, f"share of {noun}s (square root)",
        [(_x((v - low) / (high - low)), text) for v, text in round_ticks(low, high, 7)],
        [(_y(float(np.sqrt(v)) / top), f"{v:.0%}") for v in round_shares],
        lines,
    )  # fmt: skip

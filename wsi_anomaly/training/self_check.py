"""The self-check at the end of ``train`` and ``calibrate``: what the reference itself shows.

The calibration slides are normal cases that nothing was learned from. What would be flagged on
each, were it new, tells more about the model than any promise: a fold that the tissue map missed,
a slide that is not normal, or too few cases.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.core.wording import counted
from wsi_anomaly.detectors import Model
from wsi_anomaly.learning.batches import Tiles
from wsi_anomaly.scoring.model import grid_of
from wsi_anomaly.training.inputs import Notes
from wsi_anomaly.training.normals import NormalSlide

PICTURE = "self_check.png"
_SHOWN, _ACROSS, _OF_A_SLIDE = 12, 6, 3
_VIEW_UM = 256.0
_ENOUGH = 20  # cases, beyond which more of them change little
_COSTLY = 0.25
_FEW_OF_MANY = 4 / _ENOUGH  # what the cap of five regions costs then
_LOOKED_AT = 1024


def self_check(model: Model) -> list[str]:
    """Say what each normal case shows when it is left out; nothing where it gets no flags then."""
    reference = model.calibration.get(model.primary)
    found = {} if reference is None else reference.left_out()
    if reference is None or not found:
        return []
    total, slides = sum(found.values()), reference.n_slides
    said = (
        f"Self-check: {counted(len(found), 'normal case')}, each left out in turn as if it "
        f"were new, show {counted(total, 'false region')} (promised: at most {slides} on "
        f"{counted(slides, 'slide')}, on average)."
    )
    out = [said]
    worst = max(found, key=lambda case: found[case])
    if found[worst] > max(1, total / 2):
        out.append(f"{found[worst]} of them lie on {worst}: look whether it is normal and sharp.")
    point = reference.operating_point()
    cost = 0.0 if point.cap is None else (point.cap - 1) / point.cases
    if cost > _COSTLY:
        out.append(
            f"More cases would help: so few cost {cost:.0%} of what the promise allows, "
            f"{_ENOUGH} cost {_FEW_OF_MANY:.0%}."
        )
    return out


def tell_known(model: Model, anomalies: Tiles | None, note: Notes) -> None:
    """Say what share of known abnormal tiles would be flagged, where that can be known."""
    reference = model.calibration.get(model.primary)
    threshold = None if reference is None else reference.operating_point().threshold
    if anomalies is None or threshold is None or model.primary not in model.tile_methods:
        return
    images = anomalies.batch(np.arange(min(len(anomalies), _LOOKED_AT)))
    above = float(np.mean(model.score_tiles(images)[model.primary] > threshold))
    tiles = counted(len(images), "known abnormal tile")
    note(f"Of {tiles} {above:.0%} lie above the operating point.")


@dataclass(frozen=True)
class _Place:
    """A place of a calibration slide: its smoothed score, and the middle of its field."""

    score: float
    slide: str
    row: int
    col: int


def check_files(model: Model, slides: Sequence[NormalSlide]) -> dict[str, bytes]:
    """Draw the most anomalous places of the normal slides; the picture by its name.

    Parameters
    ----------
    model
        Calibrated.
    slides
        The slides that it was calibrated on; nothing is drawn where none can be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    reference = model.calibration.get(model.primary)
    if reference is None:
        return {}
    step_um = grid_of(model, None)["stride_um"]
    highest = _highest(reference, round(_VIEW_UM / step_um))
    shown: list[tuple[_Place, NDArray[np.uint8]]] = []
    for slide in slides:
        places = [place for place in highest if place.slide == slide.path.stem]
        if places and slide.embeddings is None:  # those lie on a grid of their own
            shown += zip(places, _views(slide, places, step_um, model.magnification), strict=False)
    shown.sort(key=lambda entry: -entry[0].score)
    if not shown:
        return {}
    rows = -(-len(shown) // _ACROSS)
    figure = Figure(figsize=(11, 2.2 * rows + 0.6), dpi=110, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for i, (place, pixels) in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, _ACROSS, i)
        axes.imshow(pixels)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"{place.slide[:22]}\n{place.score:.4g}", fontsize=7)
    figure.suptitle("The most anomalous normal places: are these artefacts?", fontsize=11)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png")
    return {PICTURE: buffer.getvalue()}


def _highest(reference: Calibration, apart: int) -> list[_Place]:
    """Places with the highest smoothed scores, at most three of a slide, none side by side."""
    found: list[_Place] = []
    for slide, smoothed in zip(reference.slides, reference.smoothed, strict=True):
        own: list[_Place] = []
        for i in np.argsort(-smoothed, kind="stable")[:1000].tolist():
            row, col = int(slide.row[i]), int(slide.col[i])
            if all(max(abs(row - p.row), abs(col - p.col)) >= apart for p in own):
                own.append(_Place(float(smoothed[i]), slide.slide, row, col))
            if len(own) == _OF_A_SLIDE:
                break
        found += own
    return sorted(found, key=lambda place: -place.score)[:_SHOWN]


def _views(
    slide: NormalSlide, places: Sequence[_Place], step_um: float, magnification: int
) -> list[NDArray[np.uint8]]:
    """Pixels round places of a slide; none where they cannot be read any more."""
    mpp = mpp_of(magnification)
    side = round(_VIEW_UM / mpp)
    views: list[NDArray[np.uint8]] = []
    try:
        with slide.opened() as opened:
            for place in places:
                x, y = (
                    start + ((index + 0.5) * step_um - _VIEW_UM / 2) / size
                    for start, index, size in (
                        (opened.bounds.x, place.col, opened.mpp.x),
                        (opened.bounds.y, place.row, opened.mpp.y),
                    )
                )
                views.append(opened.read(x, y, (side, side), mpp).rgb)
    except (WsiAnomalyError, OSError):
        return []
    return views

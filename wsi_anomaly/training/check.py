"""Shift before scores: whether a batch of slides is like the normal slides of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_anomaly.calibration import (
    Calibration,
    CaseScores,
    label_regions,
    location,
    smooth_scores,
)
from wsi_anomaly.calibration.shift import BatchShift, batch_shift
from wsi_anomaly.core.devices import choose_device, memory_explained
from wsi_anomaly.core.errors import ModelError, WsiAnomalyError
from wsi_anomaly.core.resources import find_model
from wsi_anomaly.detectors import Model
from wsi_anomaly.options import CheckOptions
from wsi_anomaly.scoring.embedded import check_kind
from wsi_anomaly.training.normals import score_normal_slide
from wsi_anomaly.training.recalibration import normal_slides
from wsi_anomaly.training.run import Watch


@dataclass(frozen=True)
class Checked:
    """What a batch is like.

    Attributes
    ----------
    shift
        Beside the model's normal slides; None when nothing can be compared.
    false_regions
        Regions a slide that the batch shows at a promise of one: false ones, were all of it
        normal; None where some slide gets no flags.
    slides, used
        How many were given, and how many could be scored.
    """

    shift: BatchShift | None
    false_regions: float | None
    slides: int
    used: int


def check(
    new: Sequence[str | Path],
    model: str | Path | None,
    options: CheckOptions,
    *,
    watch: Watch | None = None,
) -> Checked:
    """Score slides, write nothing, and compare them as a batch.

    Parameters
    ----------
    new
        Slides, folders of them, or a manifest.
    model
        Its folder; None: ``model/``, else the shipped one.
    options, watch
        What is known of the slides and where to compute, and who is told what.

    Raises
    ------
    WsiAnomalyError
        The model cannot be read, or has no normal slides to compare with.
    """
    watch = watch or Watch()
    slides = normal_slides(new, options, watch)
    device = choose_device(options.device)
    loaded = Model.load(find_model(model), device=device)
    check_kind(loaded, given=options.embeddings is not None)
    reference = loaded.calibration.get(loaded.primary)
    if reference is None:
        raise ModelError(
            f"The model {loaded.name} has no normal slides to compare with; run wsi-anomaly "
            "calibrate with some."
        )
    found: dict[str, list[float]] = {}
    regions: list[int | None] = []
    for slide in slides:
        watch.stage(f"looking at {slide.path.name}")
        try:
            with memory_explained(device, "end other programs that use it, or give --device cpu"):
                scores = score_normal_slide(slide, loaded)[1].get(loaded.primary)
        except (WsiAnomalyError, OSError) as error:
            watch.note(f"Not looked at: {error}")
            continue
        if scores is not None:
            regions.append(_regions(reference, scores))
            for name, value in scores.measured.items():
                found.setdefault(name, []).append(value)
    used = len(regions)
    whole = {name: values for name, values in found.items() if len(values) == used}
    counts = [count for count in regions if count is not None]
    return Checked(
        batch_shift(reference.measured(), whole),
        float(np.mean(counts)) if counts and len(counts) == used else None,
        len(slides),
        used,
    )


def _regions(reference: Calibration, scores: CaseScores) -> int | None:
    """Regions of a slide at a promise of one; None where it gets no flags."""
    threshold = reference.operating_point(
        1.0, len(scores.score), location=location(scores.score)
    ).threshold
    if threshold is None:
        return None
    smoothed = smooth_scores(scores.row, scores.col, scores.score)
    return label_regions(scores.row, scores.col, smoothed > threshold)[1]

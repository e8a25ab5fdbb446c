"""Shift before scores: whether a batch of slides is like the normal slides of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_anomaly.calibration.shift import BatchShift, batch_shift
from wsi_anomaly.core.devices import choose_device, memory_explained
from wsi_anomaly.core.errors import ModelError, WsiAnomalyError
from wsi_anomaly.core.resources import find_model
from wsi_anomaly.detectors import Model
from wsi_anomaly.options import CalibrateOptions
from wsi_anomaly.training.normals import score_normal_slide
from wsi_anomaly.training.recalibration import named_slides
from wsi_anomaly.training.run import Watch


@dataclass(frozen=True)
class Checked:
    """What a batch is like.

    Attributes
    ----------
    shift
        Beside the model's normal slides; None when nothing can be compared.
    false_regions
        Regions that the normal slides would show, lay their scores where those of the batch do:
        what a promise of one comes to; None without an operating point.
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
    options: CalibrateOptions,
    *,
    watch: Watch | None = None,
) -> Checked:
    """Score slides, write nothing, and compare them as a batch.

    Parameters
    ----------
    new
        Slides, or folders of them.
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
    slides = named_slides(new, options, watch)
    device = choose_device(options.device)
    loaded = Model.load(find_model(model), device=device)
    reference = loaded.calibration.get(loaded.primary)
    if reference is None:
        raise ModelError(
            f"The model {loaded.name} has no normal slides to compare with; run wsi-anomaly "
            "calibrate with some."
        )
    found: dict[str, list[float]] = {}
    used = 0
    for slide in slides:
        watch.stage(f"looking at {slide.path.name}")
        try:
            with memory_explained(device, "end other programs that use it, or give --device cpu"):
                scores = score_normal_slide(slide, loaded)[1].get(loaded.primary)
        except (WsiAnomalyError, OSError) as error:
            watch.note(f"Not looked at: {error}")
            continue
        if scores is not None:
            used += 1
            for name, value in scores.measured.items():
                found.setdefault(name, []).append(value)
    whole = {name: values for name, values in found.items() if len(values) == used}
    normal = reference.measured()
    threshold = reference.operating_point().threshold
    regions = None
    if used and threshold is not None:
        by = float(np.median(whole["median score"]) - np.median(normal["median score"]))
        regions = reference.regions_above(threshold - by)
    return Checked(batch_shift(normal, whole), regions, len(slides), used)

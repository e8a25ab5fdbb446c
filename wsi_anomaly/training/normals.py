"""Score normal slides for calibration, as new slides will be scored.

A slide is read again from its file, with every field down to the share of tissue that scoring
takes, because a threshold on smoothed maps can only come from whole maps. Of a large slide,
square windows drawn at random are enough: inside a window the map is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import CaseScores
from wsi_anomaly.core.errors import NoTissueError
from wsi_anomaly.core.remote import check_may_connect
from wsi_anomaly.detectors import Model
from wsi_anomaly.jobs import Progress
from wsi_anomaly.scoring.assess import assess_fields
from wsi_anomaly.scoring.model import grid_of
from wsi_anomaly.scoring.slide import check_pixels
from wsi_anomaly.slides import find_tissue, open_slide, slide_fingerprint
from wsi_anomaly.tiles import Fields, Preprocessing, plan_fields

MIN_TISSUE = 0.1
"""Least share of tissue of a field when slides are scored."""
MOST_FIELDS = 4000
MOST_CELLS = 16_000
"""At most about so many tiles, or cells of fields, of a slide: cells share one pass."""
_WINDOW = 12  # fields a side


@dataclass(frozen=True)
class NormalSlide:
    """A normal slide and what identifies it.

    `named_by` is the file that names it; None: the user does.
    """

    path: Path
    case: str
    mpp: float | None = None
    backend: str = "auto"
    named_by: Path | None = None


def score_normal_slide(
    slide: NormalSlide, model: Model, *, progress: Progress | None = None
) -> tuple[str, dict[str, CaseScores]]:
    """Score a normal slide with every method of a model.

    Parameters
    ----------
    slide
        Not used in training or validation.
    model
        Its own calibration is not looked at.
    progress
        Called with fields done and fields in all.

    Returns
    -------
    The slide's fingerprint, and its scores by method; empty when no field could be assessed.

    Raises
    ------
    SlideError, StainError
        The slide cannot be scored.
    """
    if slide.named_by is not None:
        check_may_connect(slide.path, slide.named_by)
    with open_slide(slide.path, mpp=slide.mpp, backend=slide.backend) as opened:
        mark = slide_fingerprint(slide.path)
        check_pixels(opened, model)
        tissue = find_tissue(opened)
        fields = plan_fields(
            opened, tissue, **grid_of(model, None), min_tissue=MIN_TISSUE, max_tiles=None
        )
        if not len(fields):
            raise NoTissueError(f"No tissue was found on {slide.path}; leave it out.")
        chosen, share = sample_windows(fields, MOST_CELLS if model.fields_um else MOST_FIELDS)
        fields = fields.take(chosen)
        found = assess_fields(
            opened,
            tissue,
            fields,
            model,
            Preprocessing.from_dict(model.preprocessing).for_slide(opened, tissue),
            min_tissue=MIN_TISSUE,
            progress=progress,
        )
    out = {}
    for name, values in found.scores.items():
        at = np.flatnonzero(np.isfinite(values))
        if len(at):
            out[name] = CaseScores(
                slide.case,
                slide.path.stem,
                fields.row[at],
                fields.col[at],
                values[at],
                sampled=share,
            )
    return mark, out


def sample_windows(fields: Fields, most: int, *, seed: int = 0) -> tuple[NDArray[np.intp], float]:
    """Fields of whole windows of the grid, drawn until about `most` fields are together.

    Returns
    -------
    indices
        (n,) sorted; all of them when there are at most `most`.
    share
        Part of the fields that is taken.
    """
    count = len(fields)
    if count <= most:
        return np.arange(count), 1.0
    across = fields.grid_shape[1] // _WINDOW + 1
    window = fields.row // _WINDOW * across + fields.col // _WINDOW
    names, sizes = np.unique(window, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    taken = int(np.searchsorted(np.cumsum(sizes[order]), most)) + 1
    indices = np.flatnonzero(np.isin(window, names[order[:taken]]))
    return indices, len(indices) / count

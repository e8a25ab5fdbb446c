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
from wsi_anomaly.core.ahead import ahead
from wsi_anomaly.core.errors import NoTissueError, TooCoarseError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.magnification import mpp_of, serves
from wsi_anomaly.detectors import Model
from wsi_anomaly.jobs import Progress
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Fields, Preprocessing, Status, plan_fields, read_fields

MIN_TISSUE = 0.1
"""Least share of tissue of a field when slides are scored."""
MOST_FIELDS = 4000
_WINDOW = 12  # fields a side
_QUEUED = 4


@dataclass(frozen=True)
class NormalSlide:
    """A normal slide and what identifies it."""

    path: Path
    case: str
    mpp: float | None = None
    backend: str = "auto"


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
    scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in model.methods}
    kept: list[NDArray[np.intp]] = []
    with open_slide(slide.path, mpp=slide.mpp, backend=slide.backend) as opened:
        mark = fingerprint(slide.path)
        if not serves(opened.finest_mpp, model.magnification):
            raise TooCoarseError(
                f"{slide.path} has {opened.finest_mpp:.3g} um pixels, too coarse for this model, "
                f"which looks at {model.magnification}x; leave it out."
            )
        tissue = find_tissue(opened)
        field_um = model.tile_size * mpp_of(model.magnification)
        fields = plan_fields(
            opened, tissue, field_um=field_um, min_tissue=MIN_TISSUE, max_tiles=None
        )
        if not len(fields):
            raise NoTissueError(f"No tissue was found on {slide.path}; leave it out.")
        chosen, share = sample_windows(fields, MOST_FIELDS)
        fields = fields.take(chosen)
        preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(opened, tissue)
        batches = read_fields(
            opened,
            fields,
            magnification=model.magnification,
            tile_size=model.tile_size,
            preprocess=preprocess,
        )
        done = 0
        for indices, images, status in ahead(batches, _QUEUED):
            good = status == Status.OK
            if good.any():
                found = model.score_tiles(images[good])
                kept.append(indices[good])
                for name, values in found.items():
                    scores[name].append(values)
            done += len(indices)
            if progress is not None:
                progress(done, len(fields))
    if not kept:
        return mark, {}
    where = np.concatenate(kept)
    out = {}
    for name, parts in scores.items():
        values = np.concatenate(parts)
        finite = np.isfinite(values)
        if finite.any():
            at = where[finite]
            out[name] = CaseScores(
                slide.case,
                slide.path.stem,
                fields.row[at],
                fields.col[at],
                values[finite],
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

"""Normal tissue that a person has marked on the slide itself: a second reference.

Two slides of one tissue differ in stain and scanner, and a distance from the normal fields of other
slides measures that as well. A little normal tissue of the slide itself does not differ so: 0.1 mm2
of it raised the ROC AUC on real slides from 0.85 to 0.91 (``docs/results.md``, the tenth reading).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
import torch

from wsi_anomaly.annotations import read_outlines
from wsi_anomaly.annotations.outlines import Note
from wsi_anomaly.core.errors import AnnotationError, ModelError
from wsi_anomaly.options import Origin
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.scoring.model import ScoringModel
from wsi_anomaly.slides import Slide
from wsi_anomaly.tiles import Fields, Status
from wsi_anomaly.tiles.inputs import extent_of
from wsi_anomaly.tiles.plane import Plane

NORMAL = "normal"
"""How the class of an outline begins that says so."""
_LEAST_CELLS = 10


def knowing_normal(
    model: ScoringModel,
    plane: Plane,
    cells: Fields,
    marked: shapely.Geometry,
    where: Path,
    note: Note,
) -> ScoringModel:
    """Let a model refer to the normal tissue of a slide as well.

    Parameters
    ----------
    model, plane, cells
        Judges fields round a slide's cells.
    marked
        Where its tissue is normal, level-0 pixels.
    where
        File that says so, for the error.
    note
        Told how much it is.

    Returns
    -------
    The model for this slide alone: no score is higher than by `model`, so that thresholds hold.

    Raises
    ------
    ModelError
        The model cannot refer to anything but what it was trained on.
    AnnotationError
        There are too few cells of tissue in the outlines.
    """
    from wsi_anomaly.detectors import Model
    from wsi_anomaly.scoring.served import ServedModel

    if not isinstance(model, Model) or not model.detectors[model.primary].takes_own:
        raise ModelError(
            f"The model {model.name} cannot take marked normal tissue: that needs density by the "
            "estimator contrast, which train learns by default; train again, or leave --normal out."
        )
    centres = cells.coords + np.array(cells.field_level0) / 2
    wanted = shapely.contains_xy(marked, *centres.T) & (cells.status == Status.OK)
    parts = list(
        embed_cells(plane, cells, model.dense_maps(), model.fields_um, wanted=wanted)
        if wanted.any()
        else ()
    )
    count = sum(len(part.indices) for part in parts)
    um = cells.stride_level0[0] * plane.px_per_level0[0] * 10 / plane.magnification
    if count < _LEAST_CELLS:
        raise AnnotationError(
            f"{where} marks {count} fields of tissue as normal on this slide, too few to compare "
            f"with; outline at least {_LEAST_CELLS * (um / 1000) ** 2:.2g} mm2, better 0.1 mm2 of "
            "every kind of normal tissue."
        )
    note(
        f"{count * (um / 1000) ** 2:.2g} mm2 of its tissue are marked as normal: what is like it "
        "scores lower."
    )
    own = {
        um: torch.from_numpy(np.concatenate([part.embeddings[um] for part in parts]))
        for um in model.fields_um
    }
    detectors = {
        name: detector.of_slide(own) if detector.takes_own else detector
        for name, detector in model.detectors.items()
    }
    if isinstance(model, ServedModel):
        return replace(model, detectors=detectors, knows_slide=True)
    return replace(model, detectors=detectors)


def normal_outlines(slide: Slide, path: Path, origin: Origin, note: Note) -> shapely.Geometry:
    """Where a slide is normal, level-0 pixels: outlines of a class Normal, or of none at all.

    Raises
    ------
    AnnotationError
        The file cannot be read, was made for another slide, or has no such outline.
    """
    outlines = read_outlines(path, extent_of(slide, origin), label=NORMAL, note=note)
    named = [o for o in outlines if o.label.lower().startswith(NORMAL)]
    if not named and any(o.label for o in outlines):
        present = ", ".join(sorted({o.label for o in outlines if o.label}))
        raise AnnotationError(
            f"{path} has no outline of class Normal, only {present}; give the outlines of normal "
            "tissue that class in QuPath."
        )
    if not outlines:
        raise AnnotationError(f"{path} holds no outline; draw one, or leave --normal out.")
    return shapely.union_all([o.polygon for o in named or outlines])

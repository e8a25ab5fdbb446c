"""Normal tissue that a person has marked on the slide itself: references beside the learned one.

Two slides of one tissue differ in stain and scanner, and a distance from the normal fields of other
slides measures that as well. A little normal tissue of the slide itself does not differ so. Each
class of outline is a kind of tissue and a reference of its own: where one kind alone is marked, the
others are the unusual ones (``docs/results.md``, the tenth and twelfth readings).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from wsi_anomaly.core.errors import AnnotationError, ModelError
from wsi_anomaly.detectors import Model
from wsi_anomaly.scoring.alone import SlideAlone
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.scoring.model import LEAST_CELLS, ScoringModel, takes_marks
from wsi_anomaly.scoring.served import ServedModel
from wsi_anomaly.tiles import Fields, Status
from wsi_anomaly.tiles.named import Note
from wsi_anomaly.tiles.plane import Plane


def knowing_normal(
    model: ScoringModel,
    plane: Plane,
    cells: Fields,
    marked: Sequence[tuple[str, shapely.Geometry]],
    where: Path,
    notice: Note,
) -> ScoringModel:
    """Let a model refer to the marked normal tissue of a slide: besides, or to nothing else.

    Parameters
    ----------
    model, plane, cells
        Judges fields round a slide's cells.
    marked
        Kinds of its tissue and where each is normal, level-0 pixels.
    where
        File that says so, for the error.
    notice
        Told how much it is.

    Returns
    -------
    The model for this slide alone: no score is higher than by `model`, if that is a trained one.

    Raises
    ------
    ModelError
        The model cannot refer to anything but what it was trained on.
    AnnotationError
        There are too few cells of tissue in the outlines of a kind.
    """
    found = _model_that_takes(model)
    kinds = _inside(cells, marked)
    wanted = np.any(list(kinds.values()), axis=0) & (cells.status == Status.OK)
    parts = list(
        embed_cells(plane, cells, found.dense_maps(), found.fields_um, wanted=wanted)
        if wanted.any()
        else ()
    )
    index = np.concatenate([np.empty(0, np.intp), *(part.indices for part in parts)])
    um = cells.stride_level0[0] * plane.px_per_level0[0] * 10 / plane.magnification
    cell_mm2 = (um / 1000) ** 2
    mm2 = {kind: float(inside[index].sum()) * cell_mm2 for kind, inside in kinds.items()}
    _check(mm2, LEAST_CELLS * cell_mm2, where)
    notice(_sentence(len(marked), mm2, alone=isinstance(found, SlideAlone)))
    embedded = {
        um: torch.from_numpy(np.concatenate([part.embeddings[um] for part in parts]))
        for um in found.fields_um
    }
    own = [
        {um: values[torch.from_numpy(inside[index])] for um, values in embedded.items()}
        for inside in kinds.values()
    ]
    if isinstance(found, SlideAlone):
        return found.learned_from_marks(own)
    detectors = {
        name: detector.of_slide(own) if detector.takes_own else detector
        for name, detector in found.detectors.items()
    }
    if isinstance(found, ServedModel):
        return replace(found, detectors=detectors, knows_slide=True)
    return replace(found, detectors=detectors)


def _model_that_takes(model: ScoringModel) -> Model | SlideAlone:
    """See that a model can refer to what is marked."""
    if isinstance(model, SlideAlone):
        return model
    if not isinstance(model, Model) or not takes_marks(model):
        raise ModelError(
            f"The model {model.name} cannot take marked normal tissue: that needs density by the "
            "estimator contrast, which train learns by default; train again, or leave --normal out."
        )
    return model


def _inside(
    cells: Fields, marked: Sequence[tuple[str, shapely.Geometry]]
) -> dict[str, NDArray[np.bool_]]:
    """Which cells lie in the outlines of each kind."""
    centres = cells.coords + np.array(cells.field_level0) / 2
    return {
        kind: shapely.contains_xy(
            shapely.union_all([area for label, area in marked if label == kind]), *centres.T
        )
        for kind in sorted({label for label, _ in marked})
    }


def _check(mm2: Mapping[str, float], least: float, where: Path) -> None:
    """See that enough of each kind is marked."""
    for kind, area in mm2.items():
        if area < least:
            raise AnnotationError(
                f"{where} marks {area:.2g} mm2 of tissue as normal{_named(kind)} on this slide, "
                f"too little to compare with; outline {least:.2g} mm2 of it or more, not on glass, "
                "or leave it out."
            )


def _named(kind: str) -> str:
    return f" {kind}" if kind else ""


def _sentence(count: int, mm2: Mapping[str, float], *, alone: bool) -> str:
    """Say what was marked, for the results and the report."""
    kinds = ", ".join(f"{kind or 'no class'} {area:.2g}" for kind, area in mm2.items())
    areas = "1 area" if count == 1 else f"{count} areas"
    said = (
        f"Normal marked by a person on this slide: {areas}, {sum(mm2.values()):.2g} mm2 ({kinds})."
    )
    if alone:
        return said
    return (
        f"{said} What is like it scores lower and nothing scores higher; compare its scores only "
        "with those of slides that are marked as well."
    )

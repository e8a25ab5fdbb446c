"""Flagged regions beside the findings that readers have named before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.scoring.interpretation import Interpretation
from wsi_anomaly.scoring.model import ScoringModel
from wsi_anomaly.tiles import Fields
from wsi_anomaly.tiles.plane import Plane

if TYPE_CHECKING:
    from wsi_anomaly.detectors.known import Like


def beside_known(
    meaning: Interpretation,
    directions: Callable[[NDArray[np.bool_]], NDArray[np.float32]],
    model: ScoringModel,
    *,
    all_flags: bool = False,
) -> Interpretation:
    """Say what each flagged region is like, and take away what readers have called harmless.

    No flag is added: what is taken away are whole regions, so what is promised of false regions
    stays true.

    Parameters
    ----------
    meaning
        What the scores of the slide's N cells mean.
    directions
        Directions (N, d) in which fields deviate from normal tissue, asked of some (N,), see
        :func:`field_likeness`.
    model
        With known findings, or without; then nothing changes.
    all_flags
        Take nothing away.
    """
    from wsi_anomaly.detectors import Model  # heavy: it is loaded already if there is one

    if not isinstance(model, Model) or model.known is None or not meaning.regions:
        return meaning
    vectors = directions(meaning.flagged)
    regions, likes, taken_away = [], [], []
    for region in meaning.regions:
        of_region = vectors[region.fields]
        like = model.known.like(of_region[np.isfinite(of_region).all(1)])
        if like is not None and like.taken_away and not all_flags:
            taken_away.append((region, _named(like)))
        else:
            regions.append(region)
            likes.append("" if like is None else _described(like))
    flagged = meaning.flagged.copy()
    for region, _ in taken_away:
        flagged[region.fields] = False
    warnings = [*meaning.warnings]
    if taken_away:
        area = sum(region.area_mm2 for region, _ in taken_away)
        names = ", ".join(sorted({name for _, name in taken_away}))
        warnings.append(
            f"{len(taken_away)} region{'s are' if len(taken_away) > 1 else ' is'} not flagged "
            f"({area:.3f} mm2), being like what readers have called harmless: {names}. That does "
            "not make them normal; --all-flags flags them again."
        )
    return replace(
        meaning, flagged=flagged, regions=regions, likes=tuple(likes), warnings=warnings,
        taken_away=tuple(taken_away),
    )  # fmt: skip


def field_likeness(
    plane: Plane, fields: Fields, model: ScoringModel, wanted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Directions (N, d) in which fields deviate from normal tissue; NaN where not `wanted` (N,)."""
    from wsi_anomaly.detectors import Model
    from wsi_anomaly.scoring.embedding import embed_cells

    assert isinstance(model, Model)  # no other knows directions
    sizes = model.judge_of_fields.fields_um
    out: NDArray[np.float32] | None = None
    for part in embed_cells(plane, fields, model.dense_maps(), sizes, wanted=wanted):
        vectors = model.likeness(part.embeddings)
        if out is None:
            out = np.full((len(fields), vectors.shape[1]), np.nan, np.float32)
        out[part.indices] = vectors
    return np.full((len(fields), 1), np.nan, np.float32) if out is None else out


def _named(like: Like) -> str:
    return f"{like.finding.name} (reviewed {_times(len(like.finding.cases))})"


def _described(like: Like) -> str:
    return f"{_named(like)}, distance {like.distance:.2f}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"

"""Why a region is flagged: its field beside the nearest normal ones, and what spoke."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.small_pictures import as_jpeg
from wsi_anomaly.scoring.interpretation import Interpretation
from wsi_anomaly.scoring.model import ScoringModel
from wsi_anomaly.scoring.regions import highest_near
from wsi_anomaly.scoring.top_fields import (
    CONTEXT_UM,
    SHOWN,
    BesideNormal,
    NormalField,
    most_anomalous,
)
from wsi_anomaly.tiles import Fields
from wsi_anomaly.tiles.plane import Plane

if TYPE_CHECKING:
    from wsi_anomaly.detectors import Model

Embedding = Mapping[int, NDArray[np.float32]]
"""A field's embedding (D,) by its size in um."""


class Sight(Protocol):
    """How the fields of a slide are looked at once more."""

    def embeddings(self, asked: AbstractSet[int]) -> Mapping[int, Embedding]:
        """Embeddings of some fields, of those that can be had."""

    def picture(self, field: int, side_um: int) -> bytes:
        """Picture of a field and what is round it, JPEG; empty where there are no pixels."""


@dataclass(frozen=True, eq=False)
class OnPlane:
    """Fields of a slide whose pixels are at hand.

    Attributes
    ----------
    plane, fields, model
        The slide, its cells, and whose network embeds them.
    known
        Embeddings that are at hand, by number of the field; the network runs for others alone.
    """

    plane: Plane
    fields: Fields
    model: ScoringModel
    known: Mapping[int, Embedding]

    def embeddings(self, asked: AbstractSet[int]) -> dict[int, Embedding]:
        """See :class:`Sight`."""
        from wsi_anomaly.scoring.embedding import embed_cells

        out = {field: self.known[field] for field in asked & self.known.keys()}
        wanted = np.zeros(len(self.fields), bool)
        wanted[sorted(asked - self.known.keys())] = True
        if not wanted.any():
            return out
        maps, sizes = self.model.dense_maps(), self.model.fields_um
        for part in embed_cells(self.plane, self.fields, maps, sizes, wanted=wanted):
            for i, field in enumerate(part.indices.tolist()):
                out[field] = {um: part.embeddings[um][i] for um in sizes}
        return out

    def picture(self, field: int, side_um: int) -> bytes:
        """See :class:`Sight`."""
        return as_jpeg(self.plane.around(self.fields, field, side_um))


MOST_REGIONS = 100
"""Regions of a slide, highest first, that have pictures and directions."""
_FIELDS_OF_A_REGION = 8  # whose mean direction is the region's


def beside_normal(
    meaning: Interpretation,
    sight: Sight,
    fields: Fields,
    model: ScoringModel,
    scores: Mapping[str, NDArray[np.float32]],
    calibration: Calibration | None,
) -> BesideNormal | None:
    """Look at the highest fields of a slide; None for a model that judges single tiles.

    Parameters
    ----------
    meaning, sight, fields
        The slide: what its scores mean, how its fields are looked at, and its N cells.
    model
        What it was scored with.
    scores
        Raw scores (N,) by method.
    calibration
        Normal reference of the method that ranks, if the slide may be compared with it.
    """
    from wsi_anomaly.detectors import Model  # heavy: it is loaded already if there is one
    from wsi_anomaly.detectors.known import knows_directions

    if not isinstance(model, Model) or not any(map(knows_directions, model.detectors.values())):
        return None
    score = scores[model.primary]
    peaks = {region.peak: i for i, region in enumerate(meaning.regions[:MOST_REGIONS], start=1)}
    places = most_anomalous(fields, meaning.smoothed, SHOWN, apart_um=CONTEXT_UM)
    others = [highest_near(fields, score, i) for i in places]
    members = {
        field: _some(meaning.regions[peaks[field] - 1].fields, field) if field in peaks else [field]
        for field in (*peaks, *others)
    }
    embedded = sight.embeddings({field for some in members.values() for field in some})
    chosen = [field for field in members if field in embedded]
    if not chosen:
        return None
    sizes = model.judge_of_fields.fields_um
    here = {um: np.stack([embedded[field][um] for field in chosen]) for um in sizes}
    vectors = []
    for field in chosen:
        mine = [embedded[k] for k in members[field] if k in embedded]
        mean = model.likeness({um: np.stack([e[um] for e in mine]) for um in sizes}).mean(0)
        vectors.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    at = np.asarray(chosen, np.intp)
    return BesideNormal(
        at,
        np.array([peaks.get(field, 0) for field in chosen], np.int64),
        np.stack(vectors),
        tuple(sight.picture(field, max(sizes)) for field in chosen),
        what_spoke(model, here, {name: values[at] for name, values in scores.items()}, calibration),
        *_nearest(model, here),
        max(sizes),
    )


def _some(members: NDArray[np.intp], peak: int) -> list[int]:
    """Take a few fields of a region, its peak among them."""
    step = np.linspace(0, len(members) - 1, min(_FIELDS_OF_A_REGION, len(members)))
    return list(dict.fromkeys([peak, *members[step.round().astype(int)].tolist()]))


def _nearest(
    model: Model, embeddings: Mapping[int, NDArray[np.float32]]
) -> tuple[
    NDArray[np.intp], NDArray[np.float32], NDArray[np.float32], tuple[NormalField, ...]
]:  # fmt: skip
    """Find the normal fields that are shown: positions among them, distances, percentages."""
    from wsi_anomaly.detectors.examples import standardised

    examples, vectors = model.examples, standardised(model.judge_of_fields, embeddings)
    if examples is None or examples.vectors.shape[1] != vectors.shape[1]:
        none = np.empty((len(vectors), 0), np.float32)
        return none.astype(np.intp), none, none, ()
    indices, distances = examples.nearest(vectors)
    used, positions = np.unique(indices, return_inverse=True)
    shown = tuple(
        NormalField(
            examples.slides[i], (float(examples.places[i, 0]), float(examples.places[i, 1])),
            examples.picture(i) or b"",
        )
        for i in used.tolist()
    )  # fmt: skip
    return positions.reshape(indices.shape), distances, examples.farther_than(distances), shown


def what_spoke(
    model: Model,
    embeddings: Mapping[int, NDArray[np.float32]],
    scores: Mapping[str, NDArray[np.float32]],
    calibration: Calibration | None,
) -> tuple[dict[str, Any], ...]:
    """Say which size of field and which distance raised the scores of M fields, and which method.

    Parameters
    ----------
    model, embeddings
        The method that judges fields, and what it judged, (M, D) by size in um.
    scores
        Raw scores (M,) by method.
    calibration
        None where scores may not be compared with the model's reference.

    Returns
    -------
    For each: ``parts``, the distances that its score is the mean of, highest first, each with
    ``um``, ``distance`` and ``units`` (robust deviations above normal tissue); and ``methods``, the
    ``percentile`` among normal fields and the ``p_value`` of each, smallest first.
    """
    import torch

    judge = model.judge_of_fields
    found = {um: torch.from_numpy(e).to(model.device) for um, e in embeddings.items()}
    with torch.inference_mode():
        parts = {key: v.float().cpu().numpy() for key, v in judge.spoken(found).items()}
    references = {} if calibration is None else dict(model.calibration)
    if calibration is not None:
        references[model.primary] = calibration
    # Of embeddings, methods that judge tiles have no score.
    references = {name: r for name, r in references.items() if name in scores}
    ranks = {name: r.percentile(scores[name]) for name, r in references.items()}
    p_values = {name: r.p_value(scores[name]) for name, r in references.items()}
    out = []
    for i in range(len(next(iter(scores.values())))):
        spoken: list[dict[str, Any]] = [
            {"um": um, "distance": name, "units": round(float(units[i]), 2)}
            for (um, name), units in parts.items()
        ]
        methods: list[dict[str, Any]] = [
            {
                "method": name,
                "percentile": round(float(ranks[name][i]), 3),
                "p_value": None if p is None else float(f"{p[i]:.3g}"),
            }
            for name, p in p_values.items()
        ]
        out.append(
            {
                "parts": sorted(spoken, key=lambda part: -part["units"]),
                "methods": sorted(methods, key=lambda m: (m["p_value"] or 0, -m["percentile"])),
            }
        )
    return tuple(out)

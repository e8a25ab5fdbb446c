"""A slide's own least unusual fields as a second reference.

Two slides of one tissue differ in stain and scanner, and a distance from the normal fields of other
slides measures that as well. The least unusual fields of the slide itself do not differ so. They
are known only when all of its fields have been judged once, so their embeddings wait until then,
in half precision: 115 MB for ``lite0`` on a slide of 25 x 25 mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_anomaly.detectors import Model
from wsi_anomaly.scoring.model import ScoringModel

LEAST_FIELDS = 25
"""Fewer own fields, 0.1 mm2, say little about a slide: its fields are then judged without them."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Some fields of a slide after they were judged once.

    Attributes
    ----------
    indices
        (n,) which they are.
    embeddings
        By size in um, (n, D) float16.
    shares
        (n,) least share of tissue in each.
    scores
        Raw scores (n,) by method.
    """

    indices: NDArray[np.intp]
    embeddings: Mapping[int, NDArray[np.float16]]
    shares: NDArray[np.float32]
    scores: Mapping[str, NDArray[np.floating]]

    @classmethod
    def of(
        cls,
        indices: NDArray[np.intp],
        embeddings: Mapping[int, NDArray[np.float32]],
        shares: NDArray[np.float32],
        scores: Mapping[str, NDArray[np.floating]],
    ) -> Judged:
        """Keep fields, n of them, in as little memory as they need."""
        return cls(
            indices, {um: v.astype(np.float16) for um, v in embeddings.items()}, shares, scores
        )

    def whole(self) -> dict[int, NDArray[np.float32]]:
        """Embeddings (n, D) by size in um, as they are judged."""
        return {um: values.astype(np.float32) for um, values in self.embeddings.items()}


def wants_own(model: ScoringModel) -> bool:
    """Whether a model judges a slide's fields better when it knows them all."""
    return isinstance(model, Model) and any(d.own_share for d in model.detectors.values())


def of_slide(model: ScoringModel, judged: Sequence[Judged]) -> ScoringModel | None:
    """Give the model that refers to the slide's own least unusual fields as well.

    It computes in this process, on the device of `model`. None where the slide has too few fields.
    """
    assert isinstance(model, Model)
    detectors = dict(model.detectors)
    for name, detector in model.detectors.items():
        if not detector.own_share:
            continue
        score = np.concatenate([part.scores[name] for part in judged])
        score = score[np.isfinite(score)]
        if len(score) * detector.own_share < LEAST_FIELDS:
            return None
        limit = np.quantile(score, detector.own_share)
        own = {
            um: np.concatenate([p.embeddings[um][p.scores[name] <= limit] for p in judged])
            for um in detector.fields_um
        }
        detectors[name] = detector.of_slide(
            {um: torch.from_numpy(values).float().to(model.device) for um, values in own.items()}
        )
    known = {part.name: getattr(model, part.name) for part in fields(Model)}
    return Model(**known | {"detectors": detectors})

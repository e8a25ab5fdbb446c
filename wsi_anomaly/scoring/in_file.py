"""Fields of a slide that was scored from embeddings, looked at once more in their file."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.small_pictures import SIDE, as_jpeg
from wsi_anomaly.embeddings import Embeddings
from wsi_anomaly.scoring.beside import Embedding
from wsi_anomaly.scoring.model import ScoringModel
from wsi_anomaly.slides import ReadError, Slide
from wsi_anomaly.tiles import Fields


@dataclass(frozen=True, eq=False)
class InFile:
    """Embedded fields; a :class:`~wsi_anomaly.scoring.beside.Sight`.

    Attributes
    ----------
    found, kept
        The open file, and the row in it of each of the N fields.
    model
        What judges them.
    slide
        Where pictures come from; None: it is not at hand.
    fields
        The N cells.
    """

    found: Embeddings
    kept: NDArray[np.intp]
    model: ScoringModel
    slide: Slide | None
    fields: Fields

    def embeddings(self, asked: AbstractSet[int]) -> dict[int, Embedding]:
        """Embeddings of some fields."""
        chosen, [um] = sorted(asked), self.model.fields_um
        values = self.found.rows(self.kept[chosen])
        return {field: {um: value} for field, value in zip(chosen, values, strict=True)}

    def directions(self, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """As :func:`~wsi_anomaly.scoring.known.field_likeness`: (N, d), NaN where not `wanted`."""
        from wsi_anomaly.detectors import Model  # heavy: it is loaded already if there is one

        assert isinstance(self.model, Model)  # no other judges embeddings
        [um] = self.model.fields_um
        vectors = self.model.likeness({um: self.found.rows(self.kept[wanted])})
        out = np.full((len(self.kept), vectors.shape[1]), np.nan, np.float32)
        out[wanted] = vectors
        return out

    def picture(self, field: int, side_um: int) -> bytes:
        """Pixels round a field as the slide has them; empty where they cannot be had."""
        if self.slide is None:
            return b""
        middle = self.fields.coords[field] + np.array(self.fields.field_level0) / 2
        return picture_round(self.slide, middle, side_um)


def picture_round(slide: Slide, middle: NDArray[np.floating], side_um: int) -> bytes:
    """Pixels round a place (2,), level-0 pixels, as a JPEG; empty where they cannot be had."""
    x, y = middle - np.array([side_um / slide.mpp.x, side_um / slide.mpp.y]) / 2
    try:
        region = slide.read(float(x), float(y), (SIDE, SIDE), side_um / SIDE)
    except ReadError:
        return b""
    return as_jpeg(region.rgb)

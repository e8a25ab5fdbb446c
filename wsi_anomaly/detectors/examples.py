"""Normal fields that a model keeps to show beside what it flags: where they lie, how they look.

A few hundred, spread over the reference: drawn one after the other, each the more likely the
farther it lies from those before (the seeding of k-means++). Distances are in the space that all
distances of ``density`` begin in (:func:`standardised`): one is one standard deviation of normal
tissue, root mean square over the filters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.small_pictures import made_anew, packed, refuse_large, unpacked
from wsi_anomaly.detectors.base import Detector

MOST = 200
"""Normal fields that a model keeps."""
NEAREST = 3
"""So many of them stand beside a region."""

_MOST_FROM = 10_000  # fields that they are drawn from; more only take longer
_MOST_MEASURED = 2_000
_MOST_READ, _WIDEST = 2_000, 20_000  # of a model that anybody may have written
_LONGEST_NAME = 500
_QUANTILES = 1001

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Examples:
    """Normal fields that were learned from.

    Attributes
    ----------
    vectors
        (n, d) float32, as :func:`standardised` gives them (stored in half precision).
    slides
        Name of each field's slide.
    places
        (n, 2) float64, middle of each, level-0 pixels of its slide.
    pictures
        Each as a JPEG stream, stains as the model sees them; empty where there were no pixels.
    field_um
        Side of what the pictures show.
    usual
        (q,) float32, quantiles from 0 to 1 of how far normal fields lie from the nearest of these
        that is of another case (with one case: that does not overlap).
    """

    vectors: Floats
    slides: tuple[str, ...]
    places: NDArray[np.float64]
    pictures: tuple[bytes, ...]
    field_um: int
    usual: Floats

    def nearest(self, vectors: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Find the nearest of them for vectors (N, d): indices and distances, (N, k) each."""
        distances = _between(vectors, self.vectors)
        order = np.argsort(distances, axis=1, kind="stable")[:, :NEAREST]
        return order, np.take_along_axis(distances, order, 1)

    def farther_than(self, distances: Floats) -> Floats:
        """Percentage of normal fields that lie nearer to their nearest one, of any shape."""
        found = np.searchsorted(self.usual, distances, "left") / len(self.usual)
        out: Floats = (100 * found).astype(np.float32)
        return out

    def picture(self, index: int) -> bytes | None:
        """One of the pictures as our own JPEG; None where there is none, or it is broken."""
        return made_anew(self.pictures[index])

    # -- files -------------------------------------------------------------------------------

    def to_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-ready facts from which :meth:`from_state` rebuilds it."""
        joined, ends = packed(self.pictures)
        arrays = {
            "vectors": self.vectors.astype(np.float16), "places": self.places,
            "pictures": joined, "ends": ends, "usual": self.usual,
        }  # fmt: skip
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return tensors, {"slides": list(self.slides), "field_um": self.field_um}

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """Rebuild it from what anybody may have written.

        Raises
        ------
        KeyError, TypeError, ValueError
            It contradicts itself, or a picture is none.
        """
        vectors = tensors["vectors"].float().numpy()
        places = tensors["places"].double().numpy()
        usual = tensors["usual"].float().numpy()
        pictures = unpacked(tensors["pictures"].numpy(), tensors["ends"].numpy())
        slides = tuple(str(name)[:_LONGEST_NAME] for name in facts["slides"])
        count, field_um = len(slides), int(facts["field_um"])
        whole = vectors.ndim == 2 and len(vectors) == len(pictures) == count
        whole = whole and places.shape == (count, 2) and usual.ndim == 1 and len(usual) > 0
        if not whole or not NEAREST <= count <= _MOST_READ or vectors.shape[1] > _WIDEST:
            raise ValueError("its normal fields have another shape than they should have")
        if not all(np.isfinite(a).all() for a in (vectors, places, usual)) or field_um < 1:
            raise ValueError("its normal fields are not finite")
        for picture in filter(None, pictures):
            refuse_large(picture)
        return cls(vectors, slides, places, tuple(pictures), field_um, np.sort(usual))


def standardised(detector: Detector, embeddings: Mapping[int, Floats]) -> Floats:
    """Put fields into the space of the normal ones, (N, d).

    Parameters
    ----------
    detector
        One that judges fields, with what it has learned.
    embeddings
        By size in um, (N, D).
    """
    parts = []
    for um in detector.fields_um:
        mean, scale = (detector.state_[f"{um}um.{name}"].cpu() for name in ("mean", "scale"))
        z = (torch.from_numpy(embeddings[um]) - mean) / scale
        parts.append(z / (z.shape[1] * len(detector.fields_um)) ** 0.5)
    out: Floats = torch.cat(parts, 1).numpy()
    return out


def _between(first: Floats, second: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    out: Floats = cdist(first, second).astype(np.float32)
    return out


def spread_over(vectors: Floats, most: int = MOST, seed: int = 0) -> NDArray[np.intp]:
    """Draw at most `most` of vectors (N, d) that lie far from each other: indices, ascending."""
    from sklearn.cluster import kmeans_plusplus

    pool = np.random.default_rng(seed).permutation(len(vectors))[:_MOST_FROM]
    if len(pool) <= most:
        return np.sort(pool)
    _, drawn = kmeans_plusplus(vectors[pool], most, random_state=seed)
    return np.unique(pool[drawn])


def usual_distances(
    vectors: Floats,
    chosen: NDArray[np.intp],
    cases: Sequence[str],
    places_um: NDArray[np.floating],
    apart_um: float,
    seed: int = 0,
) -> Floats:
    """Quantiles (q,) of how far normal fields lie from the nearest chosen one.

    Parameters
    ----------
    vectors, chosen
        (N, d), and which of them were chosen.
    cases, places_um
        Of each field; one of another case is looked for, or one at least `apart_um` away.
    seed
        Draws the fields that are measured.
    """
    drawn = np.random.default_rng(seed).permutation(len(vectors))[:_MOST_MEASURED]
    names = np.asarray(cases)
    distances = _between(vectors[drawn], vectors[chosen])
    away = np.abs(places_um[drawn][:, None] - places_um[chosen][None]).max(2) >= apart_um
    near = names[drawn][:, None] == names[chosen][None]
    if len(set(cases)) < 2:
        near = ~away
    least = np.where(near, np.inf, distances).min(1)
    kept = least[np.isfinite(least)]
    if not len(kept):  # a scrap of tissue, all of it within one field
        kept = distances.min(1)
    out: Floats = np.quantile(kept, np.linspace(0, 1, _QUANTILES)).astype(np.float32)
    return out

"""The embeddings of a slide's highest fields, so that no network runs over them a second time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MOST = 4096
"""Fields that are kept: 6 MB of ``lite0``'s embeddings, however large the slide is."""


class HighestFields:
    """Embeddings of the fields whose raw scores are the highest so far.

    Examples
    --------
    >>> highest = HighestFields(most=2)
    >>> highest.add(np.arange(3), np.array([1.0, 3.0, 2.0]), {256: np.eye(3, dtype=np.float32)})
    >>> sorted(highest.embeddings(np.arange(3)))
    [1, 2]
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._fields = np.empty(0, np.intp)
        self._scores = np.empty(0, np.float32)
        self._embeddings: dict[int, NDArray[np.float32]] = {}

    def add(
        self,
        fields: NDArray[np.intp],
        scores: NDArray[np.floating],
        embeddings: Mapping[int, NDArray[np.float32]],
    ) -> None:
        """Take n fields: their numbers and scores (n,), and embeddings (n, D) by size in um."""
        first = not self._embeddings
        self._fields = np.concatenate([self._fields, fields])
        self._scores = np.concatenate([self._scores, scores])
        self._embeddings = {
            um: values if first else np.concatenate([self._embeddings[um], values])
            for um, values in embeddings.items()
        }
        if len(self._fields) > 2 * self._most:  # not at every batch
            self._keep_the_highest()

    def _keep_the_highest(self) -> None:
        if len(self._fields) <= self._most:
            return
        kept = np.argpartition(-np.nan_to_num(self._scores, nan=-np.inf), self._most)[: self._most]
        self._fields, self._scores = self._fields[kept], self._scores[kept]
        self._embeddings = {um: values[kept] for um, values in self._embeddings.items()}

    def embeddings(self, fields: NDArray[np.intp]) -> dict[int, dict[int, NDArray[np.float32]]]:
        """By position of the field among `fields`, ascending; then by size in um, (D,)."""
        self._keep_the_highest()
        places = np.searchsorted(fields, self._fields)
        return {
            place: {um: values[i] for um, values in self._embeddings.items()}
            for i, place in enumerate(places.tolist())
            if place < len(fields) and fields[place] == self._fields[i]
        }

"""Pictures of normal tissue for a model: some of the fields that it has learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.small_pictures import as_jpeg
from wsi_anomaly.detectors import Detector
from wsi_anomaly.detectors.examples import (
    NEAREST,
    Examples,
    spread_over,
    standardised,
    usual_distances,
)
from wsi_anomaly.detectors.known import knows_directions
from wsi_anomaly.slides import Mpp
from wsi_anomaly.tiles import TileStore


@dataclass(frozen=True)
class Origin:
    """A normal slide that fields are of: its name, its case, the size of its pixels."""

    name: str
    case: str
    mpp: Mpp


def examples_of(
    detector: Detector,
    embeddings: Mapping[int, Tensor],
    sources: NDArray[np.int64],
    stores: Sequence[TileStore],
    magnification: int,
    seed: int,
) -> Examples | None:
    """Choose fields of tile files that show what a detector has learned from.

    Parameters
    ----------
    detector, embeddings, seed
        As for :func:`chosen_examples`.
    sources
        Tile file and cell of each field (N, 2), see
        :func:`~wsi_anomaly.training.fields.embed_stores`.
    stores, magnification
        Where their pixels are.
    """
    middles = np.empty((len(sources), 2))
    for number, store in enumerate(stores):
        stored = store.plane(magnification)
        assert stored is not None  # embedded from it
        _, cells = stored
        mine = sources[:, 0] == number
        middles[mine] = (cells.coords + np.asarray(cells.field_level0) / 2)[sources[mine, 1]]

    def pictures(number: int, chosen: NDArray[np.intp], side_um: int) -> list[bytes]:
        stored = stores[number].plane(magnification)
        assert stored is not None
        plane, cells = stored
        rows = sources[chosen, 1].tolist()
        return [as_jpeg(plane.around(cells, row, side_um)) for row in rows]

    origins = [Origin(store.slide_name, store.case, store.mpp) for store in stores]
    return chosen_examples(detector, embeddings, sources[:, 0], middles, origins, pictures, seed)


def chosen_examples(
    detector: Detector,
    embeddings: Mapping[int, Tensor],
    numbers: NDArray[np.int64],
    middles: NDArray[np.float64],
    origins: Sequence[Origin],
    pictures: Callable[[int, NDArray[np.intp], int], Sequence[bytes]],
    seed: int,
) -> Examples | None:
    """Choose fields that show what a detector has learned from; None if it has no directions.

    Parameters
    ----------
    detector
        It has been fitted to them.
    embeddings
        By size in um (N, D).
    numbers, middles
        Of each field: which of the `origins` it is of (N,), and its middle (N, 2), level-0 pixels.
    origins
        The slides.
    pictures
        Makes those of some fields of one slide: of its number, the fields (n,) among the N, and
        the side in um; an empty stream where there are no pixels.
    seed
        Draws them.
    """
    if not knows_directions(detector):
        return None
    vectors = standardised(detector, {um: found.numpy() for um, found in embeddings.items()})
    field_um = max(detector.fields_um)
    chosen = spread_over(vectors, seed=seed)
    if len(chosen) < NEAREST:  # all tissue is alike
        return None
    mpp = np.array([(origin.mpp.x, origin.mpp.y) for origin in origins])
    usual = usual_distances(
        vectors, chosen, [origins[i].case for i in numbers], middles * mpp[numbers], field_um, seed
    )
    shown: dict[int, bytes] = {}
    for number in np.unique(numbers[chosen]).tolist():
        mine = chosen[numbers[chosen] == number]
        shown |= zip(mine.tolist(), pictures(number, mine, field_um), strict=True)
    return Examples(
        vectors[chosen],
        tuple(origins[i].name for i in numbers[chosen]),
        middles[chosen],
        tuple(shown[i] for i in chosen.tolist()),
        field_um,
        usual,
    )

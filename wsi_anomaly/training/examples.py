"""Pictures of normal tissue for a model: some of the fields that it has learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.small_pictures import as_jpeg
from wsi_anomaly.detectors import Detector
from wsi_anomaly.detectors.examples import Examples, spread_over, standardised, usual_distances
from wsi_anomaly.detectors.known import knows_directions
from wsi_anomaly.tiles import TileStore


def examples_of(
    detector: Detector,
    embeddings: Mapping[int, Tensor],
    sources: NDArray[np.int64],
    stores: Sequence[TileStore],
    magnification: int,
    seed: int,
) -> Examples | None:
    """Choose fields that show what a detector has learned from; None if it has no directions.

    Parameters
    ----------
    detector
        It has been fitted to them.
    embeddings, sources
        By size in um (N, D), and where each lies (N, 2), see
        :func:`~wsi_anomaly.training.fields.embed_stores`.
    stores, magnification
        Where their pixels are.
    seed
        Draws them.
    """
    if not knows_directions(detector):
        return None
    vectors = standardised(detector, {um: found.numpy() for um, found in embeddings.items()})
    field_um = max(detector.fields_um)
    chosen = spread_over(vectors, seed=seed)
    places = np.empty((len(vectors), 2))
    pictures: dict[int, bytes] = {}
    for number, store in enumerate(stores):
        stored = store.plane(magnification)
        assert stored is not None  # embedded from it
        plane, cells = stored
        mine = np.flatnonzero(sources[:, 0] == number)
        middle = cells.coords + np.asarray(cells.field_level0) / 2
        places[mine] = middle[sources[mine, 1]]
        for i in np.intersect1d(mine, chosen).tolist():
            pictures[i] = as_jpeg(plane.around(cells, int(sources[i, 1]), field_um))
    mpp = np.array([(store.mpp.x, store.mpp.y) for store in stores])
    usual = usual_distances(
        vectors, chosen, [stores[i].case for i in sources[:, 0]], places * mpp[sources[:, 0]],
        field_um, seed,
    )  # fmt: skip
    return Examples(
        vectors[chosen],
        tuple(stores[i].slide_name for i in sources[chosen, 0]),
        places[chosen],
        tuple(pictures[i] for i in chosen.tolist()),
        field_um,
        usual,
    )

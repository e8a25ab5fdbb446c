"""How much light tissue absorbs, from the grey levels of a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

WHITE = (255.0, 255.0, 255.0)


def density_table(white: ArrayLike = WHITE) -> NDArray[np.float64]:
    """Optical density (natural logarithm) of every grey level and channel, (256, 3).

    Level 0 counts as 1, and what is brighter than the glass as glass, so every entry is finite
    and none negative.
    """
    level = np.maximum(np.arange(256.0), 1.0)[:, None]
    table: NDArray[np.float64] = np.log(np.asarray(white, np.float64)) - np.log(level)
    return np.maximum(table, 0.0)

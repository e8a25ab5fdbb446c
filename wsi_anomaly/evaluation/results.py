"""What ``score`` wrote, read back: figures are those of the files, not of what was computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import smooth_scores
from wsi_anomaly.results.stored_scores import StoredScores


@dataclass(frozen=True, eq=False)
class ScoredSlide:
    """The tile table of one results folder.

    Attributes
    ----------
    name
        Folder name.
    coords
        (N, 2) level-0 top left corners of the fields.
    field, stride
        Their width and height, and from one to the next, level-0 pixels.
    mpp
        Micrometres per level-0 pixel (x, y).
    scores
        Raw scores by method, (N,), NaN where not assessed.
    primary
        The method that ranks.
    row, col, flagged
        (N,) place in the grid, and whether the field is flagged.
    """

    name: str
    coords: NDArray[np.int64]
    field: tuple[float, float]
    stride: tuple[float, float]
    mpp: tuple[float, float]
    scores: Mapping[str, NDArray[np.float32]]
    primary: str
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    flagged: NDArray[np.bool_]

    @classmethod
    def read(cls, folder: str | Path) -> ScoredSlide:
        """Read ``scores.zarr`` of a results folder.

        Raises
        ------
        OutputError
            There is no such table, or it is damaged.
        """
        stored = StoredScores.read(folder)
        fields = stored.fields
        return cls(
            Path(folder).name, fields.coords, fields.field_level0, fields.stride_level0,
            stored.mpp, stored.scores, stored.primary, fields.row, fields.col, stored.flagged,
        )  # fmt: skip

    @property
    def assessed(self) -> NDArray[np.bool_]:
        """(N,) whether a field was judged."""
        return np.isfinite(self.scores[self.primary])

    def smoothed(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Average (N,) scores over 3 x 3 fields, as flags and slide scores are made."""
        radius = max(1, round(self.field[0] / self.stride[0]))  # as wide whatever the stride
        return smooth_scores(self.row, self.col, scores, radius=radius)

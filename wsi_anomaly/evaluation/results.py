"""What ``score`` wrote, read back: figures are those of the files, not of what was computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import smooth_scores
from wsi_anomaly.core.errors import WsiAnomalyError


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
        WsiAnomalyError
            There is no such table.
        """
        import zarr

        folder = Path(folder)
        try:
            table: Any = zarr.open_group(str(folder / "scores.zarr"), mode="r")["tiles"]
            facts = table.attrs
            scored = cls(
                name=folder.name,
                coords=table["coords"][:].reshape(-1, 2),
                field=(float(facts["field_level0"][0]), float(facts["field_level0"][1])),
                stride=(float(facts["stride_level0"][0]), float(facts["stride_level0"][1])),
                mpp=(float(facts["mpp"][0]), float(facts["mpp"][1])),
                scores={name: array[:] for name, array in table["scores"].arrays()},
                primary=str(facts["primary"]),
                row=table["row"][:],
                col=table["col"][:],
                flagged=table["flagged"][:].astype(bool),
            )
            if scored.primary not in scored.scores:
                raise ValueError(f"none of the method {scored.primary!r} that ranks")
            columns = [scored.row, scored.col, scored.flagged, *scored.scores.values()]
            if {column.shape for column in columns} != {(len(scored.coords),)}:
                raise ValueError("its columns are not of one length")
            if not min(*scored.field, *scored.stride, *scored.mpp) > 0:
                raise ValueError("its fields have no size")
        except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
            raise WsiAnomalyError(
                f"{folder} holds no scores ({error}); score the slide again."
            ) from error
        return scored

    @property
    def assessed(self) -> NDArray[np.bool_]:
        """(N,) whether a field was judged."""
        return np.isfinite(self.scores[self.primary])

    def smoothed(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Average (N,) scores over 3 x 3 fields, as flags and slide scores are made."""
        radius = max(1, round(self.field[0] / self.stride[0]))  # as wide whatever the stride
        return smooth_scores(self.row, self.col, scores, radius=radius)

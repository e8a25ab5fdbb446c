"""Plan the fields of a slide: which squares of it are looked at.

A field is a place, not pixels: the same field is read at 10x, 20x or 40x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.annotations import Outline, fractions_inside
from wsi_anomaly.slides import FOLD, MASKED, PEN, TISSUE, UNREADABLE, Slide, TissueMap

PEN_SHARE = 0.02
"""Share of ink from which a field is PEN: a little ink is colour that no tissue has."""
FOLD_SHARE = 0.25
"""Share of folded tissue from which a field is FOLDED."""
UNREADABLE_SHARE = 0.25
INSIDE_SHARE = 0.99
"""Share of a field that lies inside annotations of one class from which it is of that class."""

_ROUNDING = 0.005  # fractions carry the rounding of corners and of the map


class Status(IntEnum):
    """What may be said of a field; all but OK are reported as not assessed."""

    OK = 0
    FAILED = 1
    BLURRED = 2
    PEN = 3
    FOLDED = 4
    MASKED = 5
    """Tissue outside the tissue mask that somebody gave; never stored as a tile."""


STORED = tuple(status for status in Status if status is not Status.MASKED)
"""What a field of a tile file may be."""


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields of one slide, row by row.

    Attributes
    ----------
    coords
        (N, 2) int64, level-0 position (x, y) of each field's top left corner.
    row, col
        (N,) int32, place in the grid.
    grid_shape
        Rows and columns of the whole grid.
    origin
        Level-0 position (x, y) of the grid.
    field_level0, stride_level0
        Exact width and height of a field, and from one to the next, level-0 pixels.
    field_um
        Side of a field, micrometres.
    tissue_fraction
        (N,) float32, share of the field that is tissue; folded, inked and masked included.
    status
        (N,) uint8, :class:`Status`.
    label
        (N,) str, class of the annotation that each field lies in; None: not cut from annotations.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from wsi_anomaly.slides import find_tissue, open_slide
    >>> from wsi_anomaly.synthetic import make_slide
    >>> with TemporaryDirectory() as folder:
    ...     _ = make_slide(f"{folder}/s.tif", seed=1, size_px=(1024, 1024), mpp=0.5)
    ...     with open_slide(f"{folder}/s.tif") as slide:
    ...         fields = plan_fields(slide, find_tissue(slide), field_um=64)
    >>> fields.grid_shape, fields.field_level0
    ((8, 8), (128.0, 128.0))
    """

    coords: NDArray[np.int64]
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    grid_shape: tuple[int, int]
    origin: tuple[float, float]
    field_level0: tuple[float, float]
    stride_level0: tuple[float, float]
    field_um: float
    tissue_fraction: NDArray[np.float32]
    status: NDArray[np.uint8]
    label: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.coords)

    def area_mm2(self, mpp: tuple[float, float]) -> float:
        """Area that one field stands for (its stride squared), at `mpp` um per level-0 pixel."""
        width, height = self.stride_level0
        return width * mpp[0] * height * mpp[1] / 1e6

    def take(self, indices: NDArray[np.intp]) -> Fields:
        """Keep only these fields (n,) of the grid."""
        return replace(
            self,
            coords=self.coords[indices],
            row=self.row[indices],
            col=self.col[indices],
            tissue_fraction=self.tissue_fraction[indices],
            status=self.status[indices],
            label=None if self.label is None else self.label[indices],
        )


def plan_fields(
    slide: Slide,
    tissue: TissueMap,
    *,
    field_um: float,
    stride_um: float | None = None,
    min_tissue: float = 0.5,
    max_tiles: int | None = None,
    seed: int = 0,
    outlines: Sequence[Outline] | None = None,
) -> Fields:
    """Lay a grid over the whole scanned area and keep the fields with tissue.

    The last row and column may reach beyond it: what lies outside is no tissue.

    Parameters
    ----------
    slide, tissue
        The slide and its tissue map.
    field_um
        Side of a field, micrometres.
    stride_um
        From one field to the next; `field_um` when None (no overlap, no gap).
    min_tissue
        Least share of tissue (ink and folds count: what lies under them is not glass). A field
        that reaches it only with tissue outside a mask is MASKED.
    max_tiles
        At most so many fields, drawn at random by `seed` from those that can be assessed; None:
        all of them.
    outlines
        Keep only fields inside these annotations, labelled as they are.

    Returns
    -------
    Every corner is rounded by itself from its exact place, so that no error adds up.
    """
    mpp = slide.mpp
    stride_um = field_um if stride_um is None else stride_um
    field = (field_um / mpp.x, field_um / mpp.y)
    stride = (stride_um / mpp.x, stride_um / mpp.y)
    bounds = slide.bounds
    columns = _count(bounds.width, field[0], stride[0])
    rows = _count(bounds.height, field[1], stride[1])
    row, col = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
    coords = np.stack(
        (
            np.floor(bounds.x + col * stride[0] + 0.5),
            np.floor(bounds.y + row * stride[1] + 0.5),
        ),
        axis=1,
    ).astype(np.int64)
    shares = tissue.fractions(coords, field)
    inside = shares[:, TISSUE] + shares[:, PEN] + shares[:, FOLD] + shares[:, UNREADABLE]
    fraction = inside + shares[:, MASKED]
    least = min_tissue - _ROUNDING
    status = _status(shares)
    status[inside < least] = Status.MASKED
    fields = Fields(
        coords,
        row.astype(np.int32),
        col.astype(np.int32),
        (rows, columns),
        (float(bounds.x), float(bounds.y)),
        field,
        stride,
        field_um,
        fraction,
        status,
    )
    kept = np.flatnonzero(fraction >= least)
    if outlines is not None:
        label = np.full(len(coords), "", object)
        label[kept] = _labels(outlines, coords[kept], field)
        fields = replace(fields, label=label.astype(np.str_))
        kept = kept[label[kept] != ""]
    if max_tiles is not None and len(kept) > max_tiles:
        good = kept[status[kept] == Status.OK]
        pool = good if len(good) >= max_tiles else kept
        kept = np.sort(np.random.default_rng(seed).choice(pool, max_tiles, replace=False))
    return fields.take(kept)


def _status(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Say what speaks against each field, from its shares (N, labels) of the tissue map."""
    status = np.full(len(shares), Status.OK, np.uint8)
    status[shares[:, FOLD] >= FOLD_SHARE] = Status.FOLDED
    status[shares[:, PEN] >= PEN_SHARE] = Status.PEN
    status[shares[:, UNREADABLE] >= UNREADABLE_SHARE] = Status.FAILED
    return status


def _labels(
    outlines: Sequence[Outline], coords: NDArray[np.int64], field: tuple[float, float]
) -> NDArray[np.object_]:
    """Class of each field: the one that covers it, "" where none does."""
    label = np.full(len(coords), "", object)
    for name in sorted({outline.label for outline in outlines}):
        of_class = [outline for outline in outlines if outline.label == name]
        label[fractions_inside(of_class, coords, field) >= INSIDE_SHARE] = name
    return label


def _count(extent: float, field: float, stride: float) -> int:
    """Fields until the border is reached, a thousandth of a step forgiven."""
    return max(1, math.ceil((extent - max(field, stride)) / stride - 1e-3) + 1)

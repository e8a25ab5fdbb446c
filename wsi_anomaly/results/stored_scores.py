"""``scores.zarr`` read back, whoever wrote it: the one reader, with the limits of SECURITY.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.packed import unpacked_bytes
from wsi_anomaly.core.reading import why_unreadable
from wsi_anomaly.tiles import Fields

_LARGEST_GRID = 1 << 26
_LARGEST_BYTES = 1 << 30  # of the whole table
_MOST_OVERLAP = 1000  # fields side by side over one
_DAMAGED = (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError,
            RuntimeError)  # fmt: skip
"""What zarr and its codecs raise on a damaged folder."""
_COLUMNS = ("coords", "row", "col", "tissue_fraction", "status", "flagged")
_MEANINGS = ("smoothed", "percentile", "z", "p_value")


@dataclass(frozen=True, eq=False)
class StoredScores:
    """The tile table of one results folder.

    Attributes
    ----------
    fields
        The N fields and their grid.
    mpp
        Micrometres per level-0 pixel (x, y).
    scores
        Raw scores by method, (N,) float, NaN where not assessed.
    primary
        The method that ranks.
    flagged
        (N,) bool, whether the field is flagged.
    taken_away
        (N,) bool, whether it would be, were it not like what readers called harmless.
    meaning
        ``smoothed`` and, of a calibrated model, ``percentile``, ``z`` and ``p_value``, (N,) each.
    """

    fields: Fields
    mpp: tuple[float, float]
    scores: Mapping[str, NDArray[np.float32]]
    primary: str
    flagged: NDArray[np.bool_]
    taken_away: NDArray[np.bool_]
    meaning: Mapping[str, NDArray[np.floating]]

    @classmethod
    def read(cls, folder: str | Path) -> StoredScores:
        """Read ``scores.zarr`` of a results folder.

        Raises
        ------
        OutputError
            It is missing or damaged, or claims more than a slide can have.
        """
        import zarr

        path = Path(folder) / "scores.zarr"
        try:
            _check_files(path)
            root = zarr.open_group(str(path), mode="r", zarr_format=2, use_consolidated=False)
            tiles: Any = root["tiles"]
            arrays = {name: tiles[name] for name in _COLUMNS}
            scores = dict(tiles["scores"].arrays())
            meaning = {name: tiles[name] for name in _MEANINGS if name in tiles}
            taken = [tiles[name] for name in ("taken_away",) if name in tiles]
            facts = dict(tiles.attrs)
            grid = _grid_shape(facts["grid_shape"])
            columns = [*arrays.values(), *scores.values(), *meaning.values(), *taken]
            _check_claims(columns, arrays["coords"], grid)
            column = {name: _read(array, path) for name, array in arrays.items()}
            field, stride, mpp = (
                _lengths(facts[name]) for name in ("field_level0", "stride_level0", "mpp")
            )
            if max(field[0] / stride[0], field[1] / stride[1]) > _MOST_OVERLAP:
                raise ValueError(f"fields of {field} every {stride} pixels are impossible")
            x, y = (float(v) for v in facts["origin_level0"])
            fields = Fields(
                column["coords"], column["row"], column["col"], grid, (x, y), field, stride,
                field[0] * mpp[0], column["tissue_fraction"], column["status"],
            )  # fmt: skip
            for place, limit in ((fields.row, grid[0]), (fields.col, grid[1])):
                inside = place.dtype.kind in "iu" and np.all((place >= 0) & (place < limit))
                if not inside:
                    raise ValueError("a field lies outside its grid")
            if any(array.dtype.kind != "f" for array in meaning.values()):
                raise ValueError("what its scores mean is no number")
            primary = str(facts["primary"])
            if primary not in scores:
                raise ValueError(f"none of the method {primary!r} that ranks")
            return cls(
                fields, mpp, {name: _read(array, path) for name, array in scores.items()}, primary,
                column["flagged"].astype(bool),
                _read(taken[0], path).astype(bool) if taken else np.zeros(len(fields), bool),
                {name: _read(array, path) for name, array in meaning.items()},
            )  # fmt: skip
        except _DAMAGED as error:
            if path.exists() and (unreadable := why_unreadable(path)):
                raise OutputError(
                    f"{path} cannot be read ({unreadable}); look at its permissions and its disk."
                ) from error
            reason = " ".join(str(error).split())
            raise OutputError(
                f"{path} is missing or damaged ({reason}); score the slide again."
            ) from error

    @property
    def score(self) -> NDArray[np.float32]:
        """(N,) raw scores of the method that ranks."""
        return self.scores[self.primary]

    def grid(self) -> NDArray[np.float32]:
        """Scores on the grid (rows, columns), NaN elsewhere."""
        out = np.full(self.fields.grid_shape, np.nan, np.float32)
        out[self.fields.row, self.fields.col] = self.score
        return out


def _check_files(path: Path) -> None:
    """Refuse pipes and devices, which never end, and folders that lie elsewhere."""
    for entry in path.rglob("*"):
        if not entry.is_file() and (entry.is_symlink() or not entry.is_dir()):
            raise ValueError(f"{entry.name} is neither a file nor a folder of it")


def _grid_shape(stored: Any) -> tuple[int, int]:
    rows, columns = (int(n) for n in stored)
    if not (rows > 0 and columns > 0 and rows * columns <= _LARGEST_GRID):
        raise ValueError(f"a grid of {rows} x {columns} fields is impossible")
    return rows, columns


def _lengths(stored: Any) -> tuple[float, float]:
    x, y = (float(v) for v in stored)
    if not (math.isfinite(x) and math.isfinite(y) and min(x, y) > 0):
        raise ValueError("its fields have no size")
    return x, y


def _check_claims(arrays: list[Any], coords: Any, grid: tuple[int, int]) -> None:
    """Refuse what no slide has, before anything is read: Zarr needs no file for what it claims."""
    for array in arrays:
        chunk = math.prod(array.chunks) * array.dtype.itemsize
        if array.nbytes > _LARGEST_BYTES or chunk > _LARGEST_BYTES:
            raise ValueError(f"an array of {array.shape} in pieces of {array.chunks} is impossible")
    count = coords.shape[0]
    if count > math.prod(grid) or sum(array.nbytes for array in arrays) > _LARGEST_BYTES:
        raise ValueError(f"{count} fields in {len(arrays)} columns are impossible")
    if any(array.shape != ((count, 2) if array is coords else (count,)) for array in arrays):
        raise ValueError("its columns are not of one length")


def _read(array: Any, path: Path) -> NDArray[Any]:
    """Read an array whose pieces unpack to what the array claims, and to no more."""
    if array.dtype.kind not in "biuf" or array.filters or len(array.compressors) > 1:
        raise ValueError(f"{array.name} is not stored as score stores it")
    packed_by = array.compressors[0].codec_id if array.compressors else "none"
    expected = math.prod(array.chunks) * array.dtype.itemsize
    for piece in (path / array.path).rglob("[!.]*"):
        if piece.is_file() and unpacked_bytes(piece, packed_by) != expected:
            raise ValueError(f"{piece.name} of {array.name} has another size than it should")
    values: NDArray[Any] = array[...]
    return values

"""Embeddings of our own fields, in an HDF5 file as TRIDENT writes it, for others and for us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.slides import Slide
from wsi_anomaly.tiles import Fields

_BLOCK = 4096
_MAGNIFICATION = 10  # at which a pixel is 1 um


class EmbeddingsOut:
    """A file that takes embeddings as they come.

    Parameters
    ----------
    file
        Open for writing.
    encoder, field_um
        Who makes them, and the side of a field round each cell.
    slide
        The open slide.
    """

    def __init__(self, file: h5py.File, encoder: str, field_um: int, slide: Slide) -> None:
        self._file, self._slide, self._um, self._encoder = file, slide, field_um, encoder
        self._cells: list[NDArray[np.int64]] = []
        self._shares: list[NDArray[np.float32]] = []
        self._step = 0.0
        self._count = 0

    def add(self, cells: Fields, values: NDArray[np.float32], shares: NDArray[np.float32]) -> None:
        """Take the embeddings (n, D) of the fields round n cells, with their shares of tissue."""
        if not len(cells):
            return
        if "features" not in self._file:
            self._file.create_dataset(
                "features", (0, values.shape[1]), np.float32, chunks=(64, values.shape[1]),
                maxshape=(None, values.shape[1]),
            )  # fmt: skip
        features = self._file["features"]
        features.resize(self._count + len(values), 0)
        features[self._count :] = values
        self._count += len(values)
        self._cells.append(cells.coords)
        self._shares.append(shares)
        self._step = cells.stride_level0[0]

    def finish(self, assessed: Fields) -> None:
        """Keep those that were assessed in the end, and say what they are."""
        if not self._count:
            return
        cells = np.concatenate(self._cells)
        places = {tuple(corner) for corner in assessed.coords.tolist()}
        kept = np.flatnonzero([tuple(corner) in places for corner in cells.tolist()])
        features = self._file["features"]
        if len(kept) < len(cells):
            # What is kept moves towards the beginning: it never overwrites what is still to come.
            for start in range(0, len(kept), _BLOCK):
                rows = kept[start : start + _BLOCK]
                features[start : start + len(rows)] = features[rows]
            features.resize(len(kept), 0)
        size = self._um / self._slide.mpp.x
        margin = (size - self._step) / 2
        corners = np.floor(cells[kept] - margin + 0.5).astype(np.int64)
        coords = self._file.create_dataset("coords", data=corners)
        self._file.create_dataset("tissue_share", data=np.concatenate(self._shares)[kept])
        features.attrs.update({"encoder": self._encoder, "name": self._slide.name})
        coords.attrs.update(
            {
                "patch_size": self._um,
                "patch_size_level0": size,
                "level0_magnification": _MAGNIFICATION / self._slide.mpp.x,
                "target_magnification": _MAGNIFICATION,
                "overlap": self._um - round(self._step * self._slide.mpp.x),
                "name": self._slide.name,
                "level0_width": self._slide.width,
                "level0_height": self._slide.height,
                "mpp": self._slide.mpp.x,
            }
        )


@contextmanager
def embeddings_out(
    path: Path, encoder: str, field_um: int, slide: Slide
) -> Iterator[EmbeddingsOut]:
    """Open a file for the embeddings of a slide; it takes its place when it is whole.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with atomic_file(path) as partial, h5py.File(partial, "w") as file:
        yield EmbeddingsOut(file, encoder, field_um, slide)

"""Tiles and chunks as JPEG streams: a fifth of the room, and not quite the same pixels.

Quality 95 with colours at full resolution. At half resolution, which is usual, scores change
(docs/benchmarks.md). ``<name>_jpeg`` holds the streams of an array one after another, and
``<name>_jpeg_at`` (N, 2) where each begins and how long it is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import h5py
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.slides.jpeg import damage

STREAMS, PLACES = "_jpeg", "_jpeg_at"
_QUALITY, _SUBSAMPLING = 95, "444"


class JpegSpool:
    """Arrays of images on their way into a tile file, coded as they come.

    Parameters
    ----------
    folder
        Where what is coded is kept until the file is whole; nothing there has a name.
    arrays
        Number and side of the images of each array, by name.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, tuple[int, int]]) -> None:
        self._sides = {name: side for name, (_, side) in arrays.items()}
        self._places = {n: np.zeros((count, 2), np.int64) for n, (count, _) in arrays.items()}
        self._spools = {
            name: tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - until it is closed as a whole
            for name in arrays
        }

    def put(self, name: str, indices: NDArray[np.intp], images: NDArray[np.uint8]) -> None:
        """Store images (n, s, s, 3) at these positions of the array of this name."""
        spool = self._spools[name]
        for index, image in zip(indices.tolist(), images, strict=True):
            stream = imagecodecs.jpeg8_encode(
                np.ascontiguousarray(image), level=_QUALITY, subsampling=_SUBSAMPLING
            )
            self._places[name][index] = spool.tell(), len(stream)
            spool.write(stream)

    def store(self, path: Path) -> None:
        """Put all of it into the tile file."""
        for name, spool in self._spools.items():
            size = spool.tell()
            with h5py.File(path, "r+", locking=False) as file:
                file[f"{name}{PLACES}"] = self._places[name]
                streams = file.create_dataset(f"{name}{STREAMS}", (size,), np.uint8)
                streams.attrs["side"] = self._sides[name]
                if size:
                    streams[0] = 0  # lays it out
                offset = streams.id.get_offset()
            if size:
                spool.seek(0)
                with path.open("r+b") as target:
                    target.seek(offset)
                    shutil.copyfileobj(spool, target)

    def close(self) -> None:
        """Forget what was coded."""
        for spool in self._spools.values():
            spool.close()


class JpegImages:
    """An array of images (N, s, s, 3) uint8 that are decoded when they are taken.

    Parameters
    ----------
    path, name
        The tile file, and what the array is called in it.
    streams, places
        (bytes,) uint8, and where each image lies among them (N, 2).
    side
        Of the images.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        streams: NDArray[np.uint8],
        places: NDArray[np.int64],
        side: int,
    ) -> None:
        self._path, self._name = path, name
        self._streams, self._places = streams, places
        self.shape = (len(places), side, side, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(
        self, which: int | slice | Sequence[int] | NDArray[np.intp]
    ) -> NDArray[np.uint8]:
        """One image (s, s, 3), or some (n, s, s, 3).

        Raises
        ------
        TileStoreError
            It is damaged.
        """
        chosen = np.arange(len(self))[which]
        if chosen.ndim == 0:
            return self._decoded(int(chosen))
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for i, index in enumerate(chosen.tolist()):
            out[i] = self._decoded(index)
        return out

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        start, size = self._places[index].tolist()
        stream = self._streams[start : start + size].tobytes()
        reason = damage(stream, most_px=self.shape[1] ** 2)
        if reason is None:
            try:
                pixels = cast("NDArray[np.uint8]", imagecodecs.jpeg8_decode(stream))
            except Exception as error:  # noqa: BLE001 - the codec has no class of error of its own
                reason = " ".join(str(error).split())
            else:
                if pixels.shape == self.shape[1:]:
                    return pixels
                reason = "it has another size than it should"
        raise TileStoreError(
            f"{self._path} is damaged (picture {index} of {self._name}: {reason}); delete it and "
            "run tile again."
        )

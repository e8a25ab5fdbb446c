"""Read a tile file.

Layout (see also docs): root attributes say what the file is; ``coords`` (N, 2), ``row``, ``col``,
``tissue_fraction`` and ``status`` (N) describe the fields; ``10x/images``, ``20x/images`` and
``40x/images`` (N, s, s, 3) hold the same fields at each magnification, uncompressed and contiguous
(real tissue hardly compresses, and a contiguous array can be mapped into memory: random batches
then cost no more than copying their bytes). ``10x/chunks`` (n, 256, 256, 3) with ``chunk_places``
(n, 2) is the slide's plane at that magnification where there is tissue, ``cells`` (m, 2) the cells
of 64 um in it that may be learned from, ``square_status`` and ``square_sharpness`` what was judged;
``tissue`` is the tissue map. Files of version 1 have none of these; those of version 3 hold the
images and chunks as JPEG streams (:mod:`~wsi_anomaly.tiles.jpegs`).
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import StainError, TileStoreError, UsageError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.slides import Bounds, Mpp, TissueMap
from wsi_anomaly.slides.base import MAX_SIDE_PX
from wsi_anomaly.slides.overview import MAP_MPP
from wsi_anomaly.stain import StainProfile
from wsi_anomaly.tiles.config import FORMAT, READABLE_VERSIONS
from wsi_anomaly.tiles.fields import Fields
from wsi_anomaly.tiles.hdf5_damage import check_hdf5, own_dataset
from wsi_anomaly.tiles.jpegs import PLACES, STREAMS, JpegImages
from wsi_anomaly.tiles.plane import CHUNK_PX
from wsi_anomaly.tiles.plane_file import StoredPlane, learned_cells
from wsi_anomaly.tiles.preprocessing import Preprocessing

SUFFIX = ".h5"
_OF_THE_CONTENT = (errno.EINVAL, errno.EFBIG, errno.EOVERFLOW)
"""What the system answers to a place in the file that cannot be."""
_WIDEST = 4 * 1024  # px, of a tile
SOURCES = ("tissue_mask", "annotations")
_DAMAGED = (OSError, LookupError, ValueError, TypeError, RuntimeError, StainError)
"""What h5py raises on a damaged file; JSON that is nested without end is a RuntimeError."""


class TileStore:
    """The tiles of one slide. Opened for reading; cheap to keep open by the hundred.

    Attributes
    ----------
    path, slide_name, slide_path, fingerprint, case
        The file, and the slide that it comes from.
    backend, scene
        Reader of the slide, "auto" where the file does not say; and the image of its file that was
        chosen, from 1.
    mpp, bounds, slide_size
        Geometry of the slide: pixel size, scanned area (x, y, width, height), width and height.
    config, config_hash
        What ``tile`` was asked for.
    preprocessing, stain
        How pixels were treated, and the slide's own stain profile (None: not normalised).
    magnifications
        Those stored, ascending.
    coords, tissue_fraction, status
        (N, 2) int64, (N,) float32, (N,) uint8 :class:`~wsi_anomaly.tiles.Status`.
    label
        (N,) str, class of the annotation that each field was cut from; None: it was not.
    sources
        Fingerprints of the tissue mask and the annotations, "" where there were none.
    tissue_mask
        Where the tissue mask lay; None where there was none, or the file does not say.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        attributes = file.attrs
        self.slide_name = str(attributes["slide_name"])
        self.slide_path = Path(str(attributes["slide_path"]))
        self.fingerprint = str(attributes["fingerprint"])
        self.case = str(attributes["case"])
        self.mpp = Mpp(
            float(attributes["mpp_x"]), float(attributes["mpp_y"]), str(attributes["mpp_source"])
        )
        self.backend = str(attributes.get("backend", "auto"))
        self.scene = int(attributes.get("scene", 0)) or None
        self.slide_size = tuple(int(n) for n in attributes["slide_size"])
        self.bounds = tuple(int(n) for n in attributes["bounds"])
        self.config: dict[str, Any] = json.loads(str(attributes["config"]))
        self.config_hash = str(attributes["config_hash"])
        self.preprocessing = Preprocessing.from_dict(json.loads(str(attributes["preprocessing"])))
        self.stain = (
            StainProfile(
                attributes["stain_matrix"], attributes["stain_maxima"], attributes["stain_white"]
            )
            if "stain_matrix" in attributes
            else None
        )
        size = path.stat().st_size
        self.coords: NDArray[np.int64] = own_dataset(file, "coords", size)[:]
        self.tissue_fraction: NDArray[np.float32] = own_dataset(file, "tissue_fraction", size)[:]
        self.status: NDArray[np.uint8] = own_dataset(file, "status", size)[:]
        self.label: NDArray[np.str_] | None = (
            np.array(own_dataset(file, "label", size).asstr()[:], np.str_)
            if "label" in file
            else None
        )
        self.sources = {name: str(attributes.get(name, "")) for name in SOURCES}
        mask = str(attributes.get("tissue_mask_path", ""))
        self.tissue_mask = Path(mask) if mask else None
        self._images: dict[int, Images] = {}
        self._layout: dict[int, _Pixels] = {}
        self._planes: dict[int, _StoredArrays] = {}
        for name in file:
            if not name.endswith("x") or not name[:-1].isdigit():
                continue
            if {"chunks", f"chunks{STREAMS}"} & set(file[name]):
                self._planes[int(name[:-1])] = _stored_plane(file, name, size)
            self._layout[int(name[:-1])] = _Pixels.of(
                file, f"{name}/images", size, len(self.coords)
            )
        self._tissue = own_dataset(file, "tissue", size)[:] if self._planes else None
        red, green, blue = file["tissue"].attrs["white"] if self._planes else (255, 255, 255)
        self._white = float(red), float(green), float(blue)
        self.magnifications = tuple(sorted(self._layout))
        lists = (self.coords, self.status, self.tissue_fraction, self.label)
        if len({len(entry) for entry in lists if entry is not None}) != 1:
            raise ValueError("its lists have different lengths")
        if not self.magnifications:
            raise ValueError("it holds no images")

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a tile file and check it.

        Raises
        ------
        TileStoreError
            It is missing, damaged, no tile file, or of another version.
        """
        path = Path(path)
        try:
            check_hdf5(path)
            with h5py.File(path, "r", locking=False) as file:  # it is whole and stays as it is
                if file.attrs.get("format") != FORMAT:
                    raise TileStoreError(
                        f"{path} is no tile file of wsi-anomaly; make one with wsi-anomaly tile."
                    )
                if int(file.attrs.get("version", 0)) not in READABLE_VERSIONS:
                    raise TileStoreError(
                        f"{path} was made by another version of wsi-anomaly; run tile again."
                    )
                return cls(path, file)
        except FileNotFoundError as error:
            raise TileStoreError(
                f"{path} does not exist; make tiles with wsi-anomaly tile."
            ) from error
        except _DAMAGED as error:
            reason = " ".join(str(error).split())
            number = _system_error(error, reason)
            if number and number not in _OF_THE_CONTENT:
                raise TileStoreError(
                    f"{path} cannot be read ({os.strerror(number)}); check the disk and its "
                    "permissions, and run the same command again."
                ) from error
            raise TileStoreError(
                f"{path} is damaged ({reason}); delete it and run tile again."
            ) from error

    def __len__(self) -> int:
        return len(self.coords)

    def tile_side(self, magnification: int) -> int:
        """Pixels a side of the tiles stored at a magnification."""
        return self._layout[self._require(magnification)].side

    def images(
        self, magnification: int, indices: NDArray[np.intp] | Sequence[int] | slice
    ) -> NDArray[np.uint8]:
        """Tiles (n, s, s, 3) uint8 at a magnification, in the order asked for; a copy."""
        return np.array(self.mapped(magnification)[indices])

    def mapped(self, magnification: int) -> Images:
        """All tiles of a magnification, (N, s, s, 3) uint8, mapped into memory, read-only."""
        magnification = self._require(magnification)
        if magnification not in self._images:
            self._images[magnification] = self._layout[magnification].open(self.path)
        return self._images[magnification]

    def plane(self, magnification: int) -> tuple[StoredPlane, Fields] | None:
        """Open the slide's plane at a magnification, with the cells that may be learned from.

        None for a file that holds single tiles only.
        """
        arrays = self._planes.get(magnification)
        if arrays is None or self._tissue is None:
            return None
        per_level0 = tuple(m / mpp_of(magnification) for m in (self.mpp.x, self.mpp.y))
        bounds = Bounds(*self.bounds)
        tissue = TissueMap(
            self._tissue,
            MAP_MPP,
            (float(bounds.x), float(bounds.y)),
            (MAP_MPP / self.mpp.x, MAP_MPP / self.mpp.y),
            self._white,
        )
        plane = StoredPlane(
            arrays.pixels.open(self.path),
            arrays.places,
            arrays.status.copy(),
            arrays.sharpness,
            size_px=arrays.size_px,
            magnification=magnification,
            background=arrays.background,
            tissue=tissue,
            px_per_level0=(per_level0[0], per_level0[1]),
        )
        return plane, learned_cells(plane, arrays.cells, bounds, self.mpp)

    def _require(self, magnification: int) -> int:
        if magnification not in self._layout:
            stored = ", ".join(f"{m}x" for m in self.magnifications)
            raise TileStoreError(
                f"{self.path} has no {magnification}x tiles, only {stored}; choose one of those or "
                "run tile again."
            )
        return magnification


def _system_error(error: Exception, reason: str) -> int:
    """Read the system's error number; HDF5 often has it in its text alone. 0: none."""
    said = re.search(r"errno = (\d+)", reason)
    return getattr(error, "errno", None) or int(said[1] if said else 0)


Images = NDArray[np.uint8] | JpegImages
"""Images (N, s, s, 3) uint8 that are taken by number."""


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Images as they lie in the file: where they begin, how many, their side, and their streams."""

    name: str
    offset: int
    count: int
    side: int
    bytes: int = 0
    places: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, file: h5py.File, name: str, size: int, count: int) -> _Pixels:
        """Find images, and check them against their number and the file's size."""
        if f"{name}{STREAMS}" in file:
            return cls._of_streams(file, name, size, count)
        images = own_dataset(file, name, size)
        side = images.shape[1] if images.ndim == 4 else 0
        offset = images.id.get_offset()
        if (
            images.dtype != np.uint8
            or images.shape != (count, side, side, 3)
            or (count and (offset is None or offset + images.size > size))
        ):
            raise ValueError(f"{name} is not as it should be")
        return cls(name, offset or 0, count, side)

    @classmethod
    def _of_streams(cls, file: h5py.File, name: str, size: int, count: int) -> _Pixels:
        streams = own_dataset(file, f"{name}{STREAMS}", size)
        places = own_dataset(file, f"{name}{PLACES}", size)[:]
        side, offset = int(streams.attrs["side"]), streams.id.get_offset()
        if (
            streams.dtype != np.uint8
            or streams.ndim != 1
            or places.dtype != np.int64
            or places.shape != (count, 2)
            or not 0 < side <= _WIDEST
            or (count and (offset is None or offset + streams.size > size))
            or (count and (places.min() < 0 or (places > streams.size).any()))
        ):
            raise ValueError(f"{name} is not as it should be")
        return cls(name, offset or 0, count, side, streams.size, places)

    def open(self, path: Path) -> Images:
        """Map them into memory, read-only."""
        shape = (self.count, self.side, self.side, 3)
        if not self.count:
            return np.empty(shape, np.uint8)
        if self.places is None:
            return np.memmap(path, np.uint8, "r", self.offset, shape)
        streams = np.memmap(path, np.uint8, "r", self.offset, (self.bytes,))
        return JpegImages(path, self.name, streams, self.places, self.side)


@dataclass(frozen=True, eq=False)
class _StoredArrays:
    """A plane as it lies in the file."""

    pixels: _Pixels
    places: NDArray[np.int32]
    cells: NDArray[np.int32]
    status: NDArray[np.uint8]
    sharpness: NDArray[np.float32]
    size_px: tuple[int, int]
    background: tuple[int, int, int]


def _stored_plane(file: h5py.File, group: str, size: int) -> _StoredArrays:
    """Read where the chunks of a plane lie, and check it against the file's size."""
    arrays = {
        name: own_dataset(file, f"{group}/{name}", size)[:]
        for name in ("chunk_places", "cells", "square_status", "square_sharpness")
    }
    places, cells = (arrays[name].astype(np.int32) for name in ("chunk_places", "cells"))
    width, height = (int(v) for v in file[group].attrs["plane_size"])
    red, green, blue = (int(v) for v in file[group].attrs["plane_background"])
    squares = arrays["square_status"].shape
    pixels = _Pixels.of(file, f"{group}/chunks", size, len(places))
    if (
        pixels.side != CHUNK_PX
        or places.shape != (len(places), 2)
        or cells.shape != (len(cells), 2)
        or not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX)
        or (len(cells) and not ((cells >= 0) & (cells < squares)).all())
    ):
        raise ValueError(f"the plane of {group} is not as it should be")
    return _StoredArrays(
        pixels,
        places,
        cells,
        arrays["square_status"].astype(np.uint8),
        arrays["square_sharpness"].astype(np.float32),
        (width, height),
        (red, green, blue),
    )


def find_tile_files(paths: Iterable[str | Path]) -> list[Path]:
    """Tile files among files and folders (searched), sorted, each once.

    Raises
    ------
    UsageError
        A path does not exist, or there is no tile file.
    """
    places = [Path(path) for path in paths]
    found: set[Path] = set()
    for path in places:
        if path.is_dir():
            found.update(file for file in path.rglob(f"*{SUFFIX}") if not file.name.startswith("."))
        elif path.exists():
            found.add(path)
        else:
            raise UsageError(f"{path} does not exist; make tiles with wsi-anomaly tile SLIDES.")
    if not found:
        names = ", ".join(str(path) for path in places) or "nothing"
        raise UsageError(f"No tile file in {names}; make some with wsi-anomaly tile SLIDES.")
    return sorted(found)

"""Write a tile file: laid out at once, filled in any order, renamed when it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.core.remote import is_remote, url_of
from wsi_anomaly.slides import Slide, TissueMap
from wsi_anomaly.stain import StainProfile
from wsi_anomaly.tiles.config import FORMAT, FORMAT_VERSION, WITH_JPEG, TileConfig
from wsi_anomaly.tiles.fields import Fields
from wsi_anomaly.tiles.jpegs import JpegSpool
from wsi_anomaly.tiles.plane import CHUNK_PX
from wsi_anomaly.tiles.plane_file import PlaneToStore

_TEXT = h5py.string_dtype()  # the bytes of a path may be no UTF-8: they come back as they are
_PAGE = 4096  # images start on one: whole pages are written and mapped


class TileWriter(Protocol):
    """A tile file that is being filled; made by :func:`write_tiles`."""

    def put(self, name: str, indices: NDArray[np.intp], images: NDArray[np.uint8]) -> None:
        """Store images (n, s, s, 3) at these positions of the array of this name."""


class _InPlace:
    """Writes images where they lie in the open tile file."""

    def __init__(self, path: Path, offsets: Mapping[str, int]) -> None:
        self._file = os.open(path, os.O_WRONLY)
        self._offsets = offsets

    def put(self, name: str, indices: NDArray[np.intp], images: NDArray[np.uint8]) -> None:
        """Store images (n, s, s, 3) at these positions of the array of this name."""
        order = np.argsort(indices, kind="stable")
        indices = indices[order]
        size = int(np.prod(images.shape[1:]))
        # One write for each run of neighbours.
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(indices)], strict=True):
            places = order[start:stop]
            if (np.diff(places) == 1).all():  # as read: no copy
                run = np.ascontiguousarray(images[places[0] : places[-1] + 1])
            else:
                run = np.ascontiguousarray(images[places])
            offset = self._offsets[name] + int(indices[start]) * size
            view = memoryview(run).cast("B")
            while view:
                written = os.pwrite(self._file, view, offset)
                view, offset = view[written:], offset + written

    def store(self, _path: Path) -> None:
        """Nothing is left to be stored."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@contextmanager
def write_tiles(
    path: Path,
    slide: Slide,
    fields: Fields,
    status: NDArray[np.uint8],
    *,
    config: TileConfig,
    magnifications: tuple[int, ...],
    stain: StainProfile | None,
    attributes: Mapping[str, str],
    planes: Mapping[int, PlaneToStore],
) -> Iterator[TileWriter]:
    """Create a tile file; it takes its name when the block ends well, and not before.

    Parameters
    ----------
    status
        (N,) uint8, filled in by the caller while it reads; stored at the end.
    attributes
        Further root attributes: ``fingerprint``, ``case``, and fingerprints of the files that were
        given beside the slide.
    planes
        The plane of each magnification that is to be stored, and what of it.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    arrays = {tiles_of(m): (len(fields), config.tile_size * m // 10) for m in magnifications}
    arrays |= {chunks_of(m): (len(stored.plan), CHUNK_PX) for m, stored in planes.items()}
    lossy = config.compression == "jpeg"
    with atomic_file(path) as partial:
        with h5py.File(
            partial,
            "w",
            locking=False,  # nobody else knows the partial name, and some disks have no locks
            libver=("v108", "v110"),
            alignment_threshold=_PAGE,
            alignment_interval=_PAGE,
        ) as file:
            for name, text in {"slide_path": _whole_path(slide), **attributes}.items():
                file.attrs.create(name, os.fsencode(text), dtype=_TEXT)
            file.attrs.update(_root_attributes(slide, config, stain))
            coords = file.create_dataset("coords", data=fields.coords)
            coords.attrs.update(_trident(slide, fields, config, magnifications, path))
            file["row"], file["col"] = fields.row, fields.col
            file["tissue_fraction"] = fields.tissue_fraction
            if fields.label is not None:
                file["label"] = fields.label.astype(object)
                file.attrs["labels"] = sorted(set(fields.label.tolist()))
            for m in magnifications:
                file.create_group(f"{m}x").attrs["mpp"] = 10 / m
            offsets = {} if lossy else {n: _reserve(file, n, *size) for n, size in arrays.items()}
            for m, stored in planes.items():
                _describe(file[f"{m}x"], stored)
            if planes:
                _store_tissue(file, next(iter(planes.values())).plane.tissue)
        writer = JpegSpool(path.parent, arrays) if lossy else _InPlace(partial, offsets)
        try:
            yield writer
            writer.store(partial)
        finally:
            writer.close()
        with h5py.File(partial, "r+", locking=False) as file:
            file["status"] = status
            for m, stored in planes.items():  # judged while they were read
                file[f"{m}x/square_status"] = stored.plane.status
                file[f"{m}x/square_sharpness"] = stored.plane.sharpness


def _root_attributes(
    slide: Slide, config: TileConfig, stain: StainProfile | None
) -> dict[str, Any]:
    attributes = {
        "format": FORMAT,
        "version": FORMAT_VERSION if config.compression == "lossless" else WITH_JPEG,
        "slide_name": slide.name,
        "slide_size": (slide.width, slide.height),
        "mpp_x": slide.mpp.x,
        "mpp_y": slide.mpp.y,
        "mpp_source": slide.mpp.source,
        "bounds": (slide.bounds.x, slide.bounds.y, slide.bounds.width, slide.bounds.height),
        "backend": slide.backend,
        "scene": slide.scene or 0,
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "config_hash": config.hash,
        "preprocessing": json.dumps(config.preprocessing.to_dict(), sort_keys=True),
    }
    if stain is not None:
        attributes |= {
            "stain_matrix": stain.matrix,
            "stain_maxima": stain.maxima,
            "stain_white": stain.white,
        }
    return attributes


def _whole_path(slide: Slide) -> str:
    return url_of(slide.path) if is_remote(slide.path) else str(slide.path.resolve())


def tiles_of(magnification: int) -> str:
    """Name of the array of tiles of a magnification."""
    return f"{magnification}x/images"


def chunks_of(magnification: int) -> str:
    """Name of the array of chunks of a magnification's plane."""
    return f"{magnification}x/chunks"


def _describe(group: h5py.Group, stored: PlaneToStore) -> None:
    """Say where the chunks of a plane lie, and which cells may be learned from."""
    plane, plan = stored.plane, stored.plan
    group["chunk_places"] = plan.places
    group["cells"] = stored.learned_cells()
    group.attrs["plane_size"] = plane.width, plane.height
    group.attrs["plane_background"] = plane.background


def _store_tissue(file: h5py.File, tissue: TissueMap) -> None:
    labels = file.create_dataset("tissue", data=tissue.labels, compression="gzip")
    labels.attrs["mpp"] = tissue.mpp
    labels.attrs["white"] = tissue.white


def _reserve(file: h5py.File, name: str, count: int, side: int) -> int:
    """Lay out an array without writing it; its place in the file."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)  # the same slide gives the same bytes at any time
    space = h5py.h5s.create_simple((count, side, side, 3))
    images = h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_UINT8, space, plan)
    return images.get_offset() or 0


def _trident(
    slide: Slide,
    fields: Fields,
    config: TileConfig,
    magnifications: tuple[int, ...],
    path: Path,
) -> dict[str, Any]:
    """Attributes under which TRIDENT and its relatives look for a patch's geometry.

    They describe the finest stored magnification. ``patch_level`` is left out on purpose: it
    means different things in different tools.
    """
    finest = max(magnifications)
    size = config.tile_size * finest // 10
    stride = (config.stride or config.tile_size) * finest // 10
    return {
        "patch_size": size,
        "patch_size_level0": round(fields.field_level0[0]),
        "level0_magnification": round(10 / slide.finest_mpp),
        "target_magnification": finest,
        "overlap": max(0, size - stride),
        "name": slide.name,
        "savetodir": as_text(str(path.parent)),
        "level0_width": slide.width,
        "level0_height": slide.height,
    }

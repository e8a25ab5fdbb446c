"""HDF5 of TRIDENT and of CLAM, and of our own ``--embeddings-out``: features and coords.

TRIDENT (``WSI.extract_patch_features`` in ``trident/wsi_objects/WSI.py``, ``coords_to_h5`` in
``trident/IO.py``) writes the geometry as attributes of ``coords``: ``patch_size`` at
``target_magnification``, ``patch_size_level0``, ``overlap`` in pixels of the former. CLAM
(``extract_features_fp.py``) writes features and coords bare; the geometry stands in
``patches/<slide>.h5`` of its patching (``process_contour`` in ``wsi_core/WholeSlideImage.py``):
``patch_size`` at ``patch_level``, ``downsample`` of that level. Coordinates are level-0 pixels in
both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.embeddings.base import LARGEST_PIECE, Embeddings
from wsi_anomaly.tiles.hdf5_damage import check_hdf5, own_dataset

_SUFFIXES = (".h5", ".hdf5")
_PATCHES = "patches"
_OTHER_FOLDERS = (_PATCHES, "tiles")
_MOST_PACKED = 100  # times the size of the file


class Hdf5:
    """Reader of TRIDENT's and CLAM's files."""

    def is_one(self, path: Path) -> bool:
        """Whether it is named and placed as they are; coordinates alone lie elsewhere."""
        folder = path.parent.name
        return (
            path.suffix.lower() in _SUFFIXES
            and folder not in _OTHER_FOLDERS
            and not folder.startswith("slide_features_")
            and path.is_file()
        )

    def name(self, path: Path) -> str:
        """Name of the file: both call it after the slide."""
        return path.stem

    @contextmanager
    def open(self, path: Path, root: Path, encoder: str | None) -> Iterator[Embeddings]:
        """Open it; see :class:`~wsi_anomaly.embeddings.base.Reader`."""
        del encoder
        with _opened(path) as file:
            limit = _MOST_PACKED * path.stat().st_size
            features = _checked(own_dataset(file, "features", limit))
            coords = _checked(own_dataset(file, "coords", limit))
            places = np.array(coords[...]).reshape(-1, 2)
            if places.dtype.kind not in "iuf" or not np.isfinite(places).all():
                raise ValueError("its coordinates are no numbers")
            about = {**dict(file.attrs), **dict(coords.attrs)}
            if "patch_size" not in about:
                about |= _of_clam(path, root)
            shares = None
            if "tissue_share" in file:
                shares = np.array(own_dataset(file, "tissue_share", limit)[...], np.float32)
            yield Embeddings(
                path,
                _text(features.attrs.get("encoder")),
                features,
                places.astype(np.int64),
                shares=shares,
                **_geometry(path, about),
            )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    check_hdf5(path)
    with h5py.File(path, "r", locking=False) as file:
        yield file


def _checked(dataset: h5py.Dataset) -> h5py.Dataset:
    """Refuse objects (which may be pickles), and chunks that unpack to more than can be held."""
    if dataset.dtype.kind not in "iuf":
        raise ValueError(f"{dataset.name} holds {dataset.dtype} objects, not numbers")
    if dataset.chunks and np.prod(dataset.chunks) * dataset.dtype.itemsize > LARGEST_PIECE:
        raise ValueError(f"{dataset.name} claims pieces of {dataset.chunks}")
    return dataset


def _text(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
    return "" if text == "None" else text[:200]  # TRIDENT writes None as a word


def _of_clam(path: Path, root: Path) -> Mapping[str, Any]:
    """Attributes of the coordinates that CLAM's patching has written of the same slide."""
    places = [path.parent.parent / _PATCHES, root / _PATCHES, root.parent / _PATCHES]
    for place in places:
        file = place / path.name
        if file.is_file():
            with _opened(file) as opened:
                about = dict(own_dataset(opened, "coords", LARGEST_PIECE).attrs)
            if "patch_size" in about:
                return about
    raise EmbeddingsError(
        f"{path} does not say how large its fields are; lay the folder patches/ that CLAM's "
        f"create_patches_fp.py has written beside it, with {path.name} in it."
    )


def _geometry(path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    size = _number(about["patch_size"])
    if "patch_size_level0" in about:  # TRIDENT
        level0 = _number(about["patch_size_level0"])
        overlap = _number(about.get("overlap", 0))
        um = size * 10 / _number(about["target_magnification"])
        found: dict[str, Any] = {
            "field_level0": level0,
            "step_level0": level0 * (size - overlap) / size,
            "field_um": um,
        }
        if {"level0_width", "level0_height"} <= set(about):
            found["slide_size"] = (
                int(_number(about["level0_width"])),
                int(_number(about["level0_height"])),
            )
        if "mpp" in about:  # ours
            found["mpp"] = _number(about["mpp"])
        return found
    if "patch_level" not in about or "downsample" not in about:
        raise EmbeddingsError(
            f"{path} does not say of which level its fields are; make its coordinates with "
            "CLAM's create_patches_fp.py, or with TRIDENT."
        )
    level0 = size * _number(np.ravel(about["downsample"])[0])
    level0 *= _number(about.get("custom_downsample", 1))
    return {"field_level0": level0, "step_level0": level0}


def _number(value: Any) -> float:
    found = float(np.ravel(value)[0])
    if not np.isfinite(found):
        raise ValueError("an attribute is no number")
    return found

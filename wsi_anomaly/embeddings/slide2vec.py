"""slide2vec 7: ``tile_embeddings/<slide>.npz`` or ``.pt`` with ``<slide>.meta.json``.

Coordinates lie in ``tiles/<slide>.coordinates.npz`` with ``.coordinates.meta.json`` (hs2p 6).
The sidecars name files by their whole path on the machine that made them; such paths are not
followed: what belongs together lies in one folder, by slide2vec's own names.
"""

from __future__ import annotations

import json
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.embeddings.base import MOST_FIELDS, WIDEST, Embeddings

_FOLDER = "tile_embeddings"
_ABOUT = ".meta.json"
_LARGEST_TEXT = 1 << 24
_LARGEST = 1 << 33  # bytes of one slide's embeddings, which are held whole


class Slide2vec:
    """Reader of slide2vec's files."""

    def is_one(self, path: Path) -> bool:
        """Whether it is a slide's embeddings with their sidecar."""
        return (
            path.suffix.lower() in (".npz", ".pt")
            and _FOLDER in (path.parent.name, path.parent.parent.name)
            and path.is_file()
        )

    def name(self, path: Path) -> str:
        """Name of the file: the sample."""
        return path.stem

    @contextmanager
    def open(self, path: Path, root: Path, encoder: str | None) -> Iterator[Embeddings]:
        """Open it; see :class:`~wsi_anomaly.embeddings.base.Reader`."""
        del encoder
        about = _json(path.with_name(path.stem + _ABOUT))
        base = path.parent if path.parent.name == _FOLDER else path.parent.parent
        tiles, geometry = _coordinates(path, [base.parent / "tiles", root, root / "tiles"])
        features, index = _features(path)
        if index is not None and not np.array_equal(index, np.arange(len(index))):
            if index.dtype.kind not in "iu" or len(np.unique(index)) != len(index):
                raise ValueError("its tile_index names a tile twice")
            order = {int(tile): row for row, tile in enumerate(tiles["tile_index"])}
            tiles = {name: tiles[name][[order[int(i)] for i in index]] for name in ("x", "y")}
        tiling, slide = geometry["tiling"], geometry["slide"]
        width, height = (int(n) for n in slide["dimensions"])
        um = float(tiling["requested_tile_size_px"]) * float(tiling["requested_spacing_um"])
        side = float(about.get("tile_size_lv0") or tiling["tile_size_lv0"])
        yield Embeddings(
            path,
            str(about.get("encoder_name") or "")[:200],
            features,
            np.stack((tiles["x"], tiles["y"]), 1).astype(np.int64),
            side,
            float(tiling.get("step_px_lv0") or side),
            um,
            float(slide["base_spacing_um"]),
            (width, height),
        )


def _coordinates(
    path: Path, places: list[Path]
) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]]:
    for place in places:
        file = place / f"{path.stem}.coordinates.npz"
        if file.is_file():
            found = read_npz(file, ("x", "y", "tile_index"), MOST_FIELDS * 8)
            return found, _json(place / f"{path.stem}.coordinates.meta.json")
    raise EmbeddingsError(
        f"{path} has no coordinates; give slide2vec's whole output folder, with "
        f"tiles/{path.stem}.coordinates.npz in it."
    )


def _features(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    if path.suffix.lower() == ".npz":
        found = read_npz(path, ("features", "tile_index"), _LARGEST)
        return found["features"], found.get("tile_index")
    import torch

    _check_zip(path, _LARGEST)
    # A .pt file is a pickle: in this mode tensors and plain containers exist, and nothing else.
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds more than tensors") from error
    if not isinstance(tensor, torch.Tensor):
        raise TypeError("it holds something other than one tensor")
    if tensor.ndim == 2 and tensor.numel() > MOST_FIELDS * WIDEST:
        raise ValueError("it claims more than a slide has")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ValueError("it claims more numbers than it holds")
    return tensor.detach().float().numpy(), None


def read_npz(path: Path, names: tuple[str, ...], most: int) -> dict[str, NDArray[Any]]:
    """Arrays of a ``.npz``, those that are there; nothing in it is unpickled.

    Raises
    ------
    OSError, ValueError, KeyError
        It is damaged, holds objects, or unpacks to more than `most` bytes.
    """
    _check_zip(path, most * len(names))
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names if name in archive}
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError("it cannot be unpacked") from error


def _check_zip(path: Path, most: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > most:
                raise ValueError("it unpacks to more than a slide's embeddings have")
    except zipfile.BadZipFile as error:
        raise ValueError("it is cut short, or no such file") from error


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise EmbeddingsError(
            f"{path} is missing; give the whole folder that slide2vec has written."
        )
    if path.stat().st_size > _LARGEST_TEXT:
        raise ValueError(f"{path.name} is too large")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no named entries")
    return found

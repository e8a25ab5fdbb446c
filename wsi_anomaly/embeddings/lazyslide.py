"""LazySlide and wsidata: a SpatialData store ``<slide>.zarr``.

``tables/<encoder>_<tiles>`` is an AnnData whose rows are tiles (``instance_key``) of the shapes
(``region``); ``shapes/<tiles>/shapes.parquet`` has their outlines in level-0 pixels; attributes of
the root have ``tile_spec`` and ``slide_properties``. It is read without SpatialData, whose packages
are many: Zarr, and the Parquet file through pyarrow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.core.extras import import_extra
from wsi_anomaly.core.packed import unpacked_bytes
from wsi_anomaly.embeddings.base import LARGEST_PIECE, MOST_FIELDS, Embeddings

_MARK = "spatialdata_attrs"
_LARGEST_TEXT = 1 << 26
_LARGEST_TABLE = 1 << 28


class LazySlide:
    """Reader of SpatialData stores that LazySlide has written."""

    def is_one(self, path: Path) -> bool:
        """Whether it is the folder of a SpatialData store."""
        if path.suffix.lower() != ".zarr" or not path.is_dir():
            return False
        try:
            return _MARK in _attributes(path)
        except (OSError, ValueError):
            return False

    def name(self, path: Path) -> str:
        """Name of the store: LazySlide calls it after the slide."""
        return path.stem

    @contextmanager
    def open(self, path: Path, root: Path, encoder: str | None) -> Iterator[Embeddings]:
        """Open it; see :class:`~wsi_anomaly.embeddings.base.Reader`."""
        del root
        import zarr

        _check_files(path)
        about = _attributes(path)
        specs = about.get("tile_spec") or {}
        store: Any = zarr.open_group(str(path), mode="r", use_consolidated=False)
        found = _tables(store, specs)
        table, tiles, name = _chosen(path, found, encoder)
        spec, slide = specs[tiles], about.get("slide_properties") or {}
        features = _matrix(store[f"tables/{table}/X"], path)
        key = str(store[f"tables/{table}"].attrs["instance_key"])
        ids = _column(store[f"tables/{table}/obs/{key}"], path)
        corners = _corners(path / "shapes" / tiles / "shapes.parquet", ids)
        downsample, side = float(spec.get("base_downsample") or 1), int(spec["width"])
        height, width = (int(n) for n in slide["shape"])
        mpp = slide.get("mpp")
        yield Embeddings(
            path,
            name,
            features,
            corners,
            float(int(side * downsample)),
            float(int(int(spec["stride_width"]) * downsample)),
            side * float(spec["mpp"]) if spec.get("mpp") else None,
            float(mpp) if mpp else None,
            (width, height),
        )


def _attributes(path: Path) -> Mapping[str, Any]:
    """Attributes of the root, in Zarr format 3 or 2."""
    for name in ("zarr.json", ".zattrs"):
        file = path / name
        if file.is_file() and file.stat().st_size <= _LARGEST_TEXT:
            found = json.loads(file.read_text(encoding="utf-8"))
            own = found.get("attributes", {}) if name == "zarr.json" else found
            return own if isinstance(own, dict) else {}
    return {}


def _check_files(path: Path) -> None:
    """Refuse links that lead elsewhere, pipes and devices."""
    for entry in path.rglob("*"):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise ValueError(f"{entry.name} is neither a file nor a folder of it")


def _tables(store: Any, specs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Tables of embeddings of tiles: name, tiles, encoder."""
    found = []
    for name in sorted(store["tables"]) if "tables" in store else ():
        attributes = dict(store[f"tables/{name}"].attrs)
        tiles = attributes.get("region")
        tiles = tiles[0] if isinstance(tiles, list) and len(tiles) == 1 else tiles
        if isinstance(tiles, str) and tiles in specs and f"tables/{name}/X" in store:
            found.append((name, tiles, name.removesuffix(f"_{tiles}")))
    return found


def _chosen(
    path: Path, found: list[tuple[str, str, str]], encoder: str | None
) -> tuple[str, str, str]:
    fitting = [entry for entry in found if encoder in (None, entry[2])] or found
    if not found:
        raise EmbeddingsError(
            f"{path} holds no embeddings of tiles; run LazySlide's feature_extraction first."
        )
    if len(fitting) > 1:
        raise EmbeddingsError(
            f"{path} holds embeddings of {' and '.join(entry[2] for entry in fitting)}; say which "
            "with train --features NAME."
        )
    return fitting[0]


def _matrix(array: Any, store: Path) -> Any:
    """Check an array: dense, stored plainly, in pieces that unpack to what the array claims."""
    if not hasattr(array, "chunks"):
        raise TypeError("its embeddings are stored as a sparse matrix")
    piece_bytes = math.prod(array.chunks) * array.dtype.itemsize
    if piece_bytes > LARGEST_PIECE or getattr(array, "shards", None):
        raise ValueError(f"{array.path} claims pieces of {array.chunks}")
    packed = [_codec(compressor) for compressor in array.compressors] or ["none"]
    if len(packed) > 1 or array.filters:
        raise ValueError(f"{array.path} is packed by {' and '.join(packed)}")
    for piece in (store / array.path).rglob("[!.]*"):
        if (
            piece.is_file()
            and piece.name != "zarr.json"
            and (unpacked_bytes(piece, packed[0]) != piece_bytes)
        ):
            raise ValueError(f"{piece.name} of {array.path} has another size than it should")
    return array


def _codec(compressor: Any) -> str:
    named = getattr(compressor, "codec_id", None)  # of Zarr format 2
    return str(named or compressor.to_dict()["name"])


def _column(array: Any, store: Path) -> NDArray[Any]:
    if array.ndim != 1 or array.shape[0] > MOST_FIELDS or array.dtype.kind not in "iu":
        raise ValueError("its tiles have no numbers")
    return np.asarray(_matrix(array, store)[...])


def _corners(path: Path, ids: NDArray[Any]) -> NDArray[np.int64]:
    """Top left corners (N, 2) of the tiles with these numbers (N,)."""
    import shapely

    parquet = import_extra("pyarrow.parquet", "export", "Reading LazySlide's files")
    facts = parquet.ParquetFile(path)
    groups = [facts.metadata.row_group(i) for i in range(facts.metadata.num_row_groups)]
    if facts.metadata.num_rows > MOST_FIELDS or (
        sum(group.total_byte_size for group in groups) > _LARGEST_TABLE
    ):
        raise ValueError(f"{path.name} claims more than a slide has")
    has_ids = "tile_id" in facts.schema_arrow.names
    table = facts.read(["geometry", *(["tile_id"] if has_ids else [])])
    outlines = shapely.from_wkb(table["geometry"].to_numpy(), on_invalid="ignore")
    low = shapely.bounds(outlines)[:, :2]
    names = np.asarray(table["tile_id"]) if has_ids else np.arange(len(low))
    order = np.argsort(names, kind="stable")
    at = np.searchsorted(names, ids, sorter=order).clip(max=len(names) - 1)
    if not len(names) or not np.array_equal(names[order[at]], ids):
        raise ValueError("its embeddings are of tiles that it does not have")
    if not np.isfinite(low).all():
        raise ValueError("its tiles have no outlines")
    found: NDArray[np.int64] = np.floor(low[order[at]] + 0.5).astype(np.int64)
    return found

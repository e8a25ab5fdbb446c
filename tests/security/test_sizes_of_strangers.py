"""What a file of a stranger claims or unpacks to cannot eat the machine."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch

from wsi_anomaly.annotations import read_geojson
from wsi_anomaly.annotations.masks import read_mask
from wsi_anomaly.core.errors import (
    AnnotationError,
    ModelError,
    TileStoreError,
    UsageError,
)
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.detectors import Model
from wsi_anomaly.features.weights import read_weights
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.training.config import load_config

# -- size ----------------------------------------------------------------------------------------

DEEP = "[" * 200_000


@pytest.fixture(scope="module")
def tile_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("tiles")
    make_slide(folder / "s.tif", seed=1, size_px=(256, 256), mpp=1.0)
    config = TileConfig(magnifications=(10,), tile_size=16, max_tiles=3, stain="none")
    return tile_slide(folder / "s.tif", folder, config).path.read_bytes()


def test_json_that_is_nested_without_end(tmp_path: Path, tile_file: bytes) -> None:
    for name in ("summary.json", "model.json", "c.json", "c.geojson"):
        (tmp_path / name).write_text(DEEP)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "c.toml").write_text("a = " + DEEP)
    assert read_summary(tmp_path) is None
    with pytest.raises(ModelError):
        Model.load(tmp_path)
    for name in ("c.json", "c.toml"):
        with pytest.raises(UsageError):
            load_config(str(tmp_path / name))
    with pytest.raises(AnnotationError):
        read_geojson(tmp_path / "c.geojson")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "d.safetensors", metadata={"json": DEEP})
    with pytest.raises(ModelError):
        load_tensors(tmp_path / "d.safetensors")


def changed(tmp_path: Path, tile_file: bytes) -> Path:
    path = tmp_path / "t.h5"
    path.write_bytes(tile_file)
    return path


@pytest.mark.parametrize("name", ["coords", "status", "tissue_fraction"])
def test_a_tile_file_that_claims_terabytes(tmp_path: Path, tile_file: bytes, name: str) -> None:
    path = changed(tmp_path, tile_file)
    with h5py.File(path, "r+") as file:
        kind, shape = file[name].dtype, (1 << 38, *file[name].shape[1:])
        del file[name]
        file.create_dataset(name, shape, kind, chunks=(1 << 16, *shape[1:]))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(TileStoreError, match="claims more than the file holds"):
        TileStore.open(path)


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual"])
def test_a_tile_file_that_points_elsewhere(tmp_path: Path, tile_file: bytes, how: str) -> None:
    path, other = changed(tmp_path, tile_file), tmp_path / "secret.h5"
    other.write_bytes(tile_file)
    with h5py.File(path, "r+") as file:
        shape, kind = file["coords"].shape, file["coords"].dtype
        del file["coords"]
        if how == "external link":
            file["coords"] = h5py.ExternalLink(str(other), "coords")
        elif how == "soft link":
            file["coords"] = h5py.SoftLink("/row")
        elif how == "external storage":
            file.create_dataset("coords", shape, kind, external=[(str(other), 0, 1 << 20)])
        else:
            layout = h5py.VirtualLayout(shape, kind)
            layout[:] = h5py.VirtualSource(str(other), "coords", shape)
            file.create_virtual_dataset("coords", layout)
    with pytest.raises(TileStoreError, match="another file"):
        TileStore.open(path)


def test_a_tile_file_from_which_hdf5_never_comes_back(tmp_path: Path, tile_file: bytes) -> None:
    """Found by fuzzing: free space without a size, which the library reads for ever."""
    data = bytearray(tile_file)
    place = data.index(b"GCOL") + 16
    while (number := int.from_bytes(data[place : place + 2], "little")) > 0:
        size = int.from_bytes(data[place + 8 : place + 16], "little")
        place += 16 + -(-size // 8) * 8
    assert number == 0
    data[place + 8 : place + 16] = bytes(8)
    path = tmp_path / "t.h5"
    path.write_bytes(data)
    script = "import sys; from wsi_anomaly.tiles import TileStore; TileStore.open(sys.argv[1])"
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "a heap of its texts is broken" in ran.stderr


def test_weights_that_unpack_to_terabytes(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 32,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(1000))
    # The directory at the end claims what a bomb would hold.
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xFFFFFFFE).to_bytes(4, "little")
    path.write_bytes(data)
    from wsi_anomaly.features import weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_LARGEST_BYTES", 1 << 31)
        with pytest.raises(ModelError):
            read_weights(path)


def test_a_geojson_that_unpacks_to_more_than_is_read(tmp_path: Path) -> None:
    from wsi_anomaly.annotations import qupath

    path = tmp_path / "bomb.geojson.gz"
    path.write_bytes(gzip.compress(b" " * 20_000_000))
    assert path.stat().st_size < 100_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qupath, "_LARGEST_BYTES", 10_000_000)
        with pytest.raises(AnnotationError, match="holds more than"):
            read_geojson(path)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + kind + content
            + zlib.crc32(kind + content).to_bytes(4, "big")
        )  # fmt: skip

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [16_000, 60_000, 2_000_000_000])
def test_a_mask_of_impossible_size(tmp_path: Path, side: int) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(AnnotationError):
        read_mask(path)


def test_a_tiff_mask_of_impossible_size(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(60_000)
    with pytest.raises(AnnotationError):
        read_mask(path)

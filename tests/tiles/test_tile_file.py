"""A tile file holds exactly the pixels of its fields, and anybody can read it."""

from __future__ import annotations

import json
import shutil
from itertools import repeat
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from imagecodecs import jpeg_encode
from tile_fakes import on_glass, stained_picture, write_slide

from wsi_anomaly.core.errors import TileStoreError, UsageError
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.slides.tiff_backend import TiffSlide
from wsi_anomaly.tiles import (
    Preprocessing,
    TileConfig,
    TileSet,
    TileStore,
    find_tile_files,
    plan_fields,
    read_fields,
    tile_slide,
)
from wsi_anomaly.tiles.jobs import Job

CONFIG = TileConfig(magnifications=(10, 20), max_tiles=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of two slides, 20x and 10x."""
    folder = tmp_path_factory.mktemp("store")
    for k in range(2):
        slide = write_slide(folder / f"s{k}.tif", on_glass(seed=k))
        tile_slide(Job(slide, case=f"animal {k}"), folder / "tiles", CONFIG)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> TileStore:
    return TileStore.open(folder / "tiles" / "s0.h5")


def test_magnifications_share_what_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As wide as the strips in which fields are read, and nothing coarser than 40x."""
    block = jpeg_encode(np.ascontiguousarray(stained_picture(512, 512)), 80)
    slide = tmp_path / "wide.tif"
    tifffile.imwrite(
        slide, repeat(block, 34 * 4), shape=(2048, 34 * 512, 3), dtype=np.uint8, tile=(512, 512),
        photometric="rgb", compression="jpeg", metadata=None, resolution=(4e4, 4e4),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    decoded: list[object] = []
    decode = TiffSlide._decode
    monkeypatch.setattr(
        TiffSlide, "_decode", lambda self, *place: decoded.append(place) or decode(self, *place)
    )
    counts = []
    for magnifications in ((10,), (10, 20, 40)):
        decoded.clear()
        config = TileConfig(magnifications=magnifications, max_tiles=None, stain="none")
        tile_slide(slide, tmp_path / "wide", config, resume=False)
        counts.append(len(decoded))
    assert counts[1] < 1.1 * counts[0]


def test_it_holds_the_pixels_that_scoring_would_read(folder: Path, store: TileStore) -> None:
    with open_slide(folder / "s0.tif") as slide:
        tissue = find_tissue(slide)
        fields = plan_fields(slide, tissue, field_um=64, max_tiles=40)
        preprocess = Preprocessing.from_dict(
            json.loads(json.dumps(store.preprocessing.to_dict()))
        ).for_slide(slide, tissue)
        np.testing.assert_array_equal(store.coords, fields.coords)
        assert store.stain == preprocess.stain
        for power in (10, 20):
            side = 64 * power // 10
            for indices, images, status in read_fields(
                slide, fields, magnification=power, tile_size=side, preprocess=preprocess
            ):
                np.testing.assert_array_equal(store.images(power, indices), images)
                np.testing.assert_array_equal(store.status[indices], status)


def test_it_says_where_it_comes_from(folder: Path, store: TileStore) -> None:
    assert store.slide_path == (folder / "s0.tif").resolve()
    assert (store.slide_name, store.case) == ("s0", "animal 0")
    assert store.slide_size == (1280, 1024)
    assert (store.mpp.x, store.mpp.y) == (0.5, 0.5)
    assert store.bounds == (0, 0, 1280, 1024)
    assert store.config_hash == CONFIG.hash
    assert TileConfig.from_dict(store.config) == CONFIG
    assert store.magnifications == (10, 20)
    assert (store.tile_side(10), store.tile_side(20)) == (64, 128)
    assert store.label is None


def test_h5py_alone_reads_it(store: TileStore) -> None:
    with h5py.File(store.path, "r") as file:
        assert file["10x/images"].shape == (len(store), 64, 64, 3)
        assert file["20x/images"].shape == (len(store), 128, 128, 3)
        np.testing.assert_array_equal(file["10x/images"][:], store.images(10, slice(None)))
        assert file["coords"].dtype == np.int64
        assert file["status"].shape == file["tissue_fraction"].shape == (len(store),)
        assert file["20x"].attrs["mpp"] == 0.5
        assert np.array(file.attrs["stain_matrix"]).shape == (2, 3)
        assert json.loads(file.attrs["config"])["tile_size"] == 64


def test_a_reader_made_for_trident_reads_it(store: TileStore) -> None:
    """What TRIDENT's and CLAM's loaders do with a file of coordinates."""
    with h5py.File(store.path, "r") as file:
        attributes = dict(file["coords"].attrs)
        coords = file["coords"][:]
    for name in (
        "patch_size", "patch_size_level0", "level0_magnification", "target_magnification",
        "overlap", "name", "savetodir", "level0_width", "level0_height",
    ):  # fmt: skip
        assert name in attributes
    assert "patch_level" not in attributes  # it means different things in different tools
    downsample = attributes["level0_magnification"] / attributes["target_magnification"]
    assert attributes["patch_size"] * downsample == attributes["patch_size_level0"] == 128
    assert (coords + attributes["patch_size_level0"] <= (1280, 1024)).all()
    assert attributes["overlap"] == 0


def test_a_picture_of_the_fields_lies_beside_it(store: TileStore) -> None:
    from PIL import Image

    with Image.open(store.path.with_suffix(".png")) as picture:
        assert picture.size[0] == 1000
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    field_edge = np.abs(colours - (0, 114, 178)).max(1) < 12
    assert 1000 < field_edge.sum() < 100_000


@pytest.fixture
def tiles(folder: Path) -> TileSet:
    files = find_tile_files([folder / "tiles"])
    return TileSet([TileStore.open(file) for file in files], 10)


def test_batches_in_any_order_are_exact(tiles: TileSet) -> None:
    everything = np.concatenate([store.images(10, slice(None)) for store in tiles.stores])
    rng = np.random.default_rng(0)
    for _ in range(5):
        indices = rng.integers(0, len(tiles), 33)
        np.testing.assert_array_equal(tiles.batch(indices), everything[indices])
    np.testing.assert_array_equal(tiles.all(), everything)
    assert tiles.nbytes == everything.nbytes
    assert tiles.cases == ["animal 0"] * 40 + ["animal 1"] * 40


def test_smaller_tiles_are_cut_from_the_middle_or_where_asked(tiles: TileSet) -> None:
    small = TileSet(tiles.stores, 10, tile_size=48)
    np.testing.assert_array_equal(small.batch([5, 50]), tiles.batch([5, 50])[:, 8:56, 8:56])
    cut = small.cut([5, 50], np.array([[0, 16], [3, 1]]))
    np.testing.assert_array_equal(cut[0], tiles.batch([5])[0, :48, 16:])
    np.testing.assert_array_equal(cut[1], tiles.batch([50])[0, 3:51, 1:49])


def test_tiles_that_do_not_fit_together_are_refused(tiles: TileSet, tmp_path: Path) -> None:
    other = tile_slide(
        write_slide(tmp_path / "o.tif"), tmp_path, TileConfig(stain="macenko", max_tiles=5)
    )
    smaller = tile_slide(
        Job(tmp_path / "o.tif", "small"), tmp_path, TileConfig(tile_size=32, max_tiles=5)
    )
    with pytest.raises(TileStoreError, match="different stain options"):
        TileSet([*tiles.stores, TileStore.open(other.path)], 10)
    with pytest.raises(TileStoreError, match="--tile-size"):
        TileSet([*tiles.stores, TileStore.open(smaller.path)], 10)
    with pytest.raises(TileStoreError, match="larger --tile-size"):
        TileSet(tiles.stores, 10, tile_size=96)
    with pytest.raises(TileStoreError, match="no 40x tiles, only 10x, 20x"):
        TileSet(tiles.stores, 40)
    with pytest.raises(TileStoreError, match="no tiles"):
        TileSet([], 10)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.98])
def test_a_cut_file_is_damaged(store: TileStore, tmp_path: Path, share: float) -> None:
    data = store.path.read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(TileStoreError, match="damaged"):
        TileStore.open(cut)


def test_other_files_are_no_tile_files(store: TileStore, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(TileStoreError, match="no tile file"):
        TileStore.open(tmp_path / "foreign.h5")
    with pytest.raises(TileStoreError, match="does not exist"):
        TileStore.open(tmp_path / "none.h5")
    for change, said in (
        (lambda file: file.attrs.modify("version", 99), "another version"),
        (lambda file: file.__delitem__("status"), "damaged"),
        (lambda file: file.attrs.__delitem__("case"), "damaged"),
        (lambda file: file.attrs.modify("stain_maxima", [0.0, 1.0]), "damaged"),
        (lambda file: file.attrs.modify("config", "{"), "damaged"),
    ):
        copy = Path(shutil.copy(store.path, tmp_path / "copy.h5"))
        with h5py.File(copy, "r+") as file:
            change(file)
        with pytest.raises(TileStoreError, match=said):
            TileStore.open(copy)


def test_find_tile_files(folder: Path, tmp_path: Path) -> None:
    (folder / "tiles" / ".half.h5.1.partial").touch()
    found = find_tile_files([folder, folder / "tiles" / "s0.h5"])
    assert [file.name for file in found] == ["s0.h5", "s1.h5"]
    with pytest.raises(UsageError, match="does not exist"):
        find_tile_files([tmp_path / "none"])
    with pytest.raises(UsageError, match="No tile file"):
        find_tile_files([tmp_path])

"""``tile --compression jpeg``: a fraction of the room, read as every other tile file is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.detectors import Model
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, TileSet, TileStore, tile_slide
from wsi_anomaly.tiles.config import FORMAT_VERSION, WITH_JPEG

KINDS = ("lossless", "jpeg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide, and its tiles as they are and as JPEG."""
    folder = tmp_path_factory.mktemp("jpeg")
    make_slide(folder / "s.tif", seed=3, size_px=(1600, 1600), mpp=0.5)
    for kind in KINDS:
        config = TileConfig((10, 20), max_tiles=60, compression=kind)
        tile_slide(folder / "s.tif", folder / kind, config)
    return folder


@pytest.fixture(scope="module")
def stores(folder: Path) -> list[TileStore]:
    return [TileStore.open(folder / kind / "s.h5") for kind in KINDS]


def test_pixels_are_nearly_the_same_in_a_fraction_of_the_room(stores: list[TileStore]) -> None:
    exact, near = stores
    assert near.path.stat().st_size < exact.path.stat().st_size / 3
    np.testing.assert_array_equal(near.coords, exact.coords)
    np.testing.assert_array_equal(near.status, exact.status)
    for magnification in (10, 20):
        assert near.tile_side(magnification) == exact.tile_side(magnification)
        here, there = (store.images(magnification, slice(None)) for store in (near, exact))
        assert here.shape == there.shape
        assert np.abs(here.astype(int) - there).mean() < 2.5
        planes = [store.plane(magnification) for store in stores]
        assert planes[0] is not None
        assert planes[1] is not None
        rows, columns = (range(-(-n // 256)) for n in (planes[0][0].height, planes[0][0].width))
        for place in [(row, column) for row in rows for column in columns]:
            there, here = (stored[0].chunk(*place) for stored in planes if stored is not None)
            assert here.shape == there.shape
            assert np.abs(here.astype(int) - there).mean() < 2.5


def test_batches_are_those_of_single_tiles(stores: list[TileStore]) -> None:
    tiles = TileSet([stores[1]], 10, tile_size=48)
    order = np.random.default_rng(0).permutation(len(tiles))[:7]
    whole = stores[1].images(10, tiles.index[order])
    np.testing.assert_array_equal(tiles.batch(order), whole[:, 8:-8, 8:-8])
    np.testing.assert_array_equal(stores[1].images(10, [5, 2])[1], stores[1].images(10, [2])[0])


def test_the_same_slide_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    config = TileConfig((10, 20), max_tiles=60, compression="jpeg")
    (tmp_path / "jpeg").mkdir()
    again = tile_slide(folder / "s.tif", tmp_path / "jpeg", config).path
    first, second = (TileStore.open(path) for path in (folder / "jpeg" / "s.h5", again))
    np.testing.assert_array_equal(first.images(20, slice(None)), second.images(20, slice(None)))
    assert first.config_hash == second.config_hash


def test_files_as_they_were_are_kept_and_the_others_say_so(stores: list[TileStore]) -> None:
    """A program of before refuses what it cannot read."""
    assert "compression" not in stores[0].config
    assert stores[1].config["compression"] == "jpeg"
    versions = []
    for store in stores:
        with h5py.File(store.path) as file:
            versions.append(int(file.attrs["version"]))
    assert versions == [FORMAT_VERSION, WITH_JPEG]


def test_they_are_learned_from_and_shown(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slides").mkdir()
    for seed in range(4):
        make_slide(Path(f"slides/n{seed}.tif"), seed=seed, size_px=(1200, 1200), mpp=0.5)
    Path("c.toml").write_text('density_estimator = "knn"\ndensity_fields_um = [64, 128]\n')
    assert main(["tile", "slides", "-o", "tiles", "--compression", "jpeg", "-q"]) == 0
    assert main(["preview", "tiles/n0.h5", "-o", "sheet.png"]) == 0
    command = [
        "train",
        "tiles",
        "-o",
        "model",
        "--detector",
        "density",
        "--features",
        "compact",
        "--config",
        "c.toml",
        "-q",
    ]
    assert main(command) == 0
    model = Model.load("model")
    assert model.examples is not None
    assert all(model.examples.pictures)


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        values, attributes = change(file[name][:]), dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(attributes)

    return apply


def side(value: int) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        file["10x/images_jpeg"].attrs["side"] = value

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("10x/images_jpeg", np.zeros_like), "picture 0 of 10x/images: it is no JPEG"),
        (changed("10x/images_jpeg_at", lambda at: at // (1, 2)), "picture 0 of 10x/images: it is"),
        (changed("10x/images_jpeg_at", lambda at: at[::-1] * 0 + 1), "is damaged (picture 0"),
        (side(32), "it claims more pixels than its place has"),
        (side(128), "it has another size than it should"),
        (side(1 << 20), "10x/images is not as it should be"),
        (changed("10x/images_jpeg_at", lambda at: at + (1 << 40)), "10x/images is not as"),
        (changed("10x/images_jpeg_at", lambda at: -at), "10x/images is not as it should be"),
        (changed("10x/images_jpeg_at", lambda at: at[1:]), "10x/images is not as it should be"),
        (changed("10x/images_jpeg", lambda data: data[:100]), "10x/images is not as it should be"),
        (changed("10x/chunks_jpeg_at", lambda at: at[1:]), "10x/chunks is not as it should be"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(
    stores: list[TileStore], tmp_path: Path, change: Callable[[h5py.File], None], said: str
) -> None:
    path = shutil.copy(stores[1].path, tmp_path / "bad.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(TileStoreError) as caught:
        TileStore.open(path).images(10, slice(None))
    sentence = str(caught.value)
    assert said in sentence
    assert sentence.startswith(f"{path} is damaged (")
    assert sentence.endswith("delete it and run tile again.")
    assert "\n" not in sentence


def test_what_was_asked_for_otherwise_is_made_anew(folder: Path, tmp_path: Path) -> None:
    for name in ("lossless", "jpeg"):
        config = TileConfig((10,), max_tiles=10, compression=name)
        result = tile_slide(folder / "s.tif", tmp_path, config)
        assert not result.skipped
        assert tile_slide(folder / "s.tif", tmp_path, config).skipped
    assert result.notes == ("redone: the configuration has changed",)
    assert json.loads(json.dumps(TileStore.open(tmp_path / "s.h5").config)) == config.to_dict()

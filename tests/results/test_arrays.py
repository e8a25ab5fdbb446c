"""The score map as data: what napari, QuPath and a plain zarr or tifffile user find."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from score_map_fakes import fake_calibration, fake_score_map

from wsi_anomaly.results.arrays import pyramid, write_ome_tiff, write_zarr
from wsi_anomaly.tiles import Status

CALIBRATION = fake_calibration()
OME = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}


@pytest.fixture(scope="module")
def score_map():
    return fake_score_map(1, shape=(300, 170), origin=(1000, 400), calibration=CALIBRATION)


@pytest.fixture(scope="module")
def group(score_map, tmp_path_factory):
    path = tmp_path_factory.mktemp("zarr") / "scores.zarr"
    write_zarr(path, score_map)
    return zarr.open_group(str(path), mode="r")


def check_ngff_0_4(group) -> None:
    """The rules of the 0.4 specification for multiscales, one a line."""
    (multiscales,) = group.attrs["multiscales"]
    assert multiscales["version"] == "0.4"
    names = [axis["name"] for axis in multiscales["axes"]]
    assert len(set(names)) == len(names) == 2
    assert all(axis["type"] == "space" for axis in multiscales["axes"])
    assert all(axis["unit"] == "micrometer" for axis in multiscales["axes"])
    sizes = []
    for dataset in multiscales["datasets"]:
        scale, *rest = dataset["coordinateTransformations"]
        assert scale["type"] == "scale"
        assert len(scale["scale"]) == len(names)
        assert len(rest) <= 1
        for translation in rest:
            assert translation["type"] == "translation"
            assert len(translation["translation"]) == len(names)
        array = group[dataset["path"]]
        assert array.ndim == len(names)
        sizes.append(array.shape)
    assert sizes == sorted(sizes, reverse=True), "highest resolution first"


def test_the_group_is_zarr_2_and_ngff_0_4(group):
    assert group.metadata.zarr_format == 2
    check_ngff_0_4(group)


def test_the_map_holds_raw_scores_and_nan_where_nothing_was_assessed(group, score_map):
    full = group["0"][...]
    assert full.shape == score_map.fields.grid_shape
    rows, cols = score_map.fields.row, score_map.fields.col
    np.testing.assert_array_equal(full[rows, cols], score_map.score)
    assert np.isfinite(full).sum() == score_map.assessed.sum()


def test_a_pixel_of_every_level_lies_where_its_fields_lie(group, score_map):
    """The centre of a level's pixel is the mean of the centres of the fields it covers."""
    f, mpp = score_map.fields, score_map.slide.mpp.x
    for dataset in group.attrs["multiscales"][0]["datasets"]:
        scale, translation = dataset["coordinateTransformations"]
        size = 2 ** int(dataset["path"])
        position = np.array(scale["scale"]) * (3, 5) + translation["translation"]
        row, col = (np.arange(k * size, (k + 1) * size).mean() for k in (3, 5))
        y = (f.origin[1] + row * f.stride_level0[1] + f.field_level0[1] / 2) * mpp
        x = (f.origin[0] + col * f.stride_level0[0] + f.field_level0[0] / 2) * mpp
        np.testing.assert_allclose(position, (y, x), rtol=1e-9)


def test_the_table_has_every_field_with_its_scores_and_their_meaning(group, score_map):
    tiles, found = group["tiles"], score_map.interpretation
    np.testing.assert_array_equal(tiles["coords"][...], score_map.fields.coords)
    np.testing.assert_array_equal(tiles["scores/dpa"][...], score_map.scores["dpa"])
    np.testing.assert_array_equal(tiles["scores/density"][...], score_map.scores["density"])
    for name in ("percentile", "z", "p_value", "smoothed"):
        np.testing.assert_array_equal(tiles[name][...], getattr(found, name))
    names = tiles.attrs["status_names"]
    failed = tiles["status"][...] != names["ok"]
    assert failed.any()
    assert np.isnan(tiles["scores/dpa"][...][failed]).all()
    assert set(names) == {s.name.lower() for s in Status}


def test_without_calibration_nothing_is_made_up(tmp_path):
    write_zarr(tmp_path / "s.zarr", fake_score_map(0))
    tiles = zarr.open_group(str(tmp_path / "s.zarr"), mode="r")["tiles"]
    assert not {"percentile", "z", "p_value"} & set(tiles)


@given(
    rows=st.integers(1, 300), cols=st.integers(1, 300), seed=st.integers(0, 99),
    known=st.sampled_from([0.0, 0.4, 1.0]),
)  # fmt: skip
@settings(max_examples=25)
def test_the_pyramid_keeps_the_mean_and_invents_nothing(rows, cols, seed, known):
    rng = np.random.default_rng(seed)
    grid = rng.normal(size=(rows, cols)).astype(np.float32)
    grid[rng.random(grid.shape) >= known] = np.nan
    levels = pyramid(grid)
    assert max(levels[-1].shape) <= 128
    for level in levels:
        assert np.isfinite(level).any() == np.isfinite(grid).any()
        if np.isfinite(grid).any():
            assert np.nanmin(level) >= np.nanmin(grid) - 1e-6
            assert np.nanmax(level) <= np.nanmax(grid) + 1e-6
    for fine, coarse in pairwise(levels):
        assert coarse.shape == tuple((n + 1) // 2 for n in fine.shape)


def test_the_ome_tiff_holds_the_values_their_size_and_a_pyramid(tmp_path, score_map):
    path = tmp_path / "heatmap.ome.tif"
    write_ome_tiff(path, score_map)
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        assert tif.is_ome
        assert series.dtype == np.float32
        assert len(series.levels) == len(pyramid(score_map.grid(score_map.score)))
        np.testing.assert_array_equal(series.asarray(), score_map.grid(score_map.score))
        pixels = ET.fromstring(tif.ome_metadata).find("o:Image/o:Pixels", OME)
        assert float(pixels.get("PhysicalSizeX")) == pytest.approx(64.0)
        assert pixels.get("PhysicalSizeXUnit") == "µm"
        plane = pixels.find("o:Plane", OME)
        # The first pixel lies in the middle of the first field: (1000 + 64) px of 0.5 um.
        assert float(plane.get("PositionX")) == pytest.approx(532.0)
        assert float(plane.get("PositionY")) == pytest.approx(232.0)

"""Planes: a slide as one picture, the same from the slide and from its tile file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_fakes import ArraySlide, on_glass, write_slide

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Status, TileConfig, TileStore, plan_fields, tile_slide
from wsi_anomaly.tiles.plane import CHUNK_PX, SlidePlane
from wsi_anomaly.tiles.plane_file import CHUNK_BYTES, REACH_CHUNKS, plan_chunks


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(
        tmp_path_factory.mktemp("plane") / "s.tif", on_glass((2000, 2600), (200, 200, 1800, 2400))
    )


@pytest.fixture(scope="module")
def store(slide_file: Path) -> TileStore:
    result = tile_slide(slide_file, slide_file.parent, TileConfig(max_tiles=5))
    return TileStore.open(result.path)


def test_a_tile_file_has_the_slides_own_pixels(slide_file: Path, store: TileStore) -> None:
    stored, cells = store.plane(10)
    with open_slide(slide_file) as slide:
        tissue = find_tissue(slide)
        plane = SlidePlane(slide, tissue, 10, store.preprocessing.for_slide(slide, tissue))
        assert (stored.width, stored.height) == (plane.width, plane.height) == (1300, 1000)
        np.testing.assert_array_equal(stored.read(0, 0, 1300, 1000), plane.read(0, 0, 1300, 1000))
        np.testing.assert_array_equal(stored.status, plane.status)
        np.testing.assert_array_equal(stored.tissue_mask(32), plane.tissue_mask(32))
    # More cells than the five tiles: all with enough tissue.
    assert len(cells) > 100


@settings(max_examples=25, deadline=None)
@given(
    x=st.integers(0, 1299), y=st.integers(0, 999), width=st.integers(1, 700),
    height=st.integers(1, 700),
)  # fmt: skip
def test_any_rectangle_is_cut_from_the_whole(store: TileStore, x, y, width, height) -> None:
    plane, _ = store.plane(10)
    width, height = min(width, plane.width - x), min(height, plane.height - y)
    whole = plane.read(0, 0, plane.width, plane.height)
    np.testing.assert_array_equal(
        plane.read(x, y, width, height), whole[y : y + height, x : x + width]
    )


def test_what_is_damaged_is_failed_and_its_neighbours_are_not() -> None:
    image = on_glass((1024, 1280))
    slide = ArraySlide(image, mpp=(1.0, 1.0), damaged=(400, 400, 10, 10))
    tissue = find_tissue(ArraySlide(image, mpp=(1.0, 1.0)))
    plane = SlidePlane(slide, tissue, 10)
    plane.read(0, 0, plane.width, plane.height)
    assert plane.status[400 // 64, 400 // 64] == Status.FAILED
    assert (plane.status == Status.FAILED).sum() == 1
    fields = plan_fields(slide, tissue, field_um=64.0)
    status = plane.status_of(fields)
    assert status[(fields.row == 6) & (fields.col == 6)] == Status.FAILED
    assert (status == Status.FAILED).sum() == 1


def test_blurred_squares_are_said() -> None:
    from scipy.ndimage import gaussian_filter

    image = on_glass((1024, 1280))
    image[:512] = gaussian_filter(image[:512], (8, 8, 0))
    slide = ArraySlide(image, mpp=(1.0, 1.0))
    tissue = find_tissue(slide)
    plane = SlidePlane(slide, tissue, 10)
    plane.read(0, 0, plane.width, plane.height)
    fields = plan_fields(slide, tissue, field_um=64.0)
    status = plane.status_of(fields)
    assert (status[fields.row < 7] == Status.BLURRED).mean() > 0.9
    assert (status[fields.row > 8] == Status.OK).all()


@settings(max_examples=5, deadline=None)
@given(room=st.integers(1, 80), seed=st.integers(0, 5))
def test_chunks_keep_within_their_room_and_bring_their_surroundings(room, seed) -> None:
    slide = ArraySlide(on_glass((3000, 5200), (100, 100, 2900, 5000)), mpp=(1.0, 1.0))
    tissue = find_tissue(slide)
    plane = SlidePlane(slide, tissue, 10)
    cells = plan_fields(slide, tissue, field_um=64.0)
    plan = plan_chunks(plane, cells, room * CHUNK_BYTES, seed)
    assert plan.learned.any()
    window = (8 + 2 * REACH_CHUNKS) ** 2
    assert len(plan) <= max(room, window)
    places = {tuple(p) for p in plan.places.tolist()}
    rows, columns = -(-plane.height // CHUNK_PX), -(-plane.width // CHUNK_PX)
    for row, column in plan.places[plan.learned].tolist():
        for r in range(max(0, row - REACH_CHUNKS), min(rows, row + REACH_CHUNKS + 1)):
            for c in range(max(0, column - REACH_CHUNKS), min(columns, column + REACH_CHUNKS + 1)):
                assert (r, c) in places


def test_stains_fitted_by_tile_have_no_plane(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "s.tif")
    result = tile_slide(slide, tmp_path, TileConfig(max_tiles=3, per_tile=True))
    assert TileStore.open(result.path).plane(10) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("cells", [[9999, 0]]), ("cells", [[-1, 0]]), ("chunk_places", [[0, 0]])],
)
def test_a_plane_that_contradicts_itself_is_refused(
    slide_file: Path, store: TileStore, tmp_path: Path, name: str, value: list
) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes(store.path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[f"10x/{name}"]
        file[f"10x/{name}"] = np.array(value, np.int32)
    with pytest.raises(TileStoreError, match=r"plane of 10x|10x/chunks is not"):
        TileStore.open(path)

"""Tiles cut from annotations and from somebody's tissue mask, and the files that say so."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely
from outline_files import write_asap, write_mask
from PIL import Image
from tile_fakes import write_slide

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.tiles.jobs import Job

TUMOUR = Outline("Tumour", shapely.box(256, 256, 640, 640))
NECROSIS = Outline("Necrosis", shapely.box(640, 256, 900, 520))
NAMELESS = Outline("", shapely.box(256, 256, 640, 640))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("annotated") / "a.tif")


def cut(slide: Path, out: Path, file: Path, *labels: str) -> TileStore:
    return TileStore.open(
        tile_slide(Job(slide, annotations=file), out, TileConfig(labels=labels)).path
    )


def test_one_class_of_several(slide: Path, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [TUMOUR, NECROSIS, NAMELESS], "a")
    store = cut(slide, tmp_path, tmp_path / "a.geojson", "Tumour")
    assert store.label is not None
    assert set(store.label) == {"Tumour"}
    assert set(map(tuple, store.coords.tolist())) == {
        (x, y) for x in (256, 384, 512) for y in (256, 384, 512)
    }
    with h5py.File(store.path) as file:  # for readers that have h5py alone
        assert file["label"].asstr()[:].tolist() == ["Tumour"] * 9
        assert file.attrs["labels"].tolist() == ["Tumour"]


def test_all_classes_when_none_is_named(slide: Path, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [TUMOUR, NECROSIS, NAMELESS], "a")
    store = cut(slide, tmp_path, tmp_path / "a.geojson")
    assert store.label is not None
    assert set(store.label) == {"Tumour", "Necrosis"}


def test_other_formats_give_the_same_fields(slide: Path, tmp_path: Path) -> None:
    for name in ("qupath", "asap", "mask"):
        (tmp_path / name).mkdir()
    write_geojson(tmp_path / "qupath" / "a.geojson", [TUMOUR], "a")
    write_asap(tmp_path / "asap" / "a.xml", [TUMOUR])
    write_mask(tmp_path / "mask" / "a.png", [TUMOUR], (1280, 1024), downsample=8)
    expected = cut(slide, tmp_path / "qupath", tmp_path / "qupath", "Tumour")
    for name in ("asap", "mask"):
        store = cut(slide, tmp_path / name, tmp_path / name, "Tumour")
        np.testing.assert_array_equal(store.coords, expected.coords)
        np.testing.assert_array_equal(store.label, expected.label)


def test_annotations_without_a_class_take_the_name_given(slide: Path, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [NAMELESS], "a")
    store = cut(slide, tmp_path, tmp_path / "a.geojson", "Tumour")
    assert store.label is not None
    assert set(store.label) == {"Tumour"}
    with pytest.raises(AnnotationError, match="no class; give one with --label"):
        cut(slide, tmp_path, tmp_path / "a.geojson")
    with pytest.raises(AnnotationError, match="no class"):
        cut(slide, tmp_path, tmp_path / "a.geojson", "Tumour", "Necrosis")


def test_a_class_that_is_not_there(slide: Path, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [TUMOUR, NECROSIS], "a")
    with pytest.raises(
        AnnotationError, match="no annotation of class Tumor, only Necrosis, Tumour"
    ):
        cut(slide, tmp_path, tmp_path / "a.geojson", "Tumor")


def test_annotations_smaller_than_a_field(slide: Path, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [Outline("T", shapely.box(300, 300, 400, 400))], "a")
    with pytest.raises(AnnotationError, match="lower --stride"):
        cut(slide, tmp_path, tmp_path / "a.geojson")


def test_an_empty_file_of_annotations(slide: Path, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [], "a")
    with pytest.raises(AnnotationError, match="holds no annotation"):
        cut(slide, tmp_path, tmp_path / "a.geojson")


def test_changed_annotations_are_cut_anew(slide: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.geojson"
    write_geojson(file, [TUMOUR], "a")
    first = tile_slide(Job(slide, annotations=file), tmp_path, TileConfig())
    assert tile_slide(Job(slide, annotations=file), tmp_path, TileConfig()).skipped
    write_geojson(file, [NECROSIS], "a")
    second = tile_slide(Job(slide, annotations=file), tmp_path, TileConfig())
    assert second.notes[0] == "redone: its annotations have changed"
    assert second.tiles != first.tiles
    whole = tile_slide(slide, tmp_path, TileConfig())
    assert whole.notes[0] == "redone: its annotations have changed"
    assert TileStore.open(whole.path).label is None


@pytest.mark.parametrize("suffix", ["geojson", "png"])
def test_a_tissue_mask_replaces_what_would_be_found(
    slide: Path, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"a.{suffix}"
    area = Outline("", shapely.box(256, 256, 768, 512))
    if suffix == "png":
        mask = np.zeros((128, 160), np.uint8)
        mask[32:64, 32:96] = 1
        Image.fromarray(mask).save(file)
    else:
        write_geojson(file, [area], "a")
    result = tile_slide(Job(slide, tissue_mask=file), tmp_path, TileConfig(min_tissue=1.0))
    store = TileStore.open(result.path)
    assert set(map(tuple, store.coords.tolist())) == {
        (x, y) for x in (256, 384, 512, 640) for y in (256, 384)
    }
    assert store.label is None

"""What goes wrong with a slide is said in one sentence; what can be had of it is kept."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tile_fakes import write_slide

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.core.errors import (
    AnnotationError,
    MissingMppError,
    NotASlideError,
    NoTissueError,
    OutputError,
    SlideError,
    TooCoarseError,
    UsageError,
    WsiAnomalyError,
)
from wsi_anomaly.jobs import attempt
from wsi_anomaly.tiles import Status, TileConfig, TileStore, tile_slide
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.tiles.tiling import Tiling

CONFIG = TileConfig(max_tiles=None)


def refused(path: Path, out: Path, error: type[WsiAnomalyError], said: str, **options) -> None:
    """It fails with one sentence that names the slide, and leaves nothing behind."""
    with pytest.raises(error, match=said) as caught:
        tile_slide(Job(path, **options), out, CONFIG)
    sentence = str(caught.value)
    assert path.name in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert not out.exists() or not list(out.glob("*.h5"))
    assert not out.exists() or not list(out.glob(".*partial"))


def test_missing_mpp_names_its_remedy(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", mpp=None)
    refused(path, tmp_path / "t", MissingMppError, "--mpp-csv")
    assert tile_slide(Job(path, mpp=0.5), tmp_path / "t", CONFIG).tiles > 0


def test_too_coarse(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", mpp=2.9)
    refused(path, tmp_path / "t", TooCoarseError, "too coarse for 10x")


def test_a_slide_gives_the_magnifications_it_can(tmp_path: Path) -> None:
    config = TileConfig(magnifications=(10, 20, 40), max_tiles=3)
    result = tile_slide(write_slide(tmp_path / "a.tif"), tmp_path, config)
    assert result.magnifications == (10, 20)
    assert result.notes == ("its 0.5 um pixels cannot serve 40x",)


def test_no_tissue(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", np.full((1024, 1024, 3), 243, np.uint8))
    refused(path, tmp_path / "t", NoTissueError, "no field of 64 um|No tissue")


@pytest.mark.parametrize("content", [b"", b"no slide", b"II*\0" + bytes(100), b"\x8a\x01" * 2500])
def test_not_a_slide(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    refused(path, tmp_path / "t", NotASlideError, "a.tif")


def test_impossible_dimensions(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageWidth"].overwrite(2_000_000_000)
        file.pages[0].tags["ImageLength"].overwrite(2_000_000_000)
    refused(path, tmp_path / "t", SlideError, "a.tif")


def test_half_a_slide_is_refused_and_never_passes_for_a_whole_one(tmp_path: Path) -> None:
    """A broken copy: the remedy is to copy it again, not a file of half the tiles."""
    path = write_slide(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        offsets = file.pages[0].dataoffsets
    path.write_bytes(path.read_bytes()[: sorted(offsets)[len(offsets) // 2]])
    refused(path, tmp_path / "t", SlideError, "cut off")


def test_a_slide_truncated_to_its_header_is_refused(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        first = min(file.pages[0].dataoffsets)
    path.write_bytes(path.read_bytes()[: first + 10])
    refused(path, tmp_path / "t", SlideError, "a.tif")


def test_corrupt_tiles_in_the_middle_cost_only_their_fields(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif")
    whole = TileStore.open(tile_slide(path, tmp_path / "whole", CONFIG).path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        place, count = page.dataoffsets[7], page.databytecounts[7]  # row 1, column 2
    data = bytearray(path.read_bytes())
    data[place : place + count] = bytes(count)
    path.write_bytes(data)
    result = tile_slide(path, tmp_path / "t", CONFIG)
    store = TileStore.open(result.path)

    def meets(reach: int) -> np.ndarray:
        low, high = np.array((512, 256)) - reach, np.array((768, 512)) + reach
        return ((store.coords + 128 > low) & (store.coords < high)).all(1)

    assert result.counts["failed"] >= 4
    assert (store.status[meets(0)] == Status.FAILED).all()
    assert (store.status[~meets(16)] != Status.FAILED).all()  # resampling reaches a little further
    # The others have the same pixels as before, but for the stains' slightly other sample.
    same = {tuple(c): k for k, c in enumerate(whole.coords.tolist())}
    kept = np.flatnonzero(store.status == Status.OK)[::5]
    former = [same[tuple(store.coords[k].tolist())] for k in kept]
    difference = np.abs(store.images(10, kept).astype(int) - whole.images(10, former))
    assert np.median(difference) <= 2


def test_names_with_spaces_accents_and_quotes(tmp_path: Path) -> None:
    name = 'Rätte n° 3\'s "left" kidney & liver; 100%'
    path = write_slide(tmp_path / f"{name}.tif")
    result = tile_slide(path, tmp_path / "tiles à moi", CONFIG)
    store = TileStore.open(result.path)
    assert store.slide_name == name
    assert result.path.with_suffix(".png").name == f"{name}.png"


@pytest.mark.parametrize("place", ["file", "folder"])
def test_annotations_in_another_frame(tmp_path: Path, place: str) -> None:
    path = write_slide(tmp_path / "a.tif")
    drawn = tmp_path / "outlines" / "a.geojson"
    drawn.parent.mkdir()
    import shapely

    write_geojson(drawn, [Outline("Tumour", shapely.box(4000, 4000, 9000, 9000))], "a")
    given = drawn if place == "file" else drawn.parent
    refused(path, tmp_path / "t", AnnotationError, "100% of it lies beyond", annotations=given)
    refused(path, tmp_path / "t", AnnotationError, "100% of it lies beyond", tissue_mask=given)


def test_a_mask_image_of_other_proportions(tmp_path: Path) -> None:
    from PIL import Image

    path = write_slide(tmp_path / "a.tif")
    Image.fromarray(np.full((100, 300), 255, np.uint8)).save(tmp_path / "m.png")
    for option in ("tissue_mask", "annotations"):
        config = TileConfig(labels=("Tumour",))
        with pytest.raises(AnnotationError, match="does not cover"):
            tile_slide(Job(path, **{option: tmp_path / "m.png"}), tmp_path / "t", config)


def test_a_folder_of_annotations_without_one_for_the_slide(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif")
    (tmp_path / "outlines").mkdir()
    refused(
        path, tmp_path / "t", AnnotationError, r"such as a\.geojson",
        annotations=tmp_path / "outlines",
    )  # fmt: skip


def test_an_unwritable_folder(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif")
    (tmp_path / "t").write_text("a file")
    with pytest.raises(OutputError, match="another with -o"):
        tile_slide(path, tmp_path / "t", CONFIG)


def test_a_full_disk_is_one_sentence_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "a.tif")
    real, calls = os.pwrite, []

    def full_after_a_while(file: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full_after_a_while)
    with pytest.raises(OutputError, match="the disk is full"):
        tile_slide(path, tmp_path / "t", CONFIG)
    assert len(calls) == 2
    assert not list((tmp_path / "t").iterdir())


@pytest.mark.parametrize("kilobytes", [64, 900, 1700])
def test_a_really_full_disk(tmp_path: Path, kilobytes: int) -> None:
    """Wherever the space ends (in the index, in the images, in the picture)."""
    path = write_slide(tmp_path / "a.tif")
    full = tmp_path / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(full)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no small file system can be mounted here")
    try:
        outcome = attempt(Tiling(full, TileConfig(max_tiles=40)), Job(path, "a"))
        assert outcome.result is None
        assert "the disk is full" in outcome.error
        assert not list(full.iterdir())
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_no_slide_at_all_is_wrong_usage(tmp_path: Path) -> None:
    from wsi_anomaly.slides import find_slides

    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UsageError, match="No slide in"):
        find_slides([tmp_path])


def test_an_unexpected_error_of_one_slide_is_an_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise struct.error("odd\nheader")

    monkeypatch.setattr("wsi_anomaly.tiles.tiling.tile_slide", broken)
    outcome = attempt(Tiling(tmp_path, CONFIG), Job(tmp_path / "a.tif", "a"))
    assert outcome.result is None
    assert "unexpected error: odd header" in outcome.error
    assert outcome.unexpected
    assert "in broken" in outcome.traceback


def test_a_slide_at_an_address_gives_the_same_tiles(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    path = write_slide(tmp_path / "a.tif")
    here = tile_slide(path, tmp_path / "here", TileConfig(max_tiles=5))
    with fsspec.open("memory://bucket/a.tif", "wb") as file:
        file.write(path.read_bytes())
    there = tile_slide("memory://bucket/a.tif", tmp_path / "there", TileConfig(max_tiles=5))
    store, other = TileStore.open(here.path), TileStore.open(there.path)
    assert store.fingerprint == other.fingerprint
    np.testing.assert_array_equal(store.images(10, slice(None)), other.images(10, slice(None)))
    again = tile_slide("memory://bucket/a.tif", tmp_path / "there", TileConfig(max_tiles=5))
    assert again.skipped

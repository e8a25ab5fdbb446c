"""Files that are damaged, foreign or oddly named: one clear sentence, and the rest is read."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from slide_files import stained, tissue_slide, write

from wsi_anomaly.core.errors import MissingMppError, NotASlideError, UsageError
from wsi_anomaly.slides import (
    TISSUE,
    UNREADABLE,
    ReadError,
    find_slides,
    find_tissue,
    open_slide,
    read_squares,
)
from wsi_anomaly.slides.jpeg import damage

BACKENDS = ["tiff", "openslide"]


def spoil(path: Path, level: int, index: int, kind: str) -> None:
    """Damage one compressed tile of a file."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[level]
        offset, size = page.dataoffsets[index], page.databytecounts[index]
    data = bytearray(path.read_bytes())
    body = slice(offset + size // 2, offset + size)
    length = body.stop - body.start
    if kind == "random":
        data[body] = np.random.default_rng(0).bytes(length)
    elif kind == "cut off":
        data[body] = bytes(length)
    elif kind == "hole":
        data[offset + size // 2 : offset + size // 2 + 600] = bytes(600)
    elif kind == "gone":
        data[offset : offset + size] = bytes(size)
    path.write_bytes(data)


def assert_is_one_sentence(error: BaseException, path: Path) -> None:
    text = str(error)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text
    assert ". " not in text.replace(str(path), "")


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        *((backend, kind) for backend in BACKENDS for kind in ("random", "cut off", "gone")),
        # OpenSlide decodes a zeroed stretch as a picture.
        ("tiff", "hole"),
    ],
)
def test_a_damaged_tile_fails_alone_and_never_becomes_a_picture(tmp_path, backend, kind):
    image = stained(1024, 1024)
    path = write(tmp_path / "s.tif", [image], compressionargs={"level": 95})
    with open_slide(path, backend=backend) as slide:
        whole = slide.read_level(0, 0, 0, 1024, 1024).rgb
    spoil(path, 0, 5, kind)
    with open_slide(path, backend=backend) as slide:
        for _ in range(2):
            with pytest.raises(ReadError) as caught:
                slide.read_level(0, 200, 200, 200, 200)
            assert_is_one_sentence(caught.value, path)
            here = slide.read_level(0, 512, 0, 512, 1024).rgb
            np.testing.assert_array_equal(here, whole[:, 512:])
        with pytest.raises(ReadError):
            slide.read(300, 300, (64, 64), 1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_squares_around_a_damaged_tile_are_read_and_only_its_own_are_missing(tmp_path, backend):
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    coords = np.array([(x, y) for y in range(0, 1024, 64) for x in range(0, 1024, 64)])
    with open_slide(path, backend=backend) as slide:
        before = read_squares(slide, coords, 64, 1.0)
    assert (before.coverage == 1).all()
    spoil(path, 0, 5, "random")
    with open_slide(path, backend=backend) as slide:
        after = read_squares(slide, coords, 64, 1.0)
    lost = ((coords >= 256) & (coords < 512)).all(1)
    assert (after.coverage[lost] == 0).all()
    assert (after.rgb[lost] == 255).all()
    near = ((coords >= 192) & (coords < 576)).all(1)  # the filter reaches a little beyond
    np.testing.assert_array_equal(after.rgb[~near], before.rgb[~near])
    assert (after.coverage[~near] == 1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_thumbnail_shows_all_but_the_damage(tmp_path, backend):
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    with open_slide(path, backend=backend) as slide:
        before = slide.thumbnail(256)
    spoil(path, 0, 5, "random")
    with open_slide(path, backend=backend) as slide:
        after = slide.thumbnail(256)
    assert (after[66:126, 66:126] == 160).all()
    away = np.ones((256, 256), bool)
    away[62:130, 62:130] = False
    np.testing.assert_array_equal(after[away], before[away])


@pytest.mark.parametrize("backend", BACKENDS)
def test_damage_on_the_map_is_unreadable_neither_tissue_nor_glass(tmp_path, backend):
    path = tissue_slide(tmp_path / "s.tif", tissue=(100, 100, 900, 1100))
    spoil(path, 0, 7, "random")  # x 512 to 768, y 256 to 512
    with open_slide(path, backend=backend) as slide:
        labels = find_tissue(slide).labels
    assert (labels[33:63, 65:95] == UNREADABLE).all()
    assert (labels == UNREADABLE).sum() < 45 * 45
    assert (labels[70:105, 20:130] == TISSUE).all()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("levels", [1, 3])
def test_half_a_file_never_passes_for_a_whole_one(tmp_path, share, levels, capfd):
    image = stained(1024, 1024)
    path = write(tmp_path / "s.tif", [image, image[::2, ::2], image[::4, ::4]][:levels])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(NotASlideError, match="is damaged") as caught:
        open_slide(path)
    assert_is_one_sentence(caught.value, path)
    assert capfd.readouterr().err == ""


def test_a_chain_of_directories_that_is_broken_is_damage(tmp_path):
    image = stained(1024, 1024)
    path = write(tmp_path / "s.tif", [image, image[::2, ::2], image[::4, ::4]])
    with tifffile.TiffFile(path) as tif:
        second = tif.pages[1].offset
    data = bytearray(path.read_bytes())
    data[second : second + 100] = np.random.default_rng(0).bytes(100)
    path.write_bytes(data)
    with pytest.raises(NotASlideError, match="is damaged"):
        open_slide(path)


def test_every_truncation_of_a_real_slide_is_an_error_or_a_slide(tmp_path, real_data):
    data = (real_data / "slides" / "cmu1_small_region.svs").read_bytes()
    path = tmp_path / "cut.svs"
    for size in (0, 1, 8, 100, 5000, 200_000, len(data) // 2, len(data) - 10_000, len(data) - 1):
        path.write_bytes(data[:size])
        try:
            with open_slide(path, require_mpp=False) as slide:
                slide.read_level(0, 0, 0, 240, 240)
        except (NotASlideError, ReadError) as error:
            assert_is_one_sentence(error, path)


def patched_tag(path: Path, code: int, value: int) -> None:
    """Overwrite a tag's value, wherever it stands."""
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags[code].overwrite(value)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (256, 2**31), (257, 2**31), (256, 0), (256, 1_500_000), (257, 900_000),
        (322, 0), (322, 16), (323, 2**31 - 16), (277, 7),
    ],
    ids=str,
)  # fmt: skip
def test_impossible_headers_are_refused(tmp_path, code, value):
    path = write(tmp_path / "s.tif", [stained(600, 600)])
    try:
        patched_tag(path, code, value)
    except (ValueError, struct.error):
        pytest.skip("the tag cannot hold this value")
    with pytest.raises(NotASlideError) as caught:
        open_slide(path)
    assert_is_one_sentence(caught.value, path)


def test_what_is_no_slide_is_refused_by_name(tmp_path):
    cases = {
        "empty.tif": b"",
        "text.svs": b"not a slide at all",
        "photo.tif": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "header.tif": b"II*\0\x08\0\0\0",
        "loop.tif": b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0",
    }
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(NotASlideError) as caught:
            open_slide(path)
        assert_is_one_sentence(caught.value, path)
    with pytest.raises(NotASlideError, match="is a folder"):
        open_slide(tmp_path)
    with pytest.raises(NotASlideError, match="does not exist"):
        open_slide(tmp_path / "none.svs")


def test_real_files_that_no_reader_takes(real_data):
    path = real_data / "odd_files" / "small_dicom.dcm"
    with pytest.raises(NotASlideError) as caught:
        open_slide(path)
    assert_is_one_sentence(caught.value, path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path / "s.tif", [stained(100, 100)])

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(NotASlideError, match="Permission denied"):
        open_slide(path)


def test_a_missing_pixel_size_names_the_slide_and_the_remedies(tmp_path, real_data):
    path = real_data / "slides" / "tcga_no_mpp.svs"
    for backend in ("auto", *BACKENDS):
        with pytest.raises(MissingMppError, match=r"tcga_no_mpp.*--mpp.*--mpp-csv"):
            open_slide(path, backend=backend)
        with open_slide(path, backend=backend, mpp=0.25) as slide:
            assert (slide.mpp.x, slide.mpp.source) == (0.25, "--mpp")
        with open_slide(path, backend=backend, require_mpp=False) as slide:
            assert max(slide.thumbnail(200).shape) == 200


@pytest.mark.parametrize(
    "name", ["a b.tif", "Gewebe für Çağrı.tif", 'it\'s "quoted".tif', "日本.tif"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_names_with_spaces_accents_and_quotes(tmp_path, name, backend):
    path = write(tmp_path / "plain.tif", [stained(300, 300)])
    odd = tmp_path / "fälle 'x'" / name
    odd.parent.mkdir()
    shutil.copy(path, odd)
    assert find_slides([odd.parent]) == [odd]
    with open_slide(odd, backend=backend) as slide, open_slide(path) as plain:
        np.testing.assert_array_equal(
            slide.read(0, 0, (64, 64), 2.0).rgb, plain.read(0, 0, (64, 64), 2.0).rgb
        )
        assert slide.name == odd.stem


def test_folders_are_searched_and_an_empty_one_is_said(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"No slide in .*\.svs"):
        find_slides([tmp_path])
    for name in ("two.SVS", "one.tif", "notes.txt", ".hidden.tif"):
        (deep / name).write_bytes(b"x")
    assert [path.name for path in find_slides([tmp_path])] == ["one.tif", "two.SVS"]
    assert len(find_slides([tmp_path, deep / "one.tif"])) == 2
    with pytest.raises(UsageError, match="does not exist"):
        find_slides([tmp_path / "none"])


def test_an_unknown_backend_is_a_usage_error(tmp_path):
    path = write(tmp_path / "s.tif", [stained(100, 100)])
    with pytest.raises(UsageError, match="auto, openslide, tiff"):
        open_slide(path, backend="vips")


@given(seed=st.integers(0, 500), cut=st.floats(0.3, 0.999))
def test_a_whole_jpeg_is_whole_and_a_cut_one_is_not(seed, cut):
    rng = np.random.default_rng(seed)
    image = stained(64, 64, seed) if seed % 3 else np.full((64, 64, 3), seed % 256, np.uint8)
    data = imagecodecs.jpeg8_encode(
        image,
        level=int(rng.integers(20, 100)),
        optimize=bool(seed % 2),
        smoothing=False,
    )
    assert damage(data) is None
    assert damage(data + b"\0\0") is None
    assert damage(data[: int(len(data) * cut)]) is not None
    assert damage(bytes(len(data))) is not None


def test_blank_tiles_with_optimal_codes_are_no_damage():
    """Optimal Huffman codes spell blank glass in zeros; long runs of them are then right."""
    data = imagecodecs.jpeg8_encode(np.full((1024, 1024, 3), 240, np.uint8), optimize=True)
    assert bytes(64) in data
    assert damage(data) is None

"""Legal files are read, or the reason is said; what would burst the memory is not begun."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from slide_files import stained, write

from wsi_anomaly.core.errors import NotASlideError
from wsi_anomaly.slides import ReadError, open_slide
from wsi_anomaly.slides.jpeg import damage

RAW = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate", "metadata": None}


def jpeg(tile: np.ndarray, **options) -> bytes:
    options = {"colorspace": "rgb", "outcolorspace": "ycbcr", "subsampling": "444"} | options
    return imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), level=90, **options)


def of_jpegs(path, image, change, **options):
    """A TIFF of JPEG tiles, each changed."""
    tiles = [
        change(jpeg(image[y : y + 256, x : x + 256]))
        for y in range(0, image.shape[0], 256)
        for x in range(0, image.shape[1], 256)
    ]
    tifffile.imwrite(
        path, iter(tiles), shape=image.shape, dtype="u1", tile=(256, 256), photometric="ycbcr",
        subsampling=(1, 1), compression="jpeg", metadata=None, **options,
    )  # fmt: skip
    return path


def fill_after_start(data: bytes) -> bytes:
    return data[:2] + b"\xff\xff" + data[2:]


def fill_everywhere(data: bytes) -> bytes:
    """Fill bytes before every marker of the header and before the end."""
    out, position = data[:2], 2
    while data[position + 1] != 0xDA:
        length = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        out += b"\xff\xff\xff" + data[position : position + length]
        position += length
    return out + b"\xff" + data[position:-2] + b"\xff\xff" + data[-2:]


@pytest.mark.parametrize("change", [fill_after_start, fill_everywhere])
def test_fill_bytes_before_a_marker_are_legal(tmp_path, change):
    path = of_jpegs(tmp_path / "s.tif", stained(512, 512), change)
    with open_slide(path, mpp=0.5) as ours, open_slide(path, mpp=0.5, backend="openslide") as other:
        assert ours.backend == "tiff"
        np.testing.assert_array_equal(
            ours.read_level(0, 0, 0, 512, 512).rgb, other.read_level(0, 0, 0, 512, 512).rgb
        )


def test_fill_bytes_do_not_hide_damage():
    data = fill_everywhere(jpeg(stained(64, 64)))
    assert damage(data) is None
    assert damage(data[: len(data) // 2]) == "it is cut off"
    assert damage(data[:2] + b"\xff" * 20) == "it is cut off"


def test_openslide_is_asked_where_the_direct_reader_fails_on_every_tile(tmp_path):
    """A marker of old arithmetic coders stands alone: our check takes it for a foreign byte."""
    image = stained(512, 512)
    path = of_jpegs(tmp_path / "s.tif", image, lambda data: data[:2] + b"\xff\x01" + data[2:])
    with open_slide(path, mpp=0.5, backend="tiff") as slide, pytest.raises(ReadError):
        slide.read_level(0, 0, 0, 256, 256)
    usual = of_jpegs(tmp_path / "usual.tif", image, lambda data: data)
    with open_slide(path, mpp=0.5) as slide, open_slide(usual, mpp=0.5) as same:
        assert (slide.backend, same.backend) == ("openslide", "tiff")
        np.testing.assert_array_equal(
            slide.read_level(0, 0, 0, 512, 512).rgb, same.read_level(0, 0, 0, 512, 512).rgb
        )


def test_openslide_is_not_asked_where_damage_is_proven(tmp_path):
    """It would make grey pictures of tiles that are gone."""
    path = of_jpegs(tmp_path / "s.tif", stained(512, 512), lambda data: data[:400])
    with open_slide(path, mpp=0.5) as slide:
        assert slide.backend == "tiff"
        with pytest.raises(ReadError, match="damaged"):
            slide.read_level(0, 0, 0, 256, 256)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (lambda a: (a / 255).astype("f4"), "32-bit floating point numbers"),
        (lambda a: (a / 255).astype("f8"), "64-bit floating point numbers"),
        (lambda a: a.astype("u4"), "32-bit numbers, not as 8 bits"),
        (lambda a: a.astype("i2"), "16-bit numbers, not as 8 bits"),
        (lambda a: a.astype("u2") * 16, "12 of the 16 bits"),
        (lambda a: a.astype("u2") * 4, "10 of the 16 bits"),
        (lambda a: a.astype("u2"), "8 of the 16 bits"),
    ],
)
def test_pixels_that_are_no_8_bits_say_how_they_are_stored(tmp_path, values, reason):
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, values(stained(512, 512)), **RAW)
    with pytest.raises(NotASlideError, match=reason) as caught:
        open_slide(path, mpp=0.5)
    assert "8 bits a colour" in str(caught.value)
    assert "copy" not in str(caught.value)


def test_sixteen_bits_are_read_by_their_upper_eight(tmp_path):
    image = stained(512, 512)
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, image.astype("u2") * 257, **RAW)
    with open_slide(path, mpp=0.5) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 512, 512).rgb, image)


@pytest.mark.parametrize("backend", ["auto", "openslide"])
def test_a_huge_tile_in_a_small_file_is_refused_before_it_is_decoded(tmp_path, backend):
    side = 16_384
    tile = zlib.compress(bytes(side * side * 3), 1)
    path = tmp_path / "huge.tif"
    tifffile.imwrite(
        path, iter([tile]), shape=(side, side, 3), dtype="u1", tile=(side, side),
        photometric="rgb", compression="deflate", metadata=None,
    )  # fmt: skip
    assert path.stat().st_size < 5_000_000
    with pytest.raises(NotASlideError, match="one compressed piece, too much to decode at once"):
        open_slide(path, mpp=0.5, backend=backend)


@pytest.mark.parametrize("coding", ["jpeg", "jpeg2000"])
def test_a_tile_that_claims_more_pixels_than_its_place_is_not_decoded(tmp_path, coding):
    image = stained(256, 256)
    if coding == "jpeg":
        data = bytearray(jpeg(image))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
        options = {"photometric": "ycbcr", "subsampling": (1, 1), "compression": "jpeg"}
    else:
        data = bytearray(imagecodecs.jpeg2k_encode(image, codecformat="j2k", level=40))
        at = data.index(b"\xff\x51")
        data[at + 6 : at + 14] = struct.pack(">II", 65_500, 65_500)
        options = {"photometric": "rgb", "compression": 34712}
    path = tmp_path / "s.tif"
    tifffile.imwrite(
        path, iter([bytes(data)]), shape=image.shape, dtype="u1", tile=(256, 256), metadata=None,
        **options,
    )  # fmt: skip
    with open_slide(path, mpp=0.5, backend="tiff") as slide, pytest.raises(ReadError):
        slide.read_level(0, 0, 0, 256, 256)


def test_a_level_of_many_small_tiles_is_as_before(tmp_path):
    path = write(tmp_path / "s.tif", [stained(512, 512)], compression="lzw")
    with open_slide(path) as slide:
        assert slide.backend == "tiff"


# What users reported.


def test_reported_fill_bytes(field_case):
    path = field_case("jpeg_fill_bytes") / "fill_bytes.tif"
    with open_slide(path) as ours, open_slide(path, backend="openslide") as other:
        np.testing.assert_array_equal(
            ours.read_level(0, 0, 0, 512, 512).rgb, other.read_level(0, 0, 0, 512, 512).rgb
        )


def test_reported_bits(field_case):
    folder = field_case("more_than_8_bits")
    for name, reason in (("float32", "32-bit floating"), ("twelve_bits", "12 of the 16 bits")):
        with pytest.raises(NotASlideError, match=reason):
            open_slide(folder / f"{name}.tif")
    with open_slide(folder / "sixteen_bits.tif") as slide:
        assert slide.read_level(0, 0, 0, 512, 512).rgb.mean() > 100

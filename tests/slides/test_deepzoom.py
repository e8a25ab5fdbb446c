"""DeepZoom trees: the pixels of the picture that was cut up, an identity, clear words."""

from __future__ import annotations

import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from slide_files import stained

from wsi_anomaly.core.errors import MissingMppError, NotASlideError
from wsi_anomaly.core.file_names import output_name
from wsi_anomaly.slides import ReadError
from wsi_anomaly.slides.deepzoom_backend import DeepZoomSlide, deepzoom_fingerprint


def deepzoom(
    path: Path, image: np.ndarray, *, tile: int = 100, overlap: int = 1, suffix: str = "png"
) -> Path:
    """Cut a picture into a DeepZoom tree as vips and OpenSeadragon lay it out."""
    height, width = image.shape[:2]
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{suffix}" '
        f'Overlap="{overlap}" TileSize="{tile}"><Size Height="{height}" Width="{width}"/></Image>'
    )
    level = (max(height, width) - 1).bit_length()
    picture = Image.fromarray(image)
    while level >= 0:
        folder = path.with_name(f"{path.stem}_files") / str(level)
        folder.mkdir(parents=True)
        for top in range(0, picture.height, tile):
            for left in range(0, picture.width, tile):
                box = (
                    max(left - overlap, 0), max(top - overlap, 0),
                    min(left + tile + overlap, picture.width),
                    min(top + tile + overlap, picture.height),
                )  # fmt: skip
                pixels = np.asarray(picture.crop(box))
                data = (
                    imagecodecs.png_encode(pixels)
                    if suffix == "png"
                    else imagecodecs.jpeg8_encode(pixels, level=95)
                )
                (folder / f"{left // tile}_{top // tile}.{suffix}").write_bytes(data)
        picture = picture.resize((-(-picture.width // 2), -(-picture.height // 2)))
        level -= 1
    return path


@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(1, 700), height=st.integers(1, 500), tile=st.integers(40, 300),
    overlap=st.integers(0, 4),
)  # fmt: skip
def test_level_0_is_the_picture_whatever_the_tiles(tmp_path_factory, width, height, tile, overlap):
    image = stained(height, width)
    path = deepzoom(tmp_path_factory.mktemp("dz") / "HE.dzi", image, tile=tile, overlap=overlap)
    with DeepZoomSlide(path, mpp=0.5) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, width, height).rgb, image)
        assert slide.level_downsamples == tuple(2.0**i for i in range(len(slide.level_downsamples)))
        for (w, h), factor in zip(slide.level_dimensions, slide.level_downsamples, strict=True):
            assert (w, h) == (-(-width // int(factor)), -(-height // int(factor)))


def test_beyond_the_picture_nothing_was_scanned(tmp_path):
    image = stained(300, 400)
    with DeepZoomSlide(deepzoom(tmp_path / "HE.dzi", image), mpp=0.5) as slide:
        region = slide.read_level(0, -20, 250, 100, 100)
        np.testing.assert_array_equal(region.rgb[:50, 20:], image[250:300, :80])
        assert (region.rgb[50:] == 255).all()
        assert region.coverage[:50, 20:].all()
        assert not region.coverage[50:].any()
        assert not region.coverage[:, :20].any()


def test_the_pixel_size_must_be_given(tmp_path):
    path = deepzoom(tmp_path / "HE.dzi", stained(300, 400))
    with DeepZoomSlide(path) as slide, pytest.raises(MissingMppError, match="--mpp"):
        _ = slide.mpp


def test_it_is_called_after_its_case_too(tmp_path):
    (tmp_path / "adenoma").mkdir()
    path = deepzoom(tmp_path / "adenoma" / "HE.dzi", stained(300, 400))
    with DeepZoomSlide(path) as slide:
        assert slide.name == output_name(path) == "adenoma-HE"


def test_jpeg_tiles_are_decoded(tmp_path):
    image = stained(300, 400)
    path = deepzoom(tmp_path / "HE.dzi", image, suffix="jpeg")
    with DeepZoomSlide(path, mpp=0.5) as slide:
        seen = slide.read_level(0, 0, 0, 400, 300).rgb
    assert np.abs(seen.astype(int) - image).mean() < 5


@pytest.mark.parametrize("harm", ["missing", "cut off", "foreign", "empty"])
def test_a_bad_tile_fails_alone(tmp_path, harm):
    image = stained(300, 400)
    path = deepzoom(tmp_path / "HE.dzi", image, suffix="jpeg")
    tile = tmp_path / "HE_files" / "9" / "1_1.jpeg"
    if harm == "missing":
        tile.unlink()
    elif harm == "cut off":
        tile.write_bytes(tile.read_bytes()[:-200])
    elif harm == "empty":
        tile.write_bytes(b"")
    else:  # a tile of another size: of another picture
        tile.write_bytes((tmp_path / "HE_files" / "9" / "0_0.jpeg").read_bytes())
    with DeepZoomSlide(path, mpp=0.5) as slide:
        with pytest.raises(ReadError, match="row 1, column 1 of level 0"):
            slide.read_level(0, 120, 120, 50, 50)
        assert slide.read_level(0, 0, 0, 100, 100).rgb.shape == (100, 100, 3)


def test_two_pictures_of_one_size_have_two_identities(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = deepzoom(tmp_path / "a" / "HE.dzi", stained(600, 900, seed=1))
    second = deepzoom(tmp_path / "b" / "HE.dzi", stained(600, 900, seed=2))
    copy = tmp_path / "c"
    shutil.copytree(tmp_path / "a", copy)
    assert first.read_bytes() == second.read_bytes()
    assert deepzoom_fingerprint(first) != deepzoom_fingerprint(second)
    assert deepzoom_fingerprint(first) == deepzoom_fingerprint(copy / "HE.dzi")


def described(suffix: str, overlap: int, tile: object, width: int) -> str:
    return (
        f'<Image Format="{suffix}" Overlap="{overlap}" TileSize="{tile}">'
        f'<Size Width="{width}" Height="9"/></Image>'
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no element found"),
        ("<Image/>", "no Size"),
        (described("webp", 0, 9, 9), "webp"),
        (described("png", 9, 9, 9), "overlap"),
        (described("png", 0, 9, 0), "0 x 9"),
        (described("png", 0, "x", 9), "'x'"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><Image/>', "document type"),
        ("<Image>" + "x" * 70_000 + "</Image>", "too long"),
    ],
)
def test_what_is_no_description_is_refused_in_a_sentence(tmp_path, text, word):
    path = tmp_path / "HE.dzi"
    path.write_text(text)
    with pytest.raises(NotASlideError, match=word) as caught:
        DeepZoomSlide(path)
    assert str(path) in str(caught.value)


def test_a_description_without_its_tiles_says_what_to_copy(tmp_path):
    path = deepzoom(tmp_path / "HE.dzi", stained(300, 400))
    shutil.rmtree(tmp_path / "HE_files")
    with pytest.raises(NotASlideError, match="HE_files must lie beside it"):
        DeepZoomSlide(path)


def test_a_tree_at_an_address_is_read_tile_by_tile(tmp_path):
    import fsspec

    image = stained(300, 400)
    deepzoom(tmp_path / "HE.dzi", image)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/bucket/case", recursive=True)
    try:
        place = Path("memory://bucket/case/HE.dzi")
        with DeepZoomSlide(place, mpp=0.5) as slide:
            np.testing.assert_array_equal(slide.read_level(0, 0, 0, 400, 300).rgb, image)
        assert deepzoom_fingerprint(place) == deepzoom_fingerprint(tmp_path / "HE.dzi")
    finally:
        memory.rm("/bucket", recursive=True)

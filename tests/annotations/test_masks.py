"""Mask images in and out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from outline_files import mask_of_outlines, write_mask
from PIL import Image

from wsi_anomaly.annotations import Extent, Outline, outlines_from_mask, read_mask, read_outlines
from wsi_anomaly.core.errors import AnnotationError


def whole(width: int, height: int) -> Extent:
    """A slide that was scanned as a whole."""
    return Extent(Path("slide.tif"), (width, height), (0, 0, width, height))


masks = hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@given(mask=masks)
def test_outlines_follow_the_pixels_exactly(mask):
    height, width = mask.shape
    size = (width * 16, height * 16)
    outlines = outlines_from_mask(mask, size, "Lesion")
    assert sum(o.polygon.area for o in outlines) == mask.sum() * 256
    assert all(o.label == "Lesion" and o.polygon.is_valid for o in outlines)
    np.testing.assert_array_equal(mask_of_outlines(outlines, mask.shape, size), mask)


def test_a_ring_keeps_its_hole_and_pieces_are_apart():
    mask = np.zeros((8, 10), np.uint8)
    mask[1:6, 1:6] = 7
    mask[3, 3] = 0
    mask[6, 6] = 1  # touches the ring in a corner only
    ring, dot = outlines_from_mask(mask, (100, 80))
    assert ring.polygon.area == 24 * 100
    assert len(ring.polygon.interiors) == 1
    assert dot.polygon.equals(shapely.box(60, 60, 70, 70))


def test_the_origin_of_a_cropped_slide_is_added():
    (outline,) = outlines_from_mask(np.ones((2, 2)), (20, 20), origin=(500, 300))
    assert outline.polygon.bounds == (500, 300, 520, 320)


def test_a_mask_of_something_else_is_refused():
    with pytest.raises(AnnotationError, match="does not cover"):
        outlines_from_mask(np.ones((300, 100)), (1000, 1000))
    with pytest.raises(AnnotationError, match="one channel"):
        outlines_from_mask(np.ones((10, 10, 3)), (1000, 1000))


def test_a_written_mask_is_read_back(tmp_path):
    outline = Outline("Lesion", shapely.Point(400, 300).buffer(150))
    path = tmp_path / "mask.png"
    write_mask(path, [outline], (800, 640), downsample=4)
    assert read_mask(path).shape == (160, 200)
    (back,) = read_outlines(path, whole(800, 640), label="Lesion")
    assert back.label == "Lesion"
    apart = back.polygon.symmetric_difference(outline.polygon).area
    assert apart < 0.02 * outline.polygon.area


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_every_kind_of_png_is_a_mask(tmp_path, mode):
    image = Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), 2)).convert(mode)
    image.save(tmp_path / "mask.png")
    (outline,) = read_outlines(tmp_path / "mask.png", whole(80, 80))
    assert outline.polygon.bounds == (20, 20, 60, 60)


def test_a_pyramidal_tiff_is_read_at_a_reasonable_level(tmp_path):
    path = tmp_path / "mask.tif"
    level0 = np.zeros((256, 256), np.uint8)
    level0[64:128, 64:128] = 1
    with tifffile.TiffWriter(path) as writer:
        writer.write(level0, subifds=1, tile=(64, 64), compression="deflate")
        writer.write(level0[::2, ::2], subfiletype=1, tile=(64, 64), compression="deflate")
    (outline,) = read_outlines(path, whole(1024, 1024))
    assert outline.polygon.bounds == (256, 256, 512, 512)


def test_bad_masks_are_one_sentence(tmp_path):
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(AnnotationError, match=r"text\.png"):
        read_mask(tmp_path / "text.png")
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(AnnotationError, match=r"text\.tif is damaged"):
        read_mask(tmp_path / "text.tif")
    whole = tmp_path / "whole.png"
    write_mask(whole, [Outline("", shapely.box(0, 0, 9, 9))], (4000, 4000), downsample=4)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(AnnotationError, match=r"cut\.png"):
        read_mask(cut)


def test_a_mask_image_needs_the_slides_size(tmp_path):
    with pytest.raises(AnnotationError, match="is a mask image"):
        read_outlines(tmp_path / "mask.png")


def test_an_unknown_suffix_lists_what_is_known(tmp_path):
    with pytest.raises(AnnotationError, match=r"\.geojson.*\.xml.*\.png"):
        read_outlines(tmp_path / "notes.docx")

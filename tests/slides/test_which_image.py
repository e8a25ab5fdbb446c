"""Which image of a file is the slide: its own, the largest, its first plane; the rest is named."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import tifffile
from slide_files import stained, write

from wsi_anomaly.cli.info_facts import slide_facts
from wsi_anomaly.core.errors import NotASlideError, UsageError
from wsi_anomaly.slides import open_slide

OME = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
JPEG = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"}
RAW = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate"}


def whole(slide, level=0):
    return slide.read_level(level, 0, 0, *slide.level_dimensions[level]).rgb


def ome_file(path, images, *, options=RAW):
    """An OME-TIFF of several images: names and arrays."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name, image in images.items():
            tif.write(image, metadata=OME | {"Name": name}, **options)
    return path


def ome_set(folder, images):
    """An OME set of one image a file, each of which describes all of them."""
    names = [f"scan_s{number}.ome.tif" for number in range(1, len(images) + 1)]
    described = "".join(
        f'<Image ID="Image:{k}" Name="scene {k + 1}"><Pixels ID="Pixels:{k}" Type="uint8" '
        f'DimensionOrder="XYCZT" SizeX="{image.shape[1]}" SizeY="{image.shape[0]}" SizeC="3" '
        f'SizeZ="1" SizeT="1" PhysicalSizeX="0.{k + 1}" PhysicalSizeY="0.{k + 1}">'
        f'<Channel ID="Channel:{k}:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1">'
        f'<UUID FileName="{names[k]}">urn:uuid:{k}</UUID></TiffData></Pixels></Image>'
        for k, image in enumerate(images)
    )
    for k, image in enumerate(images):
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><OME '
            'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{k}">{described}</OME>'
        )
        tifffile.imwrite(folder / names[k], image, description=text.encode(), metadata=None, **RAW)
    return [folder / name for name in names]


def test_each_file_of_a_set_gives_its_own_pixels(tmp_path):
    images = [stained(768, 512, 1), stained(600, 900, 2)]
    for number, path in enumerate(ome_set(tmp_path, images)):
        with open_slide(path) as slide:
            np.testing.assert_array_equal(whole(slide), images[number])
            assert slide.mpp.x == pytest.approx((number + 1) / 10)
            assert slide.left_out == ()
    alone = tmp_path / "renamed.tif"
    (tmp_path / "scan_s2.ome.tif").rename(alone)
    (tmp_path / "scan_s1.ome.tif").unlink()
    with open_slide(alone) as slide:
        np.testing.assert_array_equal(whole(slide), images[1])


def test_an_image_of_another_file_of_the_set_cannot_be_chosen(tmp_path):
    first, _ = ome_set(tmp_path, [stained(300, 300), stained(400, 400)])
    with pytest.raises(NotASlideError, match="scene 2 lies in another file of its set; give that"):
        open_slide(first, scene=2)


def test_the_largest_image_is_the_slide_wherever_it_stands(tmp_path):
    small, large = stained(512, 512, 1), stained(900, 700, 2)
    for images in ({"small": small, "large": large}, {"large": large, "small": small}):
        path = ome_file(tmp_path / f"{next(iter(images))}.ome.tif", images)
        with open_slide(path) as slide:
            np.testing.assert_array_equal(whole(slide), large)
            assert slide.left_out == (
                "1 of 2 images of the file; small (512 x 512) is not looked at",
            )


def test_pages_that_are_no_reduced_copies_are_images_too(tmp_path):
    label, large = stained(300, 500, 1), stained(1000, 800, 2)
    path = tmp_path / "label_first.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(label, photometric="rgb", metadata=None)
        tif.write(large, metadata=None, **RAW)
        tif.write(large[::2, ::2], subfiletype=1, metadata=None, **RAW)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.level_dimensions == ((800, 1000), (400, 500))
        np.testing.assert_array_equal(whole(slide), large)
        assert "image 1 (500 x 300) is not looked at" in slide.left_out[0]


def test_the_first_plane_is_taken_and_said(tmp_path):
    planes = np.stack([stained(512, 512, seed) for seed in range(3)])
    path = tmp_path / "z.ome.tif"
    tifffile.imwrite(path, planes, ome=True, metadata=OME | {"axes": "ZYXS"}, **RAW)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), planes[0])
        assert slide.left_out == ("plane 1 of 3",)


def test_planes_whose_colours_are_pages_of_their_own(tmp_path):
    planes = np.stack([stained(300, 300, seed) for seed in range(2)])
    path = tmp_path / "z.ome.tif"
    for axes, order in (("ZCYX", (0, 3, 1, 2)), ("CZYX", (3, 0, 1, 2))):
        tifffile.imwrite(
            path, planes.transpose(order), ome=True, photometric="minisblack",
            compression="deflate", tile=(256, 256), metadata=OME | {"axes": axes},
        )  # fmt: skip
        with open_slide(path) as slide:
            np.testing.assert_array_equal(whole(slide), planes[0])
            assert slide.left_out == ("plane 1 of 2",)


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
def test_levels_of_equal_size_are_no_pyramid(tmp_path, backend):
    path = tmp_path / "z.tif"
    first, other = stained(512, 512, 1), stained(512, 512, 2)
    with tifffile.TiffWriter(path) as tif:
        tif.write(first, metadata=None, **RAW)
        tif.write(other, subfiletype=1, metadata=None, **RAW)
    with open_slide(path, mpp=0.5, backend=backend) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, (512, 512), 0.5).rgb, first)


def test_the_user_chooses_another_image(tmp_path):
    images = {"small": stained(512, 512, 1), "large": stained(900, 700, 2)}
    path = ome_file(tmp_path / "s.ome.tif", images)
    with open_slide(path, scene=1) as slide:
        np.testing.assert_array_equal(whole(slide), images["small"])
        assert "large (700 x 900) is not looked at" in slide.left_out[0]
        with pickle.loads(pickle.dumps(slide)) as copy:
            np.testing.assert_array_equal(whole(copy), images["small"])
    with pytest.raises(NotASlideError, match=r"has no image 3, only 2: small \(512 x 512\)"):
        open_slide(path, scene=3)
    one = write(tmp_path / "one.tif", [stained(300, 300)])
    with pytest.raises(UsageError, match="has one image for the openslide reader"):
        open_slide(one, scene=2, backend="openslide")


def test_info_says_what_is_not_looked_at(tmp_path):
    path = ome_file(tmp_path / "s.ome.tif", {"a": stained(512, 512, 1), "b": stained(900, 700, 2)})
    facts = slide_facts(path)
    assert ("looked at", "1 of 2 images of the file; a (512 x 512) is not looked at") in facts.rows
    assert json.loads(json.dumps(facts.to_dict()))["left_out"]


@pytest.mark.parametrize(("tile", "size"), [(256, (1000, 700)), (512, (3000, 1100))])
@pytest.mark.parametrize("backend", ["tiff", "openslide"])
def test_levels_padded_to_whole_tiles_are_not_stretched(tmp_path, tile, size, backend):
    """A level of 512 of 1000 pixels was halved and padded: its pixels lie two apart, not 1.95."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, 0 * x + 128], -1).astype(np.uint8)
    levels = [image]
    while max(levels[-1].shape) > 2 * tile:
        levels.append(levels[-1][::2, ::2])
    padded = [image]
    for level in levels[1:]:
        rows, columns = (-(-side // tile) * tile for side in level.shape[:2])
        full = np.zeros((rows, columns, 3), np.uint8)
        full[: level.shape[0], : level.shape[1]] = level
        padded.append(full)
    path = write(tmp_path / "padded.tif", padded, tile=(tile, tile), compression="deflate")
    with open_slide(path, mpp=0.25, backend=backend) as slide:
        assert slide.level_downsamples == tuple(2.0**i for i in range(len(levels)))
        for level, (w, h) in enumerate(slide.level_dimensions):
            region = slide.read_level(level, 0, 0, w + 40, h + 40)
            np.testing.assert_array_equal(region.rgb[:h, :w], levels[level])
            assert region.coverage is not None
            assert not region.coverage[h:].any()
            assert (region.rgb[h:] == 255).all()


# What users reported.


def test_reported_ome_set(field_case):
    folder = field_case("ome_multi_file")
    for path in sorted(folder.glob("*/*.tif")):
        with open_slide(path) as slide:
            np.testing.assert_array_equal(whole(slide), tifffile.TiffFile(path).pages[0].asarray())


def test_reported_files_of_several_images(field_case):
    folder = field_case("ome_several_images")
    with open_slide(folder / "two_scenes.ome.tif") as slide:
        assert (slide.width, slide.height) == (1280, 1280)
        assert slide.left_out == (
            "1 of 2 images of the file; scene 1 (512 x 512) is not looked at",
        )
    with open_slide(folder / "label_first.ome.tif") as slide:
        assert (slide.width, slide.height) == (1280, 1280)
    with open_slide(folder / "zstack.ome.tif") as slide:
        assert slide.left_out == ("plane 1 of 3",)

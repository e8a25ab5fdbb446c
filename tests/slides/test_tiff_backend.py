"""The direct TIFF reader gives OpenSlide's pixels, whatever the file looks like."""

from __future__ import annotations

import pickle
import threading

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from slide_files import jpeg_tiles, sparse, stained, write

from wsi_anomaly.core.errors import MissingMppError, NotASlideError
from wsi_anomaly.slides import Bounds, open_slide, read_squares

APERIO = "Aperio Image Library v11.2.1\r\n{w}x{h} (240x240) JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990"


def assert_same_pixels(path) -> None:
    """Every level, whole, at random places and across the edges."""
    with (
        open_slide(path, backend="tiff", require_mpp=False) as ours,
        open_slide(path, backend="openslide", require_mpp=False) as theirs,
    ):
        assert ours.level_dimensions == theirs.level_dimensions
        assert ours.level_downsamples == theirs.level_downsamples
        assert ours.bounds == theirs.bounds
        assert ours.background == theirs.background
        assert ours.objective_power == theirs.objective_power
        for level, (width, height) in enumerate(ours.level_dimensions):
            rng = np.random.default_rng(level)
            places = [(0, 0, min(width, 2048), min(height, 2048))]
            if ours.level_downsamples[level] == theirs._handle.level_downsamples[level]:
                places += [(-40, -30, 300, 200), (width - 200, height - 100, 333, 222)]
                places += [
                    (*(int(rng.integers(0, side)) for side in (width, height)), 200, 150)
                    for _ in range(5)
                ]
            for place in places:
                a, b = ours.read_level(level, *place), theirs.read_level(level, *place)
                np.testing.assert_array_equal(a.rgb, b.rgb, err_msg=f"{level} {place}")
                assert (a.coverage is None) == (b.coverage is None)
                if a.coverage is not None:
                    np.testing.assert_array_equal(a.coverage, b.coverage)


@pytest.mark.parametrize(
    "name", ["larynx_40x.tif", "cmu1_small_region.svs", "tcga_no_mpp.svs", "oral_scc_4x.tif"]
)
def test_real_slides_have_openslides_pixels(real_data, name):
    assert_same_pixels(real_data / "slides" / name)


def test_real_slides_have_openslides_pixel_size(real_data):
    for name in ("larynx_40x.tif", "cmu1_small_region.svs", "oral_scc_4x.tif"):
        path = real_data / "slides" / name
        with open_slide(path) as ours, open_slide(path, backend="openslide") as theirs:
            assert (ours.backend, theirs.backend) == ("tiff", "openslide")
            assert (ours.mpp.x, ours.mpp.y) == pytest.approx((theirs.mpp.x, theirs.mpp.y), 1e-12)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "jpeg", "photometric": "rgb"},
        {"compression": "jpeg", "photometric": "ycbcr"},
        {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 1)},
        {"compression": "jpeg", "compressionargs": {"level": 40}},
        {"compression": "deflate"},
        {"compression": "lzw", "predictor": True},
        {"compression": None},
        {"compression": "jpeg", "tile": (128, 240)},
    ],
    ids=lambda o: "-".join(str(v) for v in o.values()).replace(" ", ""),
)
def test_any_coding_has_openslides_pixels(tmp_path, options, bigtiff):
    image = stained(700, 900)
    path = write(tmp_path / "s.tif", [image, image[::2, ::2]], bigtiff=bigtiff, **options)
    assert_same_pixels(path)


def test_grey_is_three_equal_colours(tmp_path):
    path = write(tmp_path / "grey.tif", [stained(500, 600)[..., 0]], photometric="minisblack")
    assert_same_pixels(path)


@given(width=st.integers(1, 700), height=st.integers(1, 700), tile=st.sampled_from([64, 256]))
def test_any_size_has_openslides_pixels(tmp_path_factory, width, height, tile):
    path = tmp_path_factory.mktemp("size") / "s.tif"
    write(path, [stained(height, width)], tile=(tile, tile), compression="deflate")
    assert_same_pixels(path)


def test_sparse_files_have_openslides_bounds_and_coverage(tmp_path):
    image = stained(1000, 1200)
    missing = {(0, column) for column in range(5)} | {(row, 0) for row in range(4)} | {(2, 2)}
    path = sparse(tmp_path / "sparse.tif", image, missing)
    assert_same_pixels(path)
    with open_slide(path, backend="tiff", mpp=0.5) as slide:
        assert slide.bounds == Bounds(256, 256, 944, 744)
        hole = slide.read(512 + 16, 512 + 16, (64, 64), 1.0)
        assert hole.coverage is not None
        assert not hole.coverage.any()
        assert (hole.rgb == 255).all()
        whole = slide.read(768, 512, (64, 64), 1.0)
        assert whole.coverage is None


def test_aperio_levels_are_its_tiled_pages(tmp_path):
    """Thumbnail, label and macro are not levels."""
    path = tmp_path / "a.svs"
    image = stained(960, 1200)
    jpeg = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path) as tif:
        described = {"description": APERIO.format(w=1200, h=960)}
        tif.write(image, tile=(240, 240), **jpeg, **described)
        tif.write(image[::4, ::4], rowsperstrip=16, **jpeg, **described)
        tif.write(image[::4, ::4], tile=(240, 240), **jpeg, **described)
        tif.write(image[:300, :400], rowsperstrip=400, subfiletype=1, **jpeg,
                  description="Aperio Image Library v11.2.1\r\nlabel 400x300")  # fmt: skip
        tif.write(image[:200, :700], rowsperstrip=400, subfiletype=9, **jpeg,
                  description="Aperio Image Library v11.2.1\r\nmacro 700x200")  # fmt: skip
    assert_same_pixels(path)
    with open_slide(path) as slide:
        assert slide.level_dimensions == ((1200, 960), (300, 240))
        assert slide.level_downsamples == (1.0, 4.0)
        assert (slide.mpp.x, slide.objective_power) == (0.499, 20)


def test_jpeg_2000_of_aperio_has_openslides_pixels(tmp_path):
    image = stained(512, 512)

    def tiles():
        for row in range(2):
            for column in range(2):
                part = image[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
                yield imagecodecs.jpeg2k_encode(
                    np.ascontiguousarray(part), codecformat="j2k", level=40, mct=False
                )

    for compression in (33003, 33005):
        path = tmp_path / f"{compression}.svs"
        with tifffile.TiffWriter(path) as tif:
            tif.write(
                tiles(), shape=image.shape, dtype="uint8", tile=(256, 256), photometric="rgb",
                compression=compression, metadata=None, description=APERIO.format(w=512, h=512),
            )  # fmt: skip
        assert_same_pixels(path)


@pytest.mark.parametrize("planar", [False, True])
def test_ome_tiff_with_sub_resolutions(tmp_path, planar):
    path = tmp_path / "s.ome.tif"
    image = stained(600, 800)

    def stored(array):
        return np.moveaxis(array, -1, 0) if planar else array

    axes = "CYX" if planar else "YXS"
    options = {"tile": (256, 256), "compression": "deflate"}
    options["photometric"] = "minisblack" if planar else "rgb"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(
            stored(image), subifds=1, **options,
            metadata={"axes": axes, "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm",
                      "PhysicalSizeY": 0.26, "PhysicalSizeYUnit": "µm"},
        )  # fmt: skip
        tif.write(stored(image[::2, ::2]), subfiletype=1, **options)
    with open_slide(path) as slide:
        assert slide.backend == "tiff"
        assert (slide.mpp.x, slide.mpp.y) == pytest.approx((0.25, 0.26))
        assert slide.level_downsamples == (1.0, 2.0)
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 800, 600).rgb, image)
        np.testing.assert_array_equal(slide.read_level(1, 0, 0, 400, 300).rgb, image[::2, ::2])


@pytest.mark.parametrize(
    "options",
    [
        {"compression": None, "rowsperstrip": 700},
        {"compression": None, "rowsperstrip": 64},
        {"compression": "lzw", "rowsperstrip": 100},
        {"compression": "jpeg", "rowsperstrip": 64, "compressionargs": {"level": 95}},
        {"compression": None, "planarconfig": "separate", "rowsperstrip": 50},
    ],
    ids=lambda o: "-".join(str(v) for v in o.values()).replace(" ", ""),
)
def test_plain_tiff_that_openslide_refuses(tmp_path, options):
    path = tmp_path / "plain.tif"
    image = stained(700, 901)
    stored = np.moveaxis(image, -1, 0) if "planarconfig" in options else image
    tifffile.imwrite(path, stored, photometric="rgb", metadata=None, **options)
    expected = tifffile.imread(path)
    expected = np.moveaxis(expected, 0, -1) if "planarconfig" in options else expected
    with pytest.raises(MissingMppError, match="--mpp"):
        open_slide(path)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.backend == "tiff"
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 901, 700).rgb, expected)
        np.testing.assert_array_equal(
            slide.read_level(0, 333, 111, 444, 222).rgb, expected[111:333, 333:777]
        )


def test_a_real_plain_tiff(real_data):
    path = real_data / "odd_files" / "plain_rgb.tif"
    with open_slide(path, mpp=0.5) as slide:
        np.testing.assert_array_equal(
            slide.read_level(0, 0, 0, slide.width, slide.height).rgb, tifffile.imread(path)
        )


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "reason"),
    [
        ((300, 400, 3), "uint16", {"photometric": "rgb"}, "16 bits"),
        ((5, 300, 400), "uint8", {"photometric": "minisblack", "ome": True}, "axes"),
        ((300, 400), "uint8", {"photometric": "miniswhite"}, "colours are coded"),
    ],
)
def test_a_tiff_that_no_reader_takes_says_why(tmp_path, shape, dtype, options, reason):
    path = tmp_path / "odd.tif"
    ome = options.pop("ome", None)
    metadata = {"axes": "CYX"} if ome else None
    tifffile.imwrite(path, np.ones(shape, dtype), ome=ome, metadata=metadata, **options)
    with pytest.raises(NotASlideError, match=reason) as caught:
        open_slide(path, mpp=0.5)
    assert str(caught.value).count(". ") == 0
    assert "convert it" in str(caught.value)


def test_a_slide_travels_between_processes_by_its_path(tmp_path):
    path = write(tmp_path / "s.tif", [stained(300, 300)])
    for backend in ("tiff", "openslide"):
        with (
            open_slide(path, mpp=0.3, backend=backend) as slide,
            pickle.loads(pickle.dumps(slide)) as copy,
        ):
            assert copy.backend == backend
            assert copy.mpp == slide.mpp
            a, b = (s.read(20, 30, (50, 50), 0.5).rgb for s in (slide, copy))
            np.testing.assert_array_equal(a, b)


def test_threads_share_a_slide(tmp_path):
    image = stained(1024, 1024)
    path = write(tmp_path / "s.tif", [image], compression="deflate", tile=(64, 64))
    wrong = []
    with open_slide(path, backend="tiff") as slide:
        slide._cache.max_bytes = 20 * 64 * 64 * 3  # so that tiles are dropped while others read

        def work(seed):
            rng = np.random.default_rng(seed)
            for _ in range(60):
                x, y = rng.integers(0, 900, 2)
                here = slide.read_level(0, int(x), int(y), 120, 120).rgb
                if not (here == image[y : y + 120, x : x + 120]).all():
                    wrong.append((x, y))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert slide._cache.bytes <= slide._cache.max_bytes
    assert not wrong


def test_each_compressed_tile_is_decoded_once_a_pass(tmp_path, monkeypatch):
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    with open_slide(path, backend="tiff", mpp=0.5) as slide:
        decoded = []
        decode = slide._decode
        monkeypatch.setattr(slide, "_decode", lambda *a: decoded.append(a[1:]) or decode(*a))
        for y in range(0, 1024, 128):
            for x in range(0, 1024, 128):
                slide.read(x, y, (64, 64), 1.0)
        assert len(decoded) == len(set(decoded)) == 16


@pytest.mark.parametrize(("corner", "decoded"), [((256, 512), 1), ((256, 511), 2), ((255, 511), 4)])
def test_a_field_of_whole_pixels_needs_no_others(tmp_path, monkeypatch, corner, decoded):
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    with open_slide(path, backend="tiff", mpp=0.25) as slide:
        places = []
        decode = slide._decode
        monkeypatch.setattr(slide, "_decode", lambda *a: places.append(a[1:]) or decode(*a))
        read_squares(slide, np.array([corner]), 256, 0.25)
        one_by_one, places[:] = len(places), []
        slide._cache.clear()
        read_squares(slide, np.array([corner, (corner[0] + 256, corner[1])]), 256, 0.25)
        assert (one_by_one, len(places)) == (decoded, decoded + (2 if decoded == 4 else decoded))


def test_a_closed_slide_opens_again_when_it_is_read(tmp_path):
    path = write(tmp_path / "s.tif", [stained(300, 300)])
    for backend in ("tiff", "openslide"):
        slide = open_slide(path, backend=backend)
        before = slide.read_level(0, 0, 0, 300, 300).rgb
        slide.close()
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 300, 300).rgb, before)
        slide.close()


def test_layouts_that_are_a_vendors_own_go_to_openslide(tmp_path):
    """Aperio fills a level's missing tiles from the finer one: OpenSlide knows how."""
    path = tmp_path / "a.svs"
    image = stained(512, 512)
    options = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "tile": (256, 256)}
    described = {"description": APERIO.format(w=512, h=512)}
    with tifffile.TiffWriter(path) as tif:
        tif.write(image, **options, **described)
        small = jpeg_tiles(image[::2, ::2], {(0, 0)}, tile=128)
        options["tile"] = (128, 128)
        tif.write(small, shape=(256, 256, 3), dtype="uint8", **options, **described)
    with open_slide(path) as slide:
        assert slide.backend == "openslide"
    with pytest.raises(NotASlideError, match=r"missing.*leave the backend to be chosen"):
        open_slide(path, backend="tiff")
    philips = write(tmp_path / "p.tif", [image], software="Philips DP v1.0")
    with pytest.raises(NotASlideError, match="vendor's own"):
        open_slide(philips, backend="tiff")

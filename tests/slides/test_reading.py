"""Reading at a requested resolution: the right place, the right size, no aliasing, any backend."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slide_files import sparse, stained, write

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.slides import Bounds, open_slide, read_squares
from wsi_anomaly.slides.base import Mpp, Region, Slide, SlideInfo
from wsi_anomaly.slides.levels import exact_level, exact_levels
from wsi_anomaly.slides.openslide_backend import composite
from wsi_anomaly.slides.physical import find_mpp, mpp_problem, objective_power
from wsi_anomaly.slides.resample import resample
from wsi_anomaly.synthetic import make_slide

BACKENDS = ["tiff", "openslide"]


class ArraySlide(Slide):
    """A slide of arrays: what the shared part of reading does, without a file."""

    backend = "array"

    def __init__(self, levels, mpp, bounds=None):
        height, width = levels[0].shape[:2]
        self.levels = levels
        super().__init__(
            path=Path("array.tif"),
            info=SlideInfo(
                width, height, tuple(a.shape[1::-1] for a in levels),
                tuple(float(width / a.shape[1]) for a in levels),
                Mpp(*mpp, "test"), bounds or Bounds(0, 0, width, height), (255, 255, 255), None, {},
            ),
        )  # fmt: skip

    def close(self):
        pass

    def read_level(self, level, x, y, width, height):
        source = self.levels[level]
        out = np.full((height, width, 3), 255, np.uint8)
        covered = np.zeros((height, width), bool)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, source.shape[1]), min(y + height, source.shape[0])
        if left < right and top < bottom:
            here = np.s_[top - y : bottom - y, left - x : right - x]
            out[here], covered[here] = source[top:bottom, left:right], True
        return Region(out, None if covered.all() else covered)


def ramp(height, width, top=0, left=0, step=1.0):
    """Red rises from left to right and green from top to bottom: a place can be read off."""
    image = np.zeros((height, width, 3))
    image[..., 0] = left + (np.arange(width) + 0.5) * step
    image[..., 1] = (top + (np.arange(height) + 0.5) * step)[:, None]
    return image


@given(
    x=st.floats(20, 60), y=st.floats(20, 60), mpp=st.floats(0.25, 2.0),
    size=st.integers(8, 40), aspect=st.floats(0.8, 1.25),
)  # fmt: skip
def test_every_pixel_lies_where_it_should(x, y, mpp, size, aspect):
    """On a linear ramp any resampling is exact: a shift or a wrong scale shows at once."""
    slide = ArraySlide([np.rint(ramp(255, 255)).astype(np.uint8)], (0.5, 0.5 * aspect))
    read = slide.read(x, y, (size, size), mpp).rgb.astype(float)
    expected_x = x + (np.arange(size) + 0.5) * mpp / 0.5
    expected_y = y + (np.arange(size) + 0.5) * mpp / (0.5 * aspect)
    inside_x, inside_y = expected_x < 245, expected_y < 245
    assert np.abs(read[0, inside_x, 0] - expected_x[inside_x]).max(initial=0) < 1.2
    assert np.abs(read[inside_y, 0, 1] - expected_y[inside_y]).max(initial=0) < 1.2


@pytest.mark.parametrize("scale", [0.5, 0.85, 1.0, 1.7, 2.0, 3.41, 8.0])
def test_resampling_is_pillows_bicubic(scale):
    source = stained(200, 240)
    width, height = int(200 / scale), int(160 / scale)
    box = (10.3, 12.7, 10.3 + width * scale, 12.7 + height * scale)
    theirs = np.asarray(
        Image.fromarray(source).resize((width, height), Image.Resampling.BICUBIC, box=box)
    )
    ours = resample(source, box[0], box[1], scale, scale, (width, height))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_reducing_does_not_alias():
    """Stripes finer than the result can hold become their mean, not coarser stripes."""
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 254
    out = resample(stripes, 0.0, 0.0, 3.3, 3.3, (150, 150))
    assert np.abs(out[5:-5, 5:-5].astype(int) - 127).max() <= 3


@given(x=st.floats(30, 80), scale=st.floats(0.5, 3.0))
def test_how_much_of_the_source_is_at_hand_changes_nothing(x, scale):
    source = stained(220, 300, seed=3)
    whole = resample(source, x, 31.4, scale, scale, (30, 30))
    cut = np.ascontiguousarray(source[10:, 10:])
    np.testing.assert_array_equal(whole, resample(cut, x, 31.4, scale, scale, (30, 30), (10, 10)))


def test_whole_pixels_are_copied_not_resampled():
    source = stained(100, 100)
    out = resample(source, 17.0, 23.0, 1.0, 1.0, (40, 50))
    np.testing.assert_array_equal(out, source[23:73, 17:57])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mpp", [0.293, 0.2931, 0.5, 0.586, 1.0, 2.3])
def test_many_squares_are_the_single_reads_to_the_bit(tmp_path, backend, mpp):
    image = stained(900, 1100)
    path = write(tmp_path / "s.tif", [image, image[::2, ::2]], mpp=0.293)
    rng = np.random.default_rng(0)
    # One row within the slide, one over its lower edge and at last over both.
    rows = [(int(x), y) for y in (101, 880) for x in np.arange(20, 1090, 0.7 * 48 * mpp / 0.293)]
    coords = np.array(rows + [tuple(rng.integers(-60, 1000, 2)) for _ in range(20)] + [(0, 0)])
    with open_slide(path, backend=backend) as slide:
        squares = read_squares(slide, coords, 48, mpp)
        for (x, y), rgb, coverage in zip(coords, squares.rgb, squares.coverage, strict=True):
            region = slide.read(float(x), float(y), (48, 48), mpp)
            np.testing.assert_array_equal(rgb, region.rgb)
            share = 1.0 if region.coverage is None else region.coverage.mean()
            assert coverage == pytest.approx(share)


def test_the_best_level_is_the_coarsest_with_the_detail():
    levels = [np.zeros((side, side, 3), np.uint8) for side in (1024, 512, 256)]
    slide = ArraySlide(levels, (0.25, 0.25))
    assert [slide.best_level(m) for m in (0.1, 0.25, 0.4, 0.49, 0.5, 0.9, 1.0, 8.0)] == [
        0, 0, 0, 1, 1, 1, 2, 2,
    ]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_levels_agree_on_where_things_are(tmp_path, backend):
    """The same field at 10x, 20x and 40x shows the same place, whatever level it comes from."""
    full = np.clip(ramp(1000, 1000, step=0.25), 0, 255).astype(np.uint8)
    levels = [full, full[::2, ::2], full[::4, ::4]]
    path = write(tmp_path / "s.tif", levels, mpp=0.25, compression="deflate")
    with open_slide(path, backend=backend) as slide:
        for mpp, size in ((1.0, 64), (0.5, 128), (0.25, 256)):
            rgb = slide.read(333, 222, (size, size), mpp).rgb.astype(float)
            assert rgb[..., 0].mean() == pytest.approx((333 + 128) / 4, abs=0.8)
            assert rgb[..., 1].mean() == pytest.approx((222 + 128) / 4, abs=0.8)


def test_rounded_sizes_do_not_stretch_a_level():
    assert exact_level((4443, 3567), (2221, 1783), 2.0005) == (2, (2221, 1783))
    assert exact_level((11264, 11264), (704, 704), 16.0) == (16, (704, 704))
    assert exact_level((1000, 1000), (300, 300), 3.3333) == (3.3333, (300, 300))


@pytest.mark.parametrize("scales", [(2, 4, 8), (4, 16), (3, 9), (4, 8), (2, 8)])
def test_levels_padded_to_whole_tiles_go_on_as_they_began(scales):
    """Several downsamples may explain a padded size; in one tile any from some on does."""
    full, tile = (4500, 3009), (256, 256)

    def padded(side: int, scale: int) -> int:
        return math.ceil(math.ceil(side / scale) / 256) * 256

    sizes = [(padded(full[0], s), padded(full[1], s)) for s in scales]
    levels = [(full, 1.0, tile), *((size, full[0] / size[0], tile) for size in sizes)]
    assert [scale for scale, _ in exact_levels(full, levels)] == [1, *scales]
    assert exact_levels(full, levels)[1][1] == tuple(math.ceil(side / scales[0]) for side in full)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bounds_are_where_a_sparse_slide_was_scanned(tmp_path, backend):
    missing = {(0, column) for column in range(4)} | {(row, 0) for row in range(4)}
    path = sparse(tmp_path / "s.tif", stained(1000, 1000), missing)
    with open_slide(path, backend=backend, mpp=1.0) as slide:
        assert slide.bounds == Bounds(256, 256, 744, 744)
        assert slide.thumbnail(372).shape == (372, 372, 3)
        assert (slide.thumbnail(372) < 250).any(-1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_beyond_the_slide_is_background_and_not_covered(tmp_path, backend):
    path = write(tmp_path / "s.tif", [stained(300, 400)], mpp=1.0)
    with open_slide(path, backend=backend) as slide:
        region = slide.read(-32, -32, (64, 64), 1.0)
        assert region.coverage is not None
        assert region.coverage.sum() == 32 * 32
        assert (region.rgb[:30, :30] == 255).all()
        far = slide.read(5000, 5000, (16, 16), 1.0)
        assert (far.rgb == 255).all()
        assert not far.coverage.any()


def test_transparent_is_background_not_black():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[1, 1] = (100, 100, 100, 128)
    region = composite(rgba, (240, 230, 220))
    assert region.rgb[0, 0].tolist() == [10, 20, 30]
    assert region.rgb[0, 1].tolist() == [240, 230, 220]
    assert region.rgb[1, 1].tolist() == pytest.approx([170, 165, 160], abs=1)
    assert region.coverage.tolist() == [[True, False], [False, True]]
    opaque = composite(np.full((2, 2, 4), 255, np.uint8), (0, 0, 0))
    assert opaque.coverage is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_large_region_is_read_in_parts_with_the_same_pixels(tmp_path, backend, monkeypatch):
    path = write(tmp_path / "s.tif", [stained(700, 900)], mpp=0.5)
    with open_slide(path, backend=backend) as slide:
        whole = slide.read(3.5, 7.25, (300, 230), 1.1)
        monkeypatch.setattr("wsi_anomaly.slides.base._MAX_SOURCE_PX", 20_000)
        parts = slide.read(3.5, 7.25, (300, 230), 1.1)
    assert np.abs(whole.rgb.astype(int) - parts.rgb).max() <= 1


PROPERTIES = [
    ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26", "aperio.MPP": "0.5"}, (0.25, 0.26)),
    ({"aperio.MPP": "0.4990", "tiff.XResolution": "1"}, (0.499, 0.499)),
    ({"ome.PhysicalSizeX": "0.3", "ome.PhysicalSizeY": "0.31"}, (0.3, 0.31)),
    (
        {"tiff.XResolution": "40000", "tiff.YResolution": "20000",
         "tiff.ResolutionUnit": "centimeter"},
        (0.25, 0.5),
    ),
    (
        {"tiff.XResolution": "50800", "tiff.YResolution": "50800", "tiff.ResolutionUnit": "inch"},
        (0.5, 0.5),
    ),
    ({"openslide.objective-power": "20"}, (0.5, 0.5)),
    ({"aperio.AppMag": "40"}, (0.25, 0.25)),
    ({"ome.NominalMagnification": "40"}, (0.25, 0.25)),
    ({"tiff.XResolution": "72", "tiff.YResolution": "72", "tiff.ResolutionUnit": "inch"}, None),
    ({"openslide.mpp-x": "nan", "openslide.mpp-y": "0"}, None),
    ({"aperio.MPP": "unknown", "aperio.AppMag": ""}, None),
    ({"aperio.MPP": "0,2500", "aperio.AppMag": "20"}, (0.25, 0.25)),
    ({"openslide.mpp-x": "0,25", "openslide.mpp-y": ",26"}, (0.25, 0.26)),
    ({"ome.PhysicalSizeX": "5e-1", "ome.PhysicalSizeY": "0,5"}, (0.5, 0.5)),
    ({"aperio.AppMag": "40x"}, (0.25, 0.25)),
    ({"ome.NominalMagnification": "20,0"}, (0.5, 0.5)),
    ({"aperio.MPP": "0", "aperio.AppMag": "40"}, (0.25, 0.25)),
    ({"aperio.MPP": "1.0", "aperio.AppMag": "40"}, (1.0, 1.0)),  # a reduced copy
    ({"aperio.MPP": "0.17", "aperio.AppMag": "20"}, (0.17, 0.17)),  # a zoom behind the objective
    (
        {"openslide.vendor": "generic-tiff", "openslide.mpp-x": "353", "openslide.mpp-y": "353",
         "ome.PhysicalSizeX": "0.5", "ome.PhysicalSizeY": "0.5"},
        (0.5, 0.5),
    ),
    ({"openslide.mpp-x": "-0.25", "openslide.mpp-y": "-0.25", "aperio.AppMag": "40"}, (0.25, 0.25)),
    ({}, None),
]  # fmt: skip


@pytest.mark.parametrize(("properties", "expected"), PROPERTIES)
def test_pixel_size_from_whoever_says_it(properties, expected):
    mpp = find_mpp(properties)
    assert (None if mpp is None else (mpp.x, mpp.y)) == (
        None if expected is None else pytest.approx(expected)
    )


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({"aperio.MPP": "unknown"}, "'unknown' (aperio.MPP), which is no number"),
        ({"aperio.MPP": "0.25 um"}, "'0.25 um' (aperio.MPP), which is no number"),
        ({"aperio.MPP": "1,000.5"}, "which is no number"),
        ({"aperio.MPP": "250"}, "250 um per pixel (aperio.MPP), which no slide has"),
        ({"ome.PhysicalSizeX": "0.5 parsec", "ome.PhysicalSizeY": "0.5 parsec"}, "0.5 parsec"),
        (
            {"openslide.vendor": "mirax", "openslide.mpp-x": "250", "openslide.mpp-y": "250"},
            "250 um per pixel (openslide.mpp)",
        ),
        (
            {"aperio.MPP": "0.025"},
            "0.025 um per pixel (aperio.MPP) beside an objective of 40x, which gives about 0.25 um",
        ),
    ],
)
def test_what_cannot_be_a_pixel_size_is_named_and_not_replaced(stated, problem):
    worse = {
        "tiff.XResolution": "20000", "tiff.YResolution": "20000",
        "tiff.ResolutionUnit": "centimeter", "openslide.objective-power": "40",
    }  # fmt: skip
    assert find_mpp(stated | worse) is None
    assert problem in mpp_problem(stated | worse)
    assert find_mpp(stated | worse, 0.25) == Mpp(0.25, 0.25, "--mpp")
    assert find_mpp(worse) == Mpp(0.5, 0.5, "TIFF resolution")
    assert mpp_problem(worse) == ""


def test_the_users_pixel_size_wins_and_must_be_plausible():
    properties = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
    assert find_mpp(properties, 0.4) == Mpp(0.4, 0.4, "--mpp")
    for nonsense in (0, -1, 500, math.nan, math.inf):
        with pytest.raises(UsageError, match="not plausible"):
            find_mpp(properties, nonsense)
    assert objective_power({"openslide.objective-power": "nan"}) is None


def test_fluorescence_ndpi_goes_through_openslide(real_data):
    with open_slide(real_data / "odd_files" / "fluorescence.ndpi") as slide:
        assert slide.backend == "openslide"
        assert slide.read(1000, 1000, (64, 64), 0.5).coverage is None


@pytest.mark.parametrize(("mpp", "most_reads"), [(0.25, 1), (0.3, 2)], ids=["copied", "resampled"])
def test_a_field_over_the_edge_does_not_have_its_row_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mpp: float, most_reads: int
) -> None:
    make_slide(tmp_path / "slide.tif", seed=1, size_px=(1000, 520))
    with open_slide(tmp_path / "slide.tif", mpp=0.25) as slide:
        for y in (0, 300):  # the second row hangs over the lower edge as a whole
            coords = np.array([(x, y) for x in range(0, 1000, 256)])  # the last ends at 1,024
            expected = [slide.read(x, y, (256, 256), mpp) for x, _ in coords.tolist()]
            reads = []
            with monkeypatch.context() as patched:
                patched.setattr(
                    slide,
                    "stored",
                    lambda *of, stored=slide.stored, seen=reads: (seen.append(of), stored(*of))[1],
                )
                squares = read_squares(slide, coords, 256, mpp)
            np.testing.assert_array_equal(squares.rgb, [region.rgb for region in expected])
            shares = [1 if r.coverage is None else r.coverage.mean() for r in expected]
            np.testing.assert_allclose(squares.coverage, shares)
            assert len(reads) <= most_reads


def test_places_that_were_never_scanned_do_not_have_their_row_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sparse(tmp_path / "sparse.tif", stained(1000, 1000), {(0, 1), (0, 2), (1, 2)})
    with open_slide(path, backend="tiff", mpp=1.0) as slide:
        coords = np.array([(x, 240) for x in range(0, slide.width - 64, 64)])
        expected = [slide.read(x, y, (64, 64), slide.mpp.x) for x, y in coords.tolist()]
        reads = []
        monkeypatch.setattr(
            slide, "stored", lambda *of, stored=slide.stored: (reads.append(of), stored(*of))[1]
        )
        squares = read_squares(slide, coords, 64, slide.mpp.x)
    np.testing.assert_array_equal(squares.rgb, [region.rgb for region in expected])
    shares = [1 if r.coverage is None else r.coverage.mean() for r in expected]
    assert 0 < np.mean(shares) < 1
    np.testing.assert_allclose(squares.coverage, shares)
    assert len(reads) == 1

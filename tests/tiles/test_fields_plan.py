"""Fields lie where they should, to the pixel, and only where they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from tile_fakes import ArraySlide

from wsi_anomaly.annotations import Outline
from wsi_anomaly.slides import BACKGROUND, FOLD, MASKED, PEN, TISSUE, UNREADABLE, TissueMap
from wsi_anomaly.tiles import Status, plan_fields

BLANK = np.zeros((4, 4, 3), np.uint8)


class BigSlide(ArraySlide):
    """A slide of any size without pixels."""

    def __init__(self, width: int, height: int, mpp: tuple[float, float], bounds=None) -> None:
        super().__init__(np.broadcast_to(np.uint8(0), (height, width, 3)), mpp, bounds)


def all_tissue(slide: ArraySlide, label: int = TISSUE) -> TissueMap:
    shape = (
        int(np.ceil(slide.bounds.height * slide.mpp.y / 8)),
        int(np.ceil(slide.bounds.width * slide.mpp.x / 8)),
    )
    return TissueMap.over(slide, np.full(shape, label, np.uint8), (255.0, 255.0, 255.0))


@given(
    st.floats(0.1, 1.2), st.floats(0.1, 1.2), st.integers(32, 192), st.integers(0, 500),
    st.integers(0, 500),
)  # fmt: skip
def test_every_corner_is_within_half_a_pixel_of_its_exact_place(
    mpp_x: float, mpp_y: float, stride: int, left: int, top: int
) -> None:
    slide = BigSlide(9000, 7000, (mpp_x, mpp_y), (left, top, 8000, 6000))
    fields = plan_fields(slide, all_tissue(slide), field_um=64, stride_um=stride, min_tissue=0)
    exact = np.stack(
        (left + fields.col * (stride / mpp_x), top + fields.row * (stride / mpp_y)), axis=1
    )
    assert np.abs(fields.coords - exact).max(initial=0) <= 0.5 + 1e-6
    assert (fields.coords <= (left + 8000, top + 6000)).all()
    assert len(fields) == fields.grid_shape[0] * fields.grid_shape[1]


def test_rounding_never_adds_up() -> None:
    """256 px at 0.5 um on a 0.2527 um slide is a stride of 506.53 px, not of 507."""
    slide = BigSlide(160_000, 1000, (0.2527, 0.2527))
    fields = plan_fields(slide, all_tissue(slide), field_um=128, min_tissue=0)
    last = fields.coords[fields.col == 300][0, 0]
    assert last == round(300 * 128 / 0.2527)
    assert abs(last - 300 * 507) > 100


@pytest.mark.parametrize("stride", [32, 64, 100])
@given(width=st.integers(20, 3000), height=st.integers(20, 3000))
def test_the_grid_reaches_the_right_and_the_lower_border(
    stride: int, width: int, height: int
) -> None:
    slide = BigSlide(width, height, (0.5, 0.5))
    fields = plan_fields(slide, all_tissue(slide), field_um=64, stride_um=stride, min_tissue=0)
    reached = (fields.coords + max(fields.field_level0[0], fields.stride_level0[0])).max(0)
    assert (reached >= (width, height)).all()
    assert (fields.coords < (width, height)).all(), "none lies outside"
    assert set(np.diff(np.unique(fields.coords[:, 0]))) <= {2 * stride}, "one stride"


def test_what_lies_outside_the_border_is_no_tissue() -> None:
    slide = BigSlide(2000, 2048, (0.5, 0.5))  # the last column has 80 of 128 pixels inside
    tissue = all_tissue(slide)
    fields = plan_fields(slide, tissue, field_um=64, min_tissue=0.6)
    assert len(fields) == 16 * 16
    assert fields.tissue_fraction[fields.col == 15] == pytest.approx(80 / 128)
    assert len(plan_fields(slide, tissue, field_um=64, min_tissue=0.65)) == 15 * 16


def test_tissue_in_no_field_is_counted() -> None:
    slide = BigSlide(2000, 2048, (0.5, 0.5))
    tissue = all_tissue(slide)
    fields = plan_fields(slide, tissue, field_um=64, min_tissue=0.65)
    left_over = tissue.outside_mm2(fields.coords, fields.field_level0)
    assert left_over == pytest.approx(0.040 * 1.024)
    tissue.labels[:, -1] = FOLD
    tissue.labels[:5] = BACKGROUND
    tissue.labels[-4:, -2:] = MASKED  # reported by itself
    left_over = tissue.outside_mm2(fields.coords, fields.field_level0)
    assert left_over == pytest.approx(0.040 * (1.024 - 0.040) - 8 * 0.008**2)


def test_a_slide_smaller_than_a_field_has_one() -> None:
    slide = BigSlide(100, 100, (0.5, 0.5))
    assert len(plan_fields(slide, all_tissue(slide), field_um=64)) == 1


def test_a_sample_is_the_same_each_time_and_another_for_another_seed() -> None:
    slide = BigSlide(8000, 8000, (0.5, 0.5))
    tissue = all_tissue(slide)
    first, again, other = (
        plan_fields(slide, tissue, field_um=64, max_tiles=100, seed=seed) for seed in (0, 0, 1)
    )
    assert len(first) == 100
    np.testing.assert_array_equal(first.coords, again.coords)
    assert (first.coords != other.coords).any()
    assert len({tuple(c) for c in first.coords.tolist()}) == 100


@pytest.mark.parametrize(
    ("label", "status"),
    [(PEN, Status.PEN), (FOLD, Status.FOLDED), (UNREADABLE, Status.FAILED), (TISSUE, Status.OK)],
)
def test_what_stands_on_a_field_decides_its_status(label: int, status: Status) -> None:
    slide = BigSlide(1920, 1920, (0.5, 0.5))
    fields = plan_fields(slide, all_tissue(slide, label), field_um=64, min_tissue=0.5)
    assert len(fields) == 15 * 15
    assert (fields.status == status).all()


def test_tissue_outside_a_mask_is_masked_where_too_little_lies_inside() -> None:
    slide = BigSlide(2048, 2048, (0.5, 0.5))
    found = all_tissue(slide)
    mask = all_tissue(slide)
    mask.labels[:, 61:] = BACKGROUND  # a field is 8 map pixels wide: the 8th keeps five of them
    mask.labels[:40] = BACKGROUND
    both = mask.with_masked(found)
    assert (both.labels[:40] == MASKED).all()
    fields = plan_fields(slide, both, field_um=64, min_tissue=0.5)
    assert len(fields) == 16 * 16
    masked = fields.status == Status.MASKED
    assert (masked == ((fields.col > 7) | (fields.row < 5))).all()
    assert fields.tissue_fraction == pytest.approx(1)
    alone = plan_fields(slide, mask, field_um=64, min_tissue=0.5)
    np.testing.assert_array_equal(alone.coords, fields.coords[~masked])


def test_a_narrow_rim_around_a_mask_is_not_masked() -> None:
    slide = BigSlide(2048, 2048, (0.5, 0.5))
    found, mask = all_tissue(slide), all_tissue(slide)
    mask.labels[:, 100:104] = BACKGROUND  # 32 um
    assert (mask.with_masked(found).labels != MASKED).all()


def test_a_sample_prefers_fields_that_can_be_judged() -> None:
    slide = BigSlide(2048, 2048, (0.5, 0.5))
    tissue = all_tissue(slide)
    tissue.labels[:, :64] = PEN
    fields = plan_fields(slide, tissue, field_um=64, max_tiles=100)
    assert (fields.status == Status.OK).all()


def test_tissue_fraction_and_its_limit() -> None:
    slide = BigSlide(2048, 2048, (0.5, 0.5))
    tissue = all_tissue(slide)
    tissue.labels[:, 60:] = BACKGROUND  # a field is 8 map pixels wide: the 8th keeps half
    some = plan_fields(slide, tissue, field_um=64, min_tissue=0.5)
    full = plan_fields(slide, tissue, field_um=64, min_tissue=1.0)
    assert set(some.col) == set(range(8))
    assert set(full.col) == set(range(7))
    assert some.tissue_fraction[some.col == 7] == pytest.approx(0.5)


def test_only_fields_inside_annotations_are_cut_and_know_their_class() -> None:
    slide = BigSlide(4096, 4096, (0.5, 0.5))
    outlines = [
        Outline("Tumour", shapely.box(0, 0, 520, 520)),
        Outline("Necrosis", shapely.box(1024, 0, 1300, 128)),
        Outline("Small", shapely.box(2000, 2000, 2100, 2100)),
    ]
    fields = plan_fields(slide, all_tissue(slide), field_um=64, outlines=outlines)
    assert fields.label is not None
    places = dict(zip(map(tuple, fields.coords.tolist()), fields.label.tolist(), strict=True))
    expected = {(x, y): "Tumour" for x in range(0, 512, 128) for y in range(0, 512, 128)}
    expected |= {(1024, 0): "Necrosis", (1152, 0): "Necrosis"}
    assert places == expected
    few = plan_fields(slide, all_tissue(slide), field_um=64, outlines=outlines, max_tiles=5)
    assert few.label is not None
    assert len(few) == len(few.label) == 5

"""What is read from slides: the right place, the right colour, and no more than needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_fakes import scored

from wsi_anomaly.evaluation import ScoredSlide
from wsi_anomaly.evaluation.pictures import field_colours, field_picture
from wsi_anomaly.slides import ReadError, Slide, find_tissue, open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import plan_fields

FIELD_UM = 64.0


def table_of(slide: Slide) -> ScoredSlide:
    """Every second field with tissue, in another order than the grid's."""
    fields = plan_fields(slide, find_tissue(slide), field_um=FIELD_UM, min_tissue=0.5)
    fields = fields.take(np.arange(len(fields))[::-2])
    return ScoredSlide(
        "slide", fields.coords, fields.field_level0, fields.stride_level0,
        (slide.mpp.x, slide.mpp.y), {"dpa": np.zeros(len(fields), np.float32)}, "dpa",
        fields.row, fields.col, np.zeros(len(fields), bool),
    )  # fmt: skip


def check(path: Path) -> None:
    with open_slide(path) as slide:
        table = table_of(slide)
        colours = field_colours(slide, table, FIELD_UM)
        side = round(FIELD_UM / 1.0)
        exact = [
            slide.read(float(x), float(y), (side, side), 1.0).rgb.mean(axis=(0, 1))
            for x, y in table.coords
        ]
        np.testing.assert_allclose(colours, exact, atol=6)
        assert np.abs(colours - exact).mean() < 1
        picture = field_picture(slide, table, 3, FIELD_UM)
        assert picture is not None
        x, y = (float(v) for v in table.coords[3])
        # As large as the slide has it, at most 160 pixels.
        assert len(picture) == min(160, round(FIELD_UM / slide.finest_mpp))
        size = (len(picture), len(picture))
        again = slide.read(x, y, size, max(FIELD_UM / 160, slide.finest_mpp)).rgb
        np.testing.assert_array_equal(picture, again)


def test_colours_and_pictures_are_of_the_fields(tmp_path: Path) -> None:
    check(make_slide(tmp_path / "slide.tif", seed=7, size_px=(1300, 1500), mpp=0.5).path)


def test_they_are_on_a_real_slide_as_well(real_data: Path) -> None:
    check(real_data / "slides" / "cmu1_small_region.svs")


def test_a_region_that_cannot_be_read_takes_its_own_fields_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_slide(tmp_path / "slide.tif", seed=7, size_px=(640, 3000), mpp=0.5).path
    with open_slide(path) as slide:
        table = table_of(slide)
        read = type(slide).read

        def fails_below(self: Slide, x: float, y: float, size: tuple[int, int], mpp: float):
            if y > 1000:
                raise ReadError("damaged")
            return read(self, x, y, size, mpp)

        monkeypatch.setattr(type(slide), "read", fails_below)
        monkeypatch.setattr("wsi_anomaly.evaluation.pictures._STRIP_PX", 32)
        known = np.isfinite(field_colours(slide, table, FIELD_UM)).all(axis=1)
        assert known[table.coords[:, 1] + table.field[1] < 1000].all()
        assert not known[table.coords[:, 1] > 1600].any()
        assert field_picture(slide, table, 0, FIELD_UM) is None


def test_a_slide_without_fields_has_no_colours(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "slide.tif", seed=7, size_px=(640, 640), mpp=0.5).path
    nothing = replace(scored("slide", np.zeros((10, 12))), coords=np.zeros((0, 2), np.int64))
    with open_slide(path) as slide:
        assert field_colours(slide, nothing, FIELD_UM).shape == (0, 3)

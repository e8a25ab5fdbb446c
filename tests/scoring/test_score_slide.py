"""Scoring a slide file, end to end without a network."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from scoring_fakes import FakeModel, make_slide
from shapely.geometry import box, mapping

from wsi_anomaly.core.errors import NotASlideError, NoTissueError, TooCoarseError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.prefetch import prefetch
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.tiles import Status


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return make_slide(tmp_path_factory.mktemp("slides") / "lesion.tif")


@pytest.fixture(scope="module")
def scored(slide):
    return score_slide(slide, FakeModel())


def test_the_lesion_is_flagged_and_nothing_else(scored):
    regions = scored.interpretation.regions
    lesion = box(512, 384, 832, 704)
    assert len(regions) == 1
    outline = regions[0].outline
    assert outline.is_valid
    assert outline.intersection(lesion).area > 0.8 * lesion.area
    assert outline.area < 2.5 * lesion.area
    assert regions[0].area_mm2 == pytest.approx(outline.area / 1e6, rel=0.01)
    peak = scored.fields.coords[regions[0].peak] + 32
    assert lesion.buffer(40).contains(box(*peak, *peak + 1))


def test_every_field_has_scores_or_a_reason(scored):
    assert set(scored.scores) == {"dark", "red"}
    assert (np.isfinite(scored.score) == (scored.status == Status.OK)).all()
    assert scored.interpretation.percentile[scored.assessed].max() == 100
    assert scored.interpretation.slide_score == np.nanmax(scored.interpretation.smoothed)
    grid = scored.grid(scored.score)
    assert grid.shape == scored.fields.grid_shape
    assert np.isfinite(grid).sum() == scored.assessed.sum()


def test_the_rank_is_the_maximum_region_and_the_top_mean_stands_beside_it(scored):
    known = np.sort(scored.score[scored.assessed])
    top = known[-int(np.ceil(len(known) / 10)) :]
    assert scored.interpretation.top_mean == pytest.approx(top.mean(), rel=1e-5)


def test_a_slide_that_the_model_has_seen_gets_neither_flags_nor_p_values(slide):
    model = FakeModel(seen={fingerprint(slide): "train"})
    found = score_slide(slide, model).interpretation
    assert found.p_value is None
    assert not found.flagged.any()
    assert found.regions == []
    assert "training" in found.warnings[0]
    assert "seen" in found.operating_point.reason


@pytest.mark.parametrize(("cases", "word"), [(0, "no calibration"), (2, "2 normal case")])
def test_too_little_calibration_is_said_instead_of_flagging(slide, cases, word):
    result = score_slide(slide, FakeModel(cases))
    found = result.interpretation
    assert found.p_value is None
    assert not found.flagged.any()
    assert any(word in warning for warning in found.warnings)
    assert found.color_range_fixed == (cases > 0)


def test_a_finer_stride_finds_the_same_lesion(slide, scored):
    fine = score_slide(slide, FakeModel(), ScoreOptions(stride_um=32))
    assert len(fine.fields) > 3 * len(scored.fields)
    assert len(fine.interpretation.regions) == 1
    a, b = (m.interpretation.regions[0].outline for m in (fine, scored))
    assert a.intersection(b).area / a.union(b).area > 0.5


def test_pixel_size_does_not_move_the_lesion(tmp_path):
    slide = make_slide(tmp_path / "fine.tif", mpp=0.4)
    result = score_slide(slide, FakeModel())
    (region,) = result.interpretation.regions
    lesion = box(512 / 0.4, 384 / 0.4, 832 / 0.4, 704 / 0.4)
    assert region.outline.intersection(lesion).area > 0.8 * lesion.area
    assert region.area_mm2 == pytest.approx(region.outline.area * 0.16 / 1e6, rel=0.01)


def test_progress_ends_at_the_number_of_fields(slide):
    calls = []
    score_slide(slide, FakeModel(), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1]
    assert calls == sorted(calls)


def test_slides_that_cannot_be_scored_say_why(tmp_path):
    with pytest.raises(NotASlideError):
        score_slide(tmp_path / "none.tif", FakeModel())
    coarse = make_slide(tmp_path / "coarse.tif", mpp=2.0)
    with pytest.raises(TooCoarseError, match="10x"):
        score_slide(coarse, FakeModel())
    small, wide = make_slide(tmp_path / "small.tif"), FakeModel()
    wide.tile_size = 1000  # more than the tissue is high
    with pytest.raises(NoTissueError):
        score_slide(small, wide, ScoreOptions(min_tissue=1))


def test_a_score_that_is_no_number_is_not_assessed(slide):
    class Broken(FakeModel):
        def score_tiles(self, images):
            scores = super().score_tiles(images)
            scores["dark"][0] = np.nan
            return scores

    result = score_slide(slide, Broken())
    assert (result.status == Status.FAILED).sum() >= 1
    assert result.not_assessed_mm2()["failed"] > 0


def outline_of(path, *corners):
    feature = {"type": "Feature", "geometry": mapping(box(*corners)), "properties": {}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def test_tissue_outside_the_mask_is_masked_and_is_never_read(slide, scored, tmp_path):
    mask = outline_of(tmp_path / "mask.geojson", 128, 128, 640, 896)
    model = FakeModel()
    looked_at = []
    score_tiles = model.score_tiles
    model.score_tiles = lambda images: looked_at.append(len(images)) or score_tiles(images)
    half = score_slide(slide, model, ScoreOptions(tissue_mask=mask))
    masked = half.status == Status.MASKED
    left, right = half.fields.coords[:, 0], half.fields.coords[:, 0] + 64
    assert masked.any()
    assert (right[~masked] > 128).all()
    assert (left[~masked] < 640).all()
    assert (left[masked] >= 640 - 64).all()
    assert np.isnan(half.score[masked]).all()
    assert sum(looked_at) == (~masked).sum()
    # Fields on the edge of the tissue count as a whole.
    assert 512 * 768 < half.not_assessed_mm2()["masked"] * 1e6 < (512 + 64) * (768 + 128)
    # What is judged is judged as without the mask.
    places = {tuple(c): s for c, s in zip(scored.fields.coords.tolist(), scored.score, strict=True)}
    inside = right <= 640
    for corner, score in zip(half.fields.coords[inside].tolist(), half.score[inside], strict=True):
        assert score == pytest.approx(places[tuple(corner)])


def test_a_mask_over_all_tissue_masks_nothing(slide, scored, tmp_path):
    mask = outline_of(tmp_path / "mask.geojson", 0, 0, 1280, 1024)
    whole = score_slide(slide, FakeModel(), ScoreOptions(tissue_mask=mask))
    assert (whole.status != Status.MASKED).all()
    assert "masked" not in whole.not_assessed_mm2()
    assert any("(0.00 mm2 of tissue)" in warning for warning in whole.interpretation.warnings)


def test_reading_ahead_passes_on_errors_and_stops_with_its_user():
    def broken():
        yield 1
        raise OSError("disk gone")

    items = prefetch(broken(), 2)
    assert next(items) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(items)

    def endless():
        while True:
            yield 1

    items = prefetch(endless(), 2)
    next(items)
    items.close()
    assert not [t for t in threading.enumerate() if t.name == "read-fields"]

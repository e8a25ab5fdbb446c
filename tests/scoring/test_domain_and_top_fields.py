"""Warnings about slides unlike the training slides; the places that are shown and their maps."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring_fakes import FakeModel, make_slide
from test_region_outlines import fields_of

from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.scoring.domain import domain_warnings, less_sharp
from wsi_anomaly.scoring.regions import highest_near
from wsi_anomaly.scoring.top_fields import MOST_MAPS, SHOWN, fields_to_map, most_anomalous
from wsi_anomaly.stain import reference_target
from wsi_anomaly.tiles import Preprocessing, SlidePreprocessor

TARGET = reference_target()
DOMAIN = {
    "stain_matrix_mean": TARGET.matrix.tolist(),
    "stain_angle_max_deg": 4.0,
    "maxima_range": [[1.5, 2.5], [1.2, 2.2]],
    "mpp_range": [0.23, 0.27],
    "detail_range": [1.0, 2.0],
}


def warnings(stain=TARGET, mpp=0.25, sharpness=1.4, domain=DOMAIN):
    preprocessor = SlidePreprocessor(Preprocessing(), stain)
    return domain_warnings(domain, preprocessor=preprocessor, mpp=mpp, sharpness=sharpness)


def turned(degrees: float, row: int = 0):
    """The reference with one stain turned away from the other by so many degrees."""
    matrix = TARGET.matrix.copy()
    axis = matrix[row] - matrix[1 - row] * (matrix[row] @ matrix[1 - row])
    axis -= matrix[row] * (axis @ matrix[row])
    axis /= np.linalg.norm(axis)
    angle = np.radians(degrees)
    matrix[row] = np.cos(angle) * matrix[row] + np.sin(angle) * axis
    return type(TARGET)(np.clip(matrix, 0, None) / np.linalg.norm(matrix, axis=1)[:, None], [2, 2])


def test_a_slide_like_the_training_slides_gives_no_warning():
    assert warnings() == []
    assert warnings(stain=turned(5)) == []


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ({"stain": turned(15)}, "hematoxylin lies 15 degrees"),
        ({"stain": type(TARGET)(TARGET.matrix, [0.5, 2.0])}, "hematoxylin is weaker"),
        ({"stain": type(TARGET)(TARGET.matrix, [2.0, 4.0])}, "eosin is stronger"),
        ({"mpp": 0.5}, "pixels measure 0.5 um"),
        ({"sharpness": 0.6}, "less sharp"),
        ({"sharpness": 3.5}, "noisier"),
    ],
)
def test_each_difference_is_named(kind, word):
    (warning,) = warnings(**kind)
    assert word in warning


def test_one_training_slide_is_no_range_from_a_number_to_itself():
    one = DOMAIN | {
        "stain_angle_max_deg": 0.0, "maxima_range": [[2.0, 2.0], [1.1, 1.1]],
        "mpp_range": [0.5, 0.5], "detail_range": [1.3, 1.3],
    }  # fmt: skip
    said = " ".join(warnings(turned(15), 0.25, 3.5, one))
    assert "training slides' mean: another stain" in said
    assert "(2) than on any training slide (1.1);" in said
    assert "those of the training slides 0.5: sharpness" in said
    assert "they have 1.3)" in said
    assert "(they reach 4)" in warnings(turned(15))[0]
    assert "(1.5 to 2.5)" in warnings(type(TARGET)(TARGET.matrix, [0.5, 2.0]))[0]


def test_a_model_that_says_nothing_of_its_slides_gives_no_warning():
    assert warnings(stain=turned(40), mpp=9, sharpness=99, domain={}) == []


@pytest.mark.parametrize(
    ("domain", "sharpness", "said"),
    [
        (DOMAIN, 0.6, None),
        (DOMAIN, 0.5, r"less sharp \(0\.5\) than the model's normal slides \(1 and more\)"),
        ({"detail_range": [3.0, 4.0]}, 0.66, None),  # tissue and scanner may be others
        ({"detail_range": [0.4, 0.5]}, 0.3, None),  # the model's own scanner is soft
        ({"sharpness_range": [0.5, 1.0]}, 0.66, None),  # a model of 0.1.0, with another measure
        ({"sharpness_range": [0.5, 1.0]}, 0.5, "than slides in focus"),
        (DOMAIN, float("nan"), None),
    ],
)
def test_a_slide_evenly_less_sharp_than_the_normals_cannot_be_compared(domain, sharpness, said):
    found = less_sharp(domain, sharpness)
    if said is None:
        assert found == []
    else:
        (sentence,) = found
        assert sentence.startswith("The slide as a whole cannot be compared: less sharp")
        assert re.search(said, sentence)
        # It is said once.
        assert warnings(sharpness=sharpness, domain=domain) == []


def test_the_warning_reaches_the_result(tmp_path):
    model = FakeModel()
    model.domain = {"mpp_range": [0.25, 0.25], "detail_range": [1e-4, 1e-3]}
    found = score_slide(make_slide(tmp_path / "s.tif"), model).interpretation
    assert any("pixels measure 1 um" in warning for warning in found.warnings)
    assert any("texture" in warning for warning in found.warnings)


@given(st.integers(0, 10**6), st.integers(1, 20), st.sampled_from([128.3, 64.15]))
def test_shown_places_are_the_highest_that_lie_apart(seed, count, stride):
    rng = np.random.default_rng(seed)
    shape = (14, 17)
    row, col = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    fields = fields_of(row, col, shape, stride=stride)
    smoothed = rng.normal(size=len(row))
    smoothed[rng.random(len(row)) < 0.2] = np.nan
    chosen = most_anomalous(fields, smoothed, count, apart_um=256)
    assert len(chosen) <= count
    assert chosen[0] == np.nanargmax(smoothed)
    assert (np.diff(smoothed[chosen]) <= 0).all()
    um = 64 / 128.3 * fields.coords
    for a, i in enumerate(chosen):
        for j in chosen[:a]:
            assert np.abs(um[i] - um[j]).max() > 255


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([0.0, 0.05, 0.9]))
def test_maps_are_made_of_the_gallery_and_on_request_of_what_is_flagged(seed, many, share):
    rng = np.random.default_rng(seed)
    shape = (60, 60)
    row, col = np.divmod(np.arange(3600), 60)
    fields = fields_of(row, col, shape)
    smoothed = rng.normal(size=3600)
    flagged = rng.random(3600) < share
    score = rng.normal(size=3600)
    chosen = fields_to_map(fields, score, smoothed, flagged, all_flagged=many, tile_size=64)
    gallery = [
        highest_near(fields, score, i)
        for i in most_anomalous(fields, smoothed, SHOWN, apart_um=256)
    ]
    assert set(gallery) <= set(chosen.tolist())
    assert len(set(chosen.tolist())) == len(chosen) <= MOST_MAPS
    assert (np.diff(smoothed[chosen]) <= 0).all()
    if not many:
        assert len(chosen) == len(gallery)
    elif 0 < flagged.sum() <= MOST_MAPS - SHOWN:
        assert set(np.flatnonzero(flagged).tolist()) <= set(chosen.tolist())


def test_a_place_lies_on_the_highest_field_of_those_that_are_averaged():
    """The average may be highest on the edge, where the field itself is nearly glass."""
    row, col = np.divmod(np.arange(16), 4)
    score = np.zeros(16)
    score[5] = 9.0
    assert highest_near(fields_of(row, col, (4, 4)), score, 0) == 5
    assert highest_near(fields_of(row, col, (4, 4)), score, 15) == 10  # none is higher there


def test_large_tiles_do_not_make_large_maps():
    row, col = np.divmod(np.arange(3600), 60)
    chosen = fields_to_map(
        fields_of(row, col, (60, 60)), np.arange(3600.0), np.arange(3600.0), np.ones(3600, bool),
        all_flagged=True, tile_size=512,
    )  # fmt: skip
    assert len(chosen) * 512**2 * 7 <= 64 * 2**20


def test_a_map_belongs_to_its_field(tmp_path):
    """The fake model's map is the tile's darkness, so its mean is the score."""
    slide = make_slide(tmp_path / "s.tif")
    found = score_slide(slide, FakeModel(), ScoreOptions(pixel_map=True))
    maps = found.pixel_maps
    assert set(np.flatnonzero(found.interpretation.flagged).tolist()) <= set(maps.fields.tolist())
    np.testing.assert_allclose(maps.maps.mean((1, 2)), found.score[maps.fields], atol=1e-5)
    assert maps.tiles.shape == (len(maps.fields), 64, 64, 3)


def test_a_model_without_maps_gives_none(tmp_path):
    class NoMaps(FakeModel):
        def pixel_maps(self, images):
            return None

    assert score_slide(make_slide(tmp_path / "s.tif"), NoMaps()).pixel_maps is None

"""The verdict on a slide, and that no figure contradicts another."""

from __future__ import annotations

import numpy as np
import pytest
from score_map_fakes import fake_score_map

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.results.colors import ANOMALOUS, TILE_CLASSES, tile_classes
from wsi_anomaly.scoring import interpret


@pytest.fixture(scope="module")
def normals() -> Calibration:
    maps = [fake_score_map(seed, lesions=0, shape=(20, 20)) for seed in range(8)]
    return Calibration.fit(
        [
            CaseScores(f"c{i}", f"c{i}", m.fields.row[m.assessed], m.fields.col[m.assessed],
                       m.score[m.assessed])
            for i, m in enumerate(maps)
        ]
    )  # fmt: skip


def test_a_slide_far_above_all_normals_cannot_be_compared(normals):
    made = fake_score_map(99, lesions=0, shape=(20, 20))
    kinds = {}
    for higher in (0.0, 5.0):
        found = interpret(made.fields, made.score + np.float32(higher), normals, mpp=(0.5, 0.5))
        kinds[higher] = found
    assert kinds[0.0].verdict in ("flagged", "nothing flagged")
    unlike = kinds[5.0]
    assert unlike.verdict == "cannot be compared"
    assert not unlike.flagged.any()
    assert unlike.p_value is None
    assert not unlike.color_range_fixed  # colours of this slide alone: not one dark picture
    assert unlike.operating_point.threshold is None
    assert "cannot be compared" in unlike.operating_point.reason


def test_other_reasons_are_heeded_too(normals):
    made = fake_score_map(99, lesions=2, shape=(20, 20))
    found = interpret(
        made.fields, made.score, normals, mpp=(0.5, 0.5), incomparable=["It is less sharp."]
    )
    assert found.verdict == "cannot be compared"
    assert found.incomparable == ("It is less sharp.",)
    assert found.operating_point.reason == "No field is flagged: it is less sharp."


def test_no_flagged_field_looks_normal(normals):
    """A raw score may be low in the midst of high ones; what is flagged is their mean."""
    made = fake_score_map(99, lesions=3, shape=(20, 20), calibration=normals)
    found = made.interpretation
    assert found.flagged.any()
    assert found.percentile[found.flagged].min() >= 95
    assert (tile_classes(made)[found.flagged] == TILE_CLASSES.index(ANOMALOUS)).all()


def test_untouched_slides_stand_anywhere_among_normal_slides(normals):
    """Of maxima among maxima; among single fields every untouched slide was near the top."""
    ranks = [
        fake_score_map(100 + i, lesions=0, shape=(20, 20), calibration=normals)
        .interpretation.slide_percentile
        for i in range(20)
    ]  # fmt: skip
    assert min(ranks) < 40
    assert 25 < np.mean(ranks) < 75


def test_flagged_tissue_is_never_more_than_there_is(normals):
    made = fake_score_map(99, lesions=4, shape=(20, 20), calibration=normals, density=0.5)
    tissue = float(made.fields.tissue_fraction.sum()) * made.field_mm2
    assert made.interpretation.regions
    assert sum(r.area_mm2 for r in made.interpretation.regions) <= tissue

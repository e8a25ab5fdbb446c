"""What is found is counted from the files that a user gets."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from wsi_anomaly.annotations import Outline
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.evaluation import ColourControl, ScoredSlide, mean_colours
from wsi_anomaly.experiments.known_truth import (
    colour_scores,
    labels_of,
    smoothed,
    tile_performance,
    what_was_found,
)
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import Preprocessing, plan_fields

FIELD = 128.0  # level-0 pixels; 64 um at 0.5 um


def scored(name, scores, flagged=(), rows=6, columns=8, **more):
    """A slide of 6 x 8 fields, scored by hand."""
    row, col = np.divmod(np.arange(rows * columns, dtype=np.int32), columns)
    flags = np.zeros(rows * columns, bool)
    flags[[r * columns + c for r, c in flagged]] = True
    return ScoredSlide(
        name=name,
        coords=np.stack([col, row], 1).astype(np.int64) * int(FIELD),
        field=(FIELD, FIELD),
        stride=(FIELD, FIELD),
        mpp=(0.5, 0.5),
        scores={"dpa": np.asarray(scores, np.float32).ravel(), **more},
        primary="dpa",
        row=row,
        col=col,
        flagged=flags,
    )


def lesion(column, row, columns=1, rows=1):
    """An outline over whole fields."""
    return Outline(
        "Lesion",
        shapely.box(
            column * FIELD, row * FIELD, (column + columns) * FIELD, (row + rows) * FIELD
        ),
    )  # fmt: skip


def grid(**at):
    values = np.zeros((6, 8))
    for place, value in at.items():
        _, row, column = place.split("_")
        values[int(row), int(column)] = value
    return values


def test_a_lesion_counts_once_touched_and_a_region_beside_it_is_false():
    slide = scored("a", grid(), flagged=[(0, 0), (0, 1), (5, 7), (5, 5)])
    outlines = {"a": [lesion(1, 0), lesion(4, 2)]}
    found = what_was_found([slide], outlines)
    assert (found.lesions, found.found) == (2, 1)
    # (0,0) joins (0,1), which is in the lesion; (5,5) and (5,7) are apart and touch nothing.
    assert found.false_regions == {"a": 2}


def test_small_lesions_are_not_asked_for_but_finding_one_is_not_false():
    slide = scored("a", grid(), flagged=[(0, 0)])
    outlines = {"a": [lesion(0, 0), lesion(3, 3, 3, 3)]}
    found = what_was_found([slide], outlines, at_least_mm2=0.01)
    assert (found.lesions, found.found) == (1, 0)
    assert found.false_regions == {"a": 0}


def test_every_region_on_a_normal_slide_is_false():
    slides = [scored("normal", grid(), flagged=[(0, 0), (3, 3)]), scored("clean", grid())]
    found = what_was_found(slides, {})
    assert found.lesions == found.found == 0
    assert found.false_regions == {"normal": 2, "clean": 0}


def test_the_auc_pools_slides_and_leaves_the_border_out():
    one = scored("one", grid(at_0_0=9, at_0_1=8))
    two = scored("two", grid(at_5_5=1))
    outlines = {"one": [lesion(0, 0), Outline("Lesion", shapely.box(128, 0, 160, 128))]}
    # (0, 1) is a quarter inside: neither lesion nor normal.
    assert labels_of(one, outlines["one"])[:3].tolist() == [1, -1, 0]
    found = tile_performance([one, two], outlines)
    assert (found.roc_auc.value, found.abnormal, found.normal) == (1.0, 1, 46 + 48)


def test_a_control_is_asked_about_the_same_fields():
    values = grid(at_0_0=9)
    values[0, 1] = np.nan  # not assessed
    slide = scored("a", values)
    control = {"a": np.arange(48, dtype=float)[::-1]}
    outlines = {"a": [lesion(0, 0, 2, 1)]}
    found = tile_performance([slide], outlines, control)
    assert (found.abnormal, found.normal) == (1, 46)
    assert found.roc_auc.value == 1.0
    assert tile_performance([slide], outlines).abnormal == 1


def test_other_methods_can_be_asked_for():
    slide = scored("a", grid(at_0_0=9), density=-grid(at_0_0=9).ravel().astype(np.float32))
    outlines = {"a": [lesion(0, 0)]}
    assert tile_performance([slide], outlines).roc_auc.value == 1.0
    assert tile_performance([slide], outlines, method="density").roc_auc.value == 0.0


def test_smoothing_takes_the_mean_of_assessed_neighbours_for_a_control_as_well():
    values = grid(at_2_2=9)
    values[2, 3] = np.nan
    slide = scored("a", values)
    own = smoothed([slide])["a"].reshape(6, 8)
    assert own[2, 2] == pytest.approx(9 / 8)
    assert np.isnan(own[2, 3])
    control = smoothed([slide], {"a": grid(at_0_0=4).ravel()})["a"].reshape(6, 8)
    assert control[0, 0] == pytest.approx(4 / 4)
    assert control[5, 7] == 0


def test_a_folder_without_scores_is_named(tmp_path):
    with pytest.raises(WsiAnomalyError, match="is missing or damaged"):
        ScoredSlide.read(tmp_path)


def test_the_colour_control_looks_at_the_fields_of_the_table(tmp_path):
    path = make_slide(tmp_path / "slide.tif", seed=5, size_px=(800, 700)).path
    preprocessing = Preprocessing("none", None)
    with open_slide(path) as slide:
        fields = plan_fields(slide, find_tissue(slide), field_um=64, min_tissue=0.5)
        expected = np.stack(
            [slide.read(*map(float, xy), (64, 64), 1.0).rgb for xy in fields.coords]
        )
    chosen = np.arange(len(fields))[::-2]  # some, in another order
    table = ScoredSlide(
        "slide", fields.coords[chosen], (FIELD, FIELD), (FIELD, FIELD), (0.5, 0.5),
        {"dpa": np.zeros(len(chosen), np.float32)}, "dpa",
        fields.row[chosen], fields.col[chosen], np.zeros(len(chosen), bool),
    )  # fmt: skip
    control = ColourControl().fit(mean_colours(expected))
    scores = colour_scores(table, path, control, preprocessing, magnification=10, tile_size=64)
    np.testing.assert_allclose(
        scores, control.score_samples(mean_colours(expected))[chosen], rtol=0.02, atol=0.02
    )

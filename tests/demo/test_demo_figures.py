"""What is found is counted from the files that a user gets."""

from __future__ import annotations

import numpy as np
import shapely

from wsi_anomaly.annotations import Outline
from wsi_anomaly.demo.run import TILE_SIZE, colour_scores, what_was_found
from wsi_anomaly.evaluation import ColourControl, ScoredSlide, mean_colours
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import Preprocessing, plan_fields

FIELD = 128.0  # level-0 pixels; 64 um at 0.5 um


def scored(name, flagged=(), rows=6, columns=8):
    """A slide of 6 x 8 fields, flagged by hand."""
    row, col = np.divmod(np.arange(rows * columns, dtype=np.int32), columns)
    flags = np.zeros(rows * columns, bool)
    flags[[r * columns + c for r, c in flagged]] = True
    return ScoredSlide(
        name=name,
        coords=np.stack([col, row], 1).astype(np.int64) * int(FIELD),
        field=(FIELD, FIELD),
        stride=(FIELD, FIELD),
        mpp=(0.5, 0.5),
        scores={"dpa": np.zeros(rows * columns, np.float32)},
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


def test_a_lesion_counts_once_touched_and_a_region_beside_it_is_false():
    slide = scored("a", flagged=[(0, 0), (0, 1), (5, 7), (5, 5)])
    outlines = [[lesion(1, 0), lesion(4, 2)]]
    found = what_was_found([slide], outlines)
    assert (found.lesions, found.found) == (2, 1)
    # (0,0) joins (0,1), which is in the lesion; (5,5) and (5,7) are apart and touch nothing.
    assert found.false_regions == {"a": 2}


def test_small_lesions_are_not_asked_for_but_finding_one_is_not_false():
    slide = scored("a", flagged=[(0, 0)])
    outlines = [[lesion(0, 0), lesion(3, 3, 3, 3)]]
    found = what_was_found([slide], outlines, at_least_mm2=0.01)
    assert (found.lesions, found.found) == (1, 0)
    assert found.false_regions == {"a": 0}


def test_every_region_on_a_normal_slide_is_false():
    slides = [scored("normal", flagged=[(0, 0), (3, 3)]), scored("clean")]
    found = what_was_found(slides, [[], []])
    assert found.lesions == found.found == 0
    assert found.false_regions == {"normal": 2, "clean": 0}


def test_the_colour_control_looks_at_the_fields_of_the_table(tmp_path):
    path = make_slide(tmp_path / "slide.tif", seed=5, size_px=(800, 700)).path
    preprocessing = Preprocessing("none", None)
    with open_slide(path) as slide:
        fields = plan_fields(slide, find_tissue(slide), field_um=64, min_tissue=0.5)
        expected = np.stack(
            [slide.read(*map(float, xy), (TILE_SIZE, TILE_SIZE), 0.5).rgb for xy in fields.coords]
        )
    chosen = np.arange(len(fields))[::-2]  # some, in another order
    table = ScoredSlide(
        "slide", fields.coords[chosen], (FIELD, FIELD), (FIELD, FIELD), (0.5, 0.5),
        {"dpa": np.zeros(len(chosen), np.float32)}, "dpa",
        fields.row[chosen], fields.col[chosen], np.zeros(len(chosen), bool),
    )  # fmt: skip
    control = ColourControl().fit(mean_colours(expected))
    scores = colour_scores(table, path, control, preprocessing)
    np.testing.assert_allclose(
        scores, control.score_samples(mean_colours(expected))[chosen], rtol=0.02, atol=0.02
    )

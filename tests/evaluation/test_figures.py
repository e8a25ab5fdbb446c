"""From scored slides and their truth to figures: what is counted, and how often."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_fakes import grid, lesion, scored

from wsi_anomaly.annotations import Outline, fractions_inside
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.evaluation import label_fields
from wsi_anomaly.evaluation.figures import JudgedSlide, compute, hits_and_misses
from wsi_anomaly.evaluation.metrics import macro_roc_auc, roc_auc
from wsi_anomaly.evaluation.pictures import colour_scores, extremes


def judged(
    name: str,
    scores: np.ndarray,
    lesions: list[Outline] | None,
    *,
    case: str = "",
    abnormal: bool | None = None,
) -> JudgedSlide:
    """Make a slide with outlines, or with none known."""
    table = scored(name, scores)
    inside = fractions_inside(lesions or [], table.coords, table.field)
    labels = label_fields(inside)
    return JudgedSlide(
        name=name,
        case=case or name,
        labels=np.full_like(labels, -1) if lesions is None else labels,
        raw=table.scores,
        smoothed={k: table.smoothed(v) for k, v in table.scores.items()},
        abnormal=bool(lesions) if abnormal is None else abnormal,
        lesions=None if lesions is None else [o.polygon for o in lesions],
        table=table,
    )


def noisy(seed: int, lift: tuple[int, int] | None = None) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(size=(10, 12)).astype(np.float32)
    if lift is not None:
        scores[lift[0] : lift[0] + 3, lift[1] : lift[1] + 4] += 3
    return scores


def study() -> list[JudgedSlide]:
    """Six slides, three of them with a lesion of 3 x 4 fields that scores higher."""
    slides = [judged(f"normal {i}", noisy(i), []) for i in range(3)]
    return slides + [
        judged(f"lesion {i}", noisy(10 + i, (2, 3)), [lesion(3, 2, 4, 3)]) for i in range(3)
    ]


def test_every_figure_of_a_small_study() -> None:
    slides = study()
    found = compute(slides, "dpa")
    raw, smoothed = found.raw["dpa"], found.smoothed["dpa"]
    assert (raw.abnormal, raw.normal, raw.groups) == (36, 6 * 120 - 36, 6)
    pooled = roc_auc(
        np.concatenate([s.labels for s in slides]), np.concatenate([s.raw["dpa"] for s in slides])
    )
    assert raw.roc_auc.value == pooled
    assert math.isnan(raw.roc_auc.low)  # three slides with a lesion are too few
    assert smoothed.roc_auc.value > raw.roc_auc.value
    by_slide = found.slides["highest region"]
    assert (by_slide.roc_auc.value, by_slide.abnormal, by_slide.normal) == (1.0, 3, 3)
    assert set(found.slides) == {"highest region", "mean of the top tenth"}
    assert found.froc is not None
    assert (found.froc.lesions, found.froc.slides) == (3, 6)
    assert found.froc.at[0.25].value == 1.0
    assert found.macro["raw"][1] == 3
    row = {row.name: row for row in found.rows}["lesion 0"]
    assert (row.abnormal_fields, row.normal_fields, row.lesions) == (12, 108, 1)
    assert row.highest == pytest.approx(np.nanmax(slides[3].smoothed["dpa"]))  # type: ignore[index]
    assert row.top_mean == pytest.approx(np.sort(slides[3].raw["dpa"])[-12:].mean())


def test_a_detection_finds_what_its_field_touches_and_is_false_elsewhere() -> None:
    # Two peaks far apart on ground that rises to the last corner, so has no peaks of its own.
    ground = np.add.outer(np.arange(10), np.arange(12)).astype(np.float32) / 1000
    slide = judged(
        "a", grid(at_2_2=9, at_8_9=5) + ground, [lesion(2, 2, 4, 2), lesion(0, 7, 3, 2)]
    )  # fmt: skip
    lesions, false, small = hits_and_misses(slide, "dpa")
    assert small == 0
    assert np.sort(lesions).tolist() == pytest.approx([1, np.nan], abs=0.02, nan_ok=True)
    assert false.tolist() == pytest.approx([5 / 6], abs=0.03)  # at the border: 6 fields


def test_small_lesions_are_neither_found_nor_missed() -> None:
    slide = judged("a", grid(at_5_5=9), [lesion(5, 5)])  # 64 um: isolated cells
    lesions, false, small = hits_and_misses(slide, "dpa")
    assert (len(lesions), small) == (0, 1)
    assert false.max() == 0  # and the detection on it is not false
    assert compute([slide, *study()], "dpa").small_lesions == 1


def test_slides_alone_can_be_evaluated() -> None:
    slides = [judged(f"n{i}", noisy(i), []) for i in range(3)]
    slides += [judged(f"a{i}", noisy(i, (0, 0)), None, abnormal=True) for i in range(3)]
    found = compute(slides, "dpa")
    assert not found.raw
    assert found.froc is None
    assert found.slides["highest region"].roc_auc.value == 1.0


@pytest.mark.parametrize(
    ("slides", "message"),
    [
        ([judged("a", grid(), []), judged("b", grid(), [])], "All 240 fields .* are normal"),
        (
            [judged("a", grid(), None, abnormal=True)],
            "all slides whose truth is known are abnormal",
        ),
    ],
)
def test_one_class_cannot_be_evaluated(slides: list[JudgedSlide], message: str) -> None:
    with pytest.raises(WsiAnomalyError, match=message):
        compute(slides, "dpa")


def test_nothing_assessed_is_no_score_rather_than_a_low_one() -> None:
    blank = judged("blank", np.full((10, 12), np.nan), [lesion(0, 0, 12, 10)])
    found = compute([blank, *study()], "dpa")
    assert found.raw["dpa"].abnormal == 36
    assert found.slides["highest region"].abnormal == 3
    assert found.froc is not None
    assert found.froc.at[8.0].value == pytest.approx(3 / 4)  # a lesion that nobody saw is missed
    assert math.isnan({row.name: row for row in found.rows}["blank"].highest)


def test_the_mean_within_slides_ignores_what_differs_between_them() -> None:
    labels = np.tile([0, 0, 1, 1], 4)
    slide = np.repeat(np.arange(4), 4)
    scores = np.tile([0.0, 1.0, 2.0, 3.0], 4) + 10 * slide
    assert roc_auc(labels, scores) < 0.7
    found, count = macro_roc_auc(labels, scores, slide, slide)
    assert (found.value, count) == (1.0, 4)
    assert math.isnan(found.low)  # every resample says the same: no certainty
    labels[:4] = 0  # a slide of one class has no figure of its own
    assert macro_roc_auc(labels, scores, slide, slide)[1] == 3
    assert macro_roc_auc(labels * 0, scores, slide, slide)[1] == 0


def test_colour_is_judged_by_other_cases_only() -> None:
    generator = np.random.default_rng(0)
    slides = study()
    colours = {s.name: generator.normal([200, 150, 180], 5, (120, 3)) for s in slides}
    scores = colour_scores(slides, "dpa", colours)
    assert scores is not None
    # Its own normal fields teach a slide nothing about itself.
    colours[slides[0].name] = colours[slides[0].name] + [0, 60, 0]
    moved = colour_scores(slides, "dpa", colours)
    assert moved is not None
    assert np.median(moved[slides[0].name]) > 20 * np.median(scores[slides[0].name])
    assert colour_scores(slides, "dpa", dict(list(colours.items())[1:])) is None
    assert colour_scores(slides[:1], "dpa", colours) is None


def test_extremes_are_the_ends_of_each_class_spread_over_slides() -> None:
    slides = study()
    rows = extremes(slides, "dpa", count=4)
    assert set(rows) == {
        "abnormal, highest", "abnormal, lowest", "normal, highest", "normal, lowest",
    }  # fmt: skip
    for name, row in rows.items():
        kind, end = name.split(", ")
        assert len(row) == 4
        scores = [shown.score for shown in row]
        assert scores == sorted(scores, reverse=end == "highest")
        assert all(slides[s.slide].labels[s.field] == (kind == "abnormal") for s in row)
        assert max(np.bincount([s.slide for s in row])) <= 2
    shown = [(s.slide, s.field) for row in rows.values() for s in row]
    assert len(set(shown)) == len(shown)
    few = extremes(slides[:4], "dpa", count=20)  # one lesion of 12 fields
    assert "abnormal, lowest" not in few
    best = max(float(s.raw["dpa"][s.labels == 1].max()) for s in slides[3:])
    assert rows["abnormal, highest"][0].score == best

"""The table of a study, and its control animals as the reference."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scoring_fakes import FakeModel, make_slide

from wsi_anomaly.calibration import calibration
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.tensors import save_tensors
from wsi_anomaly.scoring import Controls, ControlScores, save_raw_scores, score_slide
from wsi_anomaly.studies import read_cohort

SLIDES = [Path("s/a.tif"), Path("s/b.tif"), Path("s/c.svs")]
LINES = ["slide,animal,group,organ", "a.tif,1,Control,liver", "b,2,high,liver", "c.svs,3,low,liver"]


def table(folder, lines=LINES):
    path = folder / "study.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_slides_are_named_with_or_without_suffix_and_controls_come_first(tmp_path):
    cohort = read_cohort(table(tmp_path), SLIDES)
    assert [(s.path, s.animal) for s in cohort.slides] == list(zip(SLIDES, "123", strict=True))
    assert cohort.groups == ["Control", "high", "low"]
    assert cohort.organs == ["liver"]
    assert [cohort.is_control(s) for s in cohort.slides] == [True, False, False]


@given(order=st.permutations(range(4)), bom=st.booleans())
def test_columns_may_stand_in_any_order_as_a_spreadsheet_saves_them(tmp_path_factory, order, bom):
    folder = tmp_path_factory.mktemp("order")
    lines = [",".join(line.split(",")[i] for i in order) for line in LINES]
    path = folder / "study.csv"
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig" if bom else "utf-8")
    expected = read_cohort(table(tmp_path_factory.mktemp("plain")), SLIDES)
    assert read_cohort(path, SLIDES) == expected


def test_slides_of_one_name_are_told_apart_by_their_folder(tmp_path):
    slides = [Path("x/a.tif"), Path("y/a.tif")]
    lines = [LINES[0], "x/a.tif,1,0,liver", "y/a.tif,2,5 mg,liver"]
    assert [s.path for s in read_cohort(table(tmp_path, lines), slides).slides] == slides
    with pytest.raises(UsageError, match="write its folder too"):
        read_cohort(table(tmp_path, [LINES[0], "a.tif,1,0,liver"]), slides)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "holds no lines of slide,animal,group,organ"),
        ([LINES[0] + ",sex", "a,1,control,liver,m"], "group,organ,sex, of which a study takes"),
        (["slide,animal,group", "a,1,control"], "should begin with the line"),
        (LINES[:1], "holds no lines of slide,animal,group,organ"),
        ([*LINES[:3], "c.svs,3,,liver"], "line 4, gives no group; fill it in."),
        ([*LINES, "d.tif,4,low,liver"], "names the slide d.tif, which is not among"),
        (LINES[:3], "s/c.svs is not in"),
        (
            [*LINES, "a,1,Control,liver"],
            "lines 2 and 5, give s/a.tif two values, as a.tif and as a;",
        ),
        ([*LINES[:3], "c,2,low,kidney"], "line 4, has animal 2 in the groups high and low"),
        ([*LINES[:3], "c,3,low,kidney"], "has no kidney of the control group Control"),
        ([LINES[0], "a,1,x,liver", "b,2,y,liver", "c,3,z,liver"], "with --control NAME"),
        ([LINES[0], "a,1,0,liver", "b,2,vehicle,liver", "c,3,z,liver"], "with --control NAME"),
    ],
)
def test_a_table_that_does_not_fit_is_one_sentence(tmp_path, lines, said):
    with pytest.raises(UsageError, match=said) as raised:
        read_cohort(table(tmp_path, lines), SLIDES)
    assert "study.csv" in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_table_that_cannot_be_read_and_a_control_group_that_is_not_there(tmp_path):
    (tmp_path / "study.csv").write_bytes(b"PK\x03\x04\x00slide")
    with pytest.raises(UsageError, match="is no text, so it cannot be read"):
        read_cohort(tmp_path / "study.csv", SLIDES)
    with pytest.raises(UsageError, match="has no group mid, only Control, high, low"):
        read_cohort(table(tmp_path), SLIDES, "mid")
    assert read_cohort(table(tmp_path), SLIDES, "low").control == "low"


@pytest.fixture(scope="module")
def controls(tmp_path_factory):
    """Raw scores of five control animals, one of them with two slides."""
    folder = tmp_path_factory.mktemp("controls")
    entries, maps = [], []
    for i, animal in enumerate(["1", "2", "3", "4", "5", "5"]):
        path = make_slide(folder / f"{i}.tif", seed=i, lesion=False)
        maps.append(score_slide(path, FakeModel(cases=0)))
        save_raw_scores(folder / f"{i}.safetensors", maps[-1])
        entries.append(ControlScores(animal, folder / f"{i}.safetensors"))
    return Controls(tuple(entries)), maps


def test_controls_are_the_reference_and_an_animal_is_left_out_with_all_its_slides(controls):
    every, maps = controls
    reference = every.calibration()
    assert (reference.n_cases, reference.n_slides) == (5, 6)
    assert reference.name == "concurrent controls (5 animals)"
    for slide, found in zip(reference.slides, maps, strict=True):
        np.testing.assert_array_equal(slide.score, found.score[found.assessed])
        np.testing.assert_array_equal(slide.row, found.fields.row[found.assessed])
    others = every.without("5").calibration()
    assert {s.case for s in others.slides} == set("1234")


def test_a_slide_is_read_smoothed_and_swept_once_for_all_references(tmp_path, monkeypatch):
    """Each control slide of a study is beside a reference of its own: all animals but its own."""
    line, entries, asked = np.arange(100, dtype=np.int32), [], []
    for animal in "123456":
        path = tmp_path / f"{animal}.safetensors"
        scores = np.random.default_rng(int(animal)).normal(size=100).astype(np.float32)
        arrays = {"row": 0 * line, "col": line, "score": scores}
        save_tensors(path, {name: torch.from_numpy(a) for name, a in arrays.items()}, {})
        entries.append(ControlScores(animal, path))
    every = Controls(tuple(entries))

    def points(these: Controls) -> list[float | None]:
        left_out = (these.without(animal).calibration() for animal in "123456")
        return [one.operating_point().threshold for one in left_out]

    for name in ("smooth_scores", "region_thresholds", "location"):
        real = getattr(calibration, name)
        counted = partial(lambda real, name, *given: asked.append(name) or real(*given), real, name)
        monkeypatch.setattr(calibration, name, counted)
    found = points(every)
    assert len(set(found)) > 1
    assert Counter(asked) == {"smooth_scores": 6, "region_thresholds": 6, "location": 6}


def test_the_identity_changes_with_animals_and_slides_only(controls):
    every, _ = controls
    assert Controls(every.scores[::-1]).identity == every.identity
    renamed = (ControlScores("6", every.scores[-1].path),)
    others = {every.without("1").identity, Controls(every.scores[:-1] + renamed).identity}
    assert every.identity not in others
    assert len(others) == 2


def test_a_slide_beside_concurrent_controls_says_so_and_finds_its_lesion(tmp_path, controls):
    every, _ = controls
    path = make_slide(tmp_path / "treated.tif", seed=50)
    found = score_slide(path, FakeModel(), controls=every)
    assert found.calibration.name == "concurrent controls (5 animals)"
    assert "5 control animals in turn" in found.interpretation.operating_point.reason
    assert found.interpretation.regions
    assert found.settings["controls"] == every.identity
    assert "controls" not in score_slide(path, FakeModel()).settings


@pytest.mark.parametrize(("animals", "said"), [(3, "concurrent controls (3 animals)"), (0, "")])
def test_too_few_controls_give_no_flags_and_a_sentence(tmp_path, controls, animals, said):
    every, _ = controls
    path = make_slide(tmp_path / "treated.tif", seed=50)
    found = score_slide(path, FakeModel(), controls=Controls(every.scores[:animals])).interpretation
    assert not found.can_flag
    assert not found.flagged.any()
    assert found.p_value is None
    assert said in found.operating_point.reason
    assert any("control animal" in w or "concurrent controls" in w for w in found.warnings)
    assert not any("Train it" in w for w in found.warnings)


@pytest.mark.parametrize(("part", "seen"), [("train", "train"), ("calibration", None)])
def test_a_slide_of_the_training_stays_seen_one_of_the_calibration_does_not(
    tmp_path, controls, part, seen
):
    path = make_slide(tmp_path / "treated.tif", seed=50)
    model = FakeModel(seen={fingerprint(path): part})
    found = score_slide(path, model, controls=controls[0])
    assert found.seen == seen
    assert found.interpretation.can_flag == (seen is None)


def test_a_change_that_is_everywhere_is_named_as_what_it_may_be(tmp_path, controls):
    path = make_slide(tmp_path / "dark.tif", seed=3, lesion=False)

    class Darker(FakeModel):
        def score_tiles(self, images):
            return {k: v + 0.5 for k, v in super().score_tiles(images).items()}

    found = score_slide(path, Darker(), controls=controls[0])
    assert any("far above every concurrent control" in w for w in found.interpretation.warnings)


def test_a_control_file_that_is_gone_is_one_sentence(tmp_path):
    path = make_slide(tmp_path / "treated.tif", seed=50)
    gone = Controls((ControlScores("1", tmp_path / "gone.safetensors"),))
    with pytest.raises(ModelError, match=r"gone\.safetensors is missing"):
        score_slide(path, FakeModel(), controls=gone)

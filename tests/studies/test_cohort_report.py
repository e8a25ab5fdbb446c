"""A study by organ and group: its figures, its page, and its blinding."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import write_json
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.results.summary import FORMAT
from wsi_anomaly.screening import start_blinding
from wsi_anomaly.screening.blinding import codes, is_blinded, read_secret
from wsi_anomaly.studies import Cohort, CohortSlide, groups, write_cohort, write_key
from wsi_anomaly.studies.groups import by_animal, by_group, slide_results
from wsi_anomaly.studies.permutation import trend
from wsi_anomaly.studies.report import _POINT, spread
from wsi_anomaly.studies.slides import ResultFolders, slide_jobs
from wsi_anomaly.tiles.named import NamedSlides


def summary(name, score, *, regions=0, flagged=0.0, possible=True, seen=None, tissue=2.0, lost=0.5):
    return {
        "format": FORMAT,
        "status": "done",
        "slide": {"name": name, "path": f"{name}.tif", "fingerprint": "0"},
        "slide_score": score,
        "slide_percentile": 90.0,
        "flagged": {
            "possible": possible, "regions": regions, "area_mm2": flagged, "threshold": 2.5
        },
        "tissue_mm2": tissue,
        "not_assessed_mm2": lost,
        "seen_in": seen,
        "calibration": {"name": "concurrent controls (4 animals)"},
        "model": {"hash": "m"},
        "warnings": [],
    }  # fmt: skip


# slide, animal, group, summary (None: it could not be scored)
STUDY = [
    ("h1a", "h1", "high", summary("h1a", 3.0, regions=2, flagged=0.5)),
    ("h1b", "h1", "high", summary("h1b", 1.0)),
    ("h2", "h2", "high", summary("h2", 5.0, regions=1, flagged=0.25)),
    ("h3", "h3", "high", None),
    ("h4", "h4", "high", summary("h4", 9.0, possible=False, seen="train")),
    ("c1", "c1", "control", summary("c1", 1.5)),
    ("c2", "c2", "control", summary("c2", None, possible=False, lost=2.0)),
    ("c3", "c3", "control", summary("c3", 1.7)),
]


@pytest.fixture
def study(tmp_path):
    slides, folders = [], {}
    for name, animal, group, found in STUDY:
        path = Path(f"slides/{name}.tif")
        slides.append(CohortSlide(path, animal, group, "liver"))
        if found is not None:
            folders[path] = tmp_path / name
            write_json(folders[path] / "summary.json", found)
    return Cohort(tuple(slides), "control"), folders


def test_an_animal_counts_as_its_most_abnormal_slide(study):
    found = {a.animal: a for a in by_animal(slide_results(*study))}
    first = found["h1"]
    assert (first.slides, first.scored, first.score) == (2, 2, 3.0)
    assert (first.flagged_regions, first.flagged_mm2, first.tissue_mm2) == (2, 0.5, 4.0)
    assert (found["h3"].score, found["h3"].flagged_regions) == (None, None)
    assert found["h4"].score is None  # the model has learned from it
    assert found["c2"].score is None
    assert found["c2"].not_assessed_mm2 == 2.0


def test_the_line_of_a_group_is_what_one_counts_by_hand(study):
    control, high = by_group(study[0], slide_results(*study))
    assert (control.group, control.is_control, high.is_control) == ("control", True, False)
    assert (high.animals, high.animals_scored, high.slides) == (4, 2, 5)
    assert (high.slides_not_scored, high.slides_seen) == (1, 1)
    assert (high.median_score, high.max_score) == (4.0, 5.0)
    assert (high.animals_flagged, high.animals_flaggable) == (2, 2)
    assert high.flagged_mm2_per_mm2 == pytest.approx(0.75 / 6.0)
    assert high.flagged_regions_per_slide == pytest.approx(3 / 3)
    assert (high.tissue_mm2, high.not_assessed_mm2) == (8.0, 2.0)
    assert (control.animals, control.animals_scored, control.animals_flaggable) == (3, 2, 2)
    assert (control.animals_flagged, control.median_score) == (0, pytest.approx(1.6))


def write(study, folder, **changes):
    given = {"table": Path("study.csv"), "models": {"liver": "m"}, "options": ScoreOptions()}
    return write_cohort(folder, *study, **(given | changes)).read_text(encoding="utf-8")


def test_the_page_shows_every_animal_and_says_what_it_lacks(study, tmp_path):
    page = write(study, tmp_path)
    assert page.count('class="dot') == 4  # animals with a score
    assert page.count('class="dot flagged"') == 2
    assert "<title>h1: 3, 2 flagged regions</title>" in page
    assert "1 slide could not be scored" in page
    assert "has learned from 1 of these slides" in page
    assert "how many chance gives" in page
    assert "at most 1 flagged region on average" in page
    assert 'href="h1a/report.html"' in page
    assert "against concurrent controls (4 animals)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "Benjamini-Hochberg at 0.1" in write(study, tmp_path, options=ScoreOptions(fdr=0.1))


def test_a_score_of_zero_is_a_score(study, tmp_path):
    """Scores of some methods lie round zero."""
    for name, score in (("h1a", -1.0), ("h1b", 0.0), ("h2", -2.0)):
        write_json(study[1][Path(f"slides/{name}.tif")] / "summary.json", summary(name, score))
    page = write(study, tmp_path)
    places = [page.index(f'href="{name}/report.html"') for name in ("h1b", "h1a", "h2")]
    assert places == sorted(places)


def test_the_tests_are_done_once_for_the_page_and_the_tables(study, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(groups, "trend", lambda *given: done.append(1) or trend(*given))
    write(study, tmp_path)
    assert done == [1]


def test_the_tables_hold_what_the_page_shows(study, tmp_path):
    write(study, tmp_path)
    with open(tmp_path / "cohort.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(r["group"], r["median_score"]) for r in lines] == [("control", "1.6"), ("high", "4.0")]
    with open(tmp_path / "cohort_animals.csv", newline="", encoding="utf-8") as file:
        scores = {r["animal"]: r["score"] for r in csv.DictReader(file)}
    assert scores["h1"] == "3.0"
    assert scores["h3"] == ""


def test_names_are_escaped_in_the_page_and_run_no_formula_in_the_table(tmp_path):
    bad = "<script>alert(1)</script>"
    slide = CohortSlide(Path("a.tif"), bad, "=1+1", bad)
    write_json(tmp_path / "a/summary.json", summary(bad, 1.0))
    study = Cohort((slide,), "=1+1"), {slide.path: tmp_path / "a"}
    page = write(study, tmp_path, table=Path(f"{bad}.csv"), models={bad: bad})
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "'=1+1" in (tmp_path / "cohort.csv").read_text()


def test_a_study_without_any_score_is_a_page_too(tmp_path):
    slide = CohortSlide(Path("a.tif"), "1", "control", "liver")
    page = write((Cohort((slide,), "control"), {}), tmp_path)
    assert "No animal has a score." in page
    assert "not scored" in page


@given(st.lists(st.floats(0, 300), max_size=40), st.floats(0, 80))
def test_points_that_were_moved_apart_do_not_cover_each_other(heights, most):
    heights = sorted(heights)
    moved = spread(heights, most)
    assert len(moved) == len(heights)
    assert all(abs(x) <= most for x in moved)
    points = list(zip(moved, heights, strict=True))
    for i, (x, y) in enumerate(points):
        for other_x, other_y in points[:i]:
            if x and abs(y - other_y) < 2 * _POINT:  # in the middle when there is no room
                assert abs(x - other_x) >= _POINT / 2 - 1e-9


def test_fifty_animals_of_a_group_are_all_seen():
    few = sorted(spread([100.0] * 9, 43))
    assert min(b - a for a, b in pairwise(few)) >= 2 * _POINT  # these do not touch
    assert len(set(spread([100.0] * 25 + [150.0] * 25, 43))) == 25  # at either height


@pytest.mark.parametrize(("animals", "least"), [(3, "0.05"), (50, "0.0001")])
def test_the_page_says_the_smallest_p_that_its_test_can_give(tmp_path, animals, least):
    slides, folders = [], {}
    for i in range(2 * animals):
        slides.append(CohortSlide(Path(f"{i}.tif"), f"a{i}", ("control", "high")[i % 2], "liver"))
        folders[slides[-1].path] = tmp_path / f"{i}"
        write_json(tmp_path / f"{i}" / "summary.json", summary(f"{i}", float(i % 2)))
    page = write((Cohort(tuple(slides), "control"), folders), tmp_path)
    assert f"No group of this study can give a p below {least}." in page
    with open(tmp_path / "cohort.csv", newline="", encoding="utf-8") as file:
        assert float(list(csv.DictReader(file))[1]["p_value"]) >= float(least)


def big_study(controls=5, treated=15):
    groups = [("c", "control")] * controls + [("t", "treated")] * treated
    slides = [
        CohortSlide(Path(f"{letter}{i}.tif"), f"{letter}{i}", group, "liver")
        for i, (letter, group) in enumerate(groups)
    ]
    cohort = Cohort(tuple(slides), "control")
    files = {s.path: Path(f"{s.animal}.safetensors") for s in slides if cohort.is_control(s)}
    return cohort, files


def test_with_names_a_control_leaves_itself_out_and_a_treated_animal_nobody(tmp_path):
    cohort, files = big_study()
    places = ResultFolders.of(cohort, tmp_path, blinded=False)
    for job in slide_jobs(cohort, "liver", files, places, NamedSlides()):
        animals = {s.animal for s in job.controls.scores}
        assert job.slide.stem not in animals
        assert len(animals) == (4 if job.slide.stem.startswith("c") else 5)
        assert job.shown_as is None
        assert job.folder == tmp_path / job.slide.stem


def test_blinded_every_reference_serves_controls_and_treated_animals_alike(tmp_path):
    cohort, files = big_study()
    start_blinding(tmp_path)
    places = ResultFolders.of(cohort, tmp_path, blinded=True)
    jobs = slide_jobs(cohort, "liver", files, places, NamedSlides())
    used = Counter((job.controls.identity, job.slide.stem[0]) for job in jobs)
    assert sorted(used.values()) == [1] * 5 + [3] * 5
    assert all(job.slide.stem not in {s.animal for s in job.controls.scores} for job in jobs)
    shown = [job.shown_as for job in jobs]
    assert shown == sorted(shown)  # not in the order of the table
    again = slide_jobs(
        cohort, "liver", files, ResultFolders.of(cohort, tmp_path, blinded=True), NamedSlides()
    )
    assert again == jobs


def test_codes_belong_to_the_slide_and_the_results_folder(tmp_path):
    slides = []
    for name in ("a", "b", "copy of a"):
        slides.append(tmp_path / f"{name}.tif")
        slides[-1].write_bytes(name[-1].encode() * 1000)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        start_blinding(folder)
        assert is_blinded(folder)
    names = codes(read_secret(first), slides)
    assert len(set(names.values())) == 3
    start_blinding(first)  # goes on where it was
    assert codes(read_secret(first), slides[:2])[slides[1]] == names[slides[1]]
    assert set(codes(read_secret(second), slides).values()).isdisjoint(names.values())


def test_a_folder_that_shows_names_is_not_read_blinded(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/slides.csv").write_text("slide\n")
    with pytest.raises(UsageError, match="choose another folder with -o"):
        start_blinding(tmp_path / "results")
    assert not is_blinded(tmp_path / "results")


def test_the_key_is_readable_for_its_owner_alone(tmp_path):
    slide = CohortSlide(tmp_path / "a.tif", "7", "high", "liver")
    key = write_key(tmp_path, [slide], {slide.path: "S-BCDFG"}, {"S-BCDFG": "it is cut off"})
    assert key.stat().st_mode & 0o777 == 0o600
    (row,) = csv.DictReader(key.read_text(encoding="utf-8").splitlines())
    assert (row["code"], row["slide"], row["animal"]) == ("S-BCDFG", "a.tif", "7")
    assert (row["group"], row["not_scored_because"]) == ("high", "it is cut off")

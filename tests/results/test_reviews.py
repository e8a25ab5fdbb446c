"""Reviews: what is written at once stays, whatever is killed, scored anew or damaged."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from score_map_fakes import fake_calibration, fake_score_map, fake_slide
from shapely.geometry import Polygon, box

from wsi_anomaly.core.errors import OutputError, UsageError
from wsi_anomaly.reports import write_results
from wsi_anomaly.reports.reviewed import bring_up_to_date
from wsi_anomaly.results.audit import audit_results
from wsi_anomaly.results.review_matching import (
    agreement,
    match_reviews,
    regions_of,
    reviewed_regions,
)
from wsi_anomaly.results.reviews import (
    FOLDER,
    Review,
    append_review,
    findings_used,
    folder_of,
    last_made,
    read_reviews,
    standing,
)
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.results.trail import append_event, scored_event
from wsi_anomaly.screening import result_folders
from wsi_anomaly.slides import open_slide

MARK = "0123456789abcdef"
PLACE, ELSEWHERE = box(100, 100, 300, 300), box(900, 900, 1000, 1000)


def review(verdict="abnormal", outline=PLACE, reader="ann", **more):
    return Review(reader, "slide", MARK, verdict, outline, **more)


def file_of(results, reader="ann"):
    return folder_of(results, "slide", MARK) / f"{reader}.jsonl"


def test_a_decision_is_read_back_as_it_was_made(tmp_path):
    made = review(
        finding="Lymphfollikel ä", note="two\nlines", score=3.5, measures={"area_mm2": 0.04},
        model="feed", result="beef", region=2,
    )  # fmt: skip
    append_review(tmp_path, made)
    [found] = read_reviews(tmp_path, MARK).of("ann")
    assert vars(found) | {"outline": None} == vars(made) | {"outline": None}
    assert found.outline.equals(made.outline)
    entry = json.loads(file_of(tmp_path).read_text())
    assert entry["outline"]["type"] == "Polygon"
    assert entry["time"].endswith("+00:00")
    assert {"reader", "program", "model", "identity", "version"} <= entry.keys()


def test_the_latest_decision_about_a_place_counts(tmp_path):
    nearly = box(105, 100, 305, 300)
    for made in (review(), review(outline=ELSEWHERE), review("artefact", nearly)):
        append_review(tmp_path, made)
    assert [r.verdict for r in read_reviews(tmp_path, MARK).of("ann")] == ["abnormal", "artefact"]


def test_undo_gives_the_decision_before_it_back_and_deletes_nothing(tmp_path):
    for made in (review("unsure"), review("artefact")):
        append_review(tmp_path, made)
    for expected in (["unsure"], []):
        entries = read_reviews(tmp_path, MARK).entries["ann"]
        append_review(tmp_path, last_made(entries).withdrawal())
        assert [r.verdict for r in read_reviews(tmp_path, MARK).of("ann")] == expected
    entries = read_reviews(tmp_path, MARK).entries["ann"]
    assert last_made(entries) is None
    assert len(entries) == 4


def test_readers_do_not_touch_one_another(tmp_path):
    append_review(tmp_path, review())
    append_review(tmp_path, review("artefact", reader="bob"))
    found = read_reviews(tmp_path, MARK)
    assert found.readers == ["ann", "bob"]
    assert [found.of(name)[0].verdict for name in found.readers] == ["abnormal", "artefact"]
    assert read_reviews(tmp_path, MARK, "bob").readers == ["bob"]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_line_that_was_not_finished_is_passed_over_and_spoils_nothing(tmp_path, left):
    append_review(tmp_path, review())
    append_review(tmp_path, review(outline=ELSEWHERE))
    file = file_of(tmp_path)
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second[:left])
    found = read_reviews(tmp_path, MARK)
    # Without its line break alone it is whole, and counts.
    assert len(found.of("ann")) == (2 if left == -1 else 1)
    assert ["is not finished" in text for text in found.problems] == [True] * (left != -1)
    append_review(tmp_path, review("unsure", box(0, 0, 9, 9)))
    assert read_reviews(tmp_path, MARK).of("ann")[-1].verdict == "unsure"


@pytest.mark.parametrize(
    "line",
    [
        b"{}", b"[]", b"7", b"\xff\xfe", b"{" * 5000, b'{"version": 2}',
        b'{"version": 1, "reader": "ann"}',
    ],
)  # fmt: skip
def test_what_a_stranger_wrote_is_passed_over_in_a_sentence(tmp_path, line):
    append_review(tmp_path, review())
    with file_of(tmp_path).open("ab") as file:
        file.write(line + b"\n")
    append_review(tmp_path, review(outline=ELSEWHERE))
    found = read_reviews(tmp_path, MARK)
    assert len(found.of("ann")) == 2
    assert "does not count" in found.problems[0]


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "malignant"}, {"reader": "../x"}, {"reader": "bob"}, {"identity": "f" * 16},
        {"finding": "x" * 201}, {"note": 7}, {"score": "high"}, {"score": True},
        {"measures": {"a": "b"}}, {"measures": [1]}, {"region": 1.5}, {"outline": None},
        {"outline": {"type": "Point", "coordinates": [0, 0]}},
        {"outline": {"type": "Polygon", "coordinates": [[[0, 0], [1e99, 0], [1, 1], [0, 0]]]}},
        {"outline": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0], [0, 0]]]}},
    ],
)  # fmt: skip
def test_an_entry_that_lies_does_not_count(tmp_path, change):
    append_review(tmp_path, review())
    file = file_of(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change) + "\n")
    found = read_reviews(tmp_path, MARK)
    assert not found.entries
    assert len(found.problems) == 1


def test_links_and_pipes_are_not_followed(tmp_path):
    append_review(tmp_path, review())
    secret = tmp_path / "elsewhere.jsonl"
    file_of(tmp_path).rename(secret)
    file_of(tmp_path).symlink_to(secret)
    with pytest.raises(OutputError):
        read_reviews(tmp_path, MARK)
    with pytest.raises(OutputError):
        append_review(tmp_path, review())
    file_of(tmp_path).unlink()
    os.mkfifo(file_of(tmp_path))
    with pytest.raises(OutputError, match="no file of reviews"):
        read_reviews(tmp_path, MARK)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "x" * 65, "ends.", "a\n"])
def test_a_reader_is_a_name(name):
    with pytest.raises(UsageError):
        review(reader=name)


def test_findings_come_back_the_most_frequent_first(tmp_path):
    for finding in ("fold", "lymph follicle", "lymph follicle", ""):
        append_review(tmp_path, review(finding=finding))
    append_review(tmp_path, review(finding="of bob", reader="bob"))
    assert findings_used(tmp_path) == ["lymph follicle", "fold", "of bob"]
    assert findings_used(tmp_path, "bob") == ["of bob"]


def test_a_renamed_slide_keeps_its_reviews(tmp_path):
    append_review(tmp_path, review())
    renamed = Review("ann", "rat 7", MARK, "artefact", ELSEWHERE)
    append_review(tmp_path, renamed)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    assert len(read_reviews(tmp_path, MARK).of("ann")) == 2


def test_no_slide_takes_the_place_of_the_reviews(tmp_path):
    """A slide of that name would have its results written over them."""
    for name in ("reviews", "Reviews"):
        slide = tmp_path / f"{name}.tif"
        slide.write_bytes(b"slide")
        [folder] = result_folders([slide], tmp_path / "results").values()
        assert folder.name.startswith(f"{name}-")


def test_a_small_reviewed_place_leaves_a_larger_region_open():
    follicle, large = box(0, 0, 10, 10), box(0, 0, 100, 100)
    made = [review("normal variant", follicle)]
    found = match_reviews(made, [large])
    assert not found.of_region
    assert found.within == made
    again = match_reviews([review(outline=large)], [follicle, box(500, 500, 600, 600)])
    assert list(again.of_region) == [0]
    assert match_reviews(made, [box(500, 500, 600, 600)]).elsewhere == made


def test_the_review_most_like_a_region_is_its_own():
    wide, close = review("abnormal", box(0, 0, 400, 400)), review("artefact", box(0, 0, 101, 100))
    assert match_reviews([close, wide], [box(0, 0, 100, 100)]).of_region[0] is close


def test_two_readers_agree_as_kappa_says():
    places = [box(1000 * i, 0, 1000 * i + 100, 100) for i in range(5)]
    ann = ["abnormal", "abnormal", "artefact", "artefact"]
    bob = ["abnormal", "artefact", "artefact", "artefact"]
    from wsi_anomaly.results.reviews import SlideReviews

    entries = {
        "ann": [review(v, p) for v, p in zip(ann, places, strict=False)],
        "bob": [review(v, p, "bob") for v, p in zip([*bob, "unsure"], places, strict=False)],
    }
    found = agreement([SlideReviews(entries)], "ann", "bob")
    assert (found.agreed, len(found.pairs), found.only) == (3, 4, (0, 1))
    assert found.kappa == pytest.approx(0.5)  # (3/4 - 1/2) / (1 - 1/2)
    assert found.table["abnormal", "artefact"] == 1
    assert agreement([], "ann", "bob").kappa is None


@pytest.fixture
def scored(tmp_path):
    slide_file = fake_slide(tmp_path / "slide.tif")
    folder = tmp_path / "results" / "slide"

    def score(**changes):
        asked = {"calibration": fake_calibration(), "lesions": 3, "missing": 0} | changes
        with open_slide(slide_file) as slide:
            write_results(fake_score_map(3, slide=slide_file, **asked), slide, folder)
        return folder, read_summary(folder)

    return score


def reviews_of_all(results, folder, summary):
    mark = summary["slide"]["fingerprint"]
    regions = regions_of(StoredScores.read(folder))
    for i, region in enumerate(regions, start=1):
        append_review(
            results,
            Review("ann", "slide", mark, "artefact", region.outline, region=i,
                   result=summary["result_hash"]),
        )  # fmt: skip
    return mark, regions


def test_regions_are_those_of_the_summary(scored):
    folder, summary = scored()
    found = regions_of(StoredScores.read(folder))
    assert [r.area_mm2 for r in found] == pytest.approx([r["area_mm2"] for r in summary["regions"]])
    assert [r.highest for r in found] == pytest.approx(
        [r["highest_smoothed"] for r in summary["regions"]]
    )


def test_scoring_again_loses_no_review_and_finds_it_again(scored, tmp_path):
    folder, summary = scored()
    results = folder.parent
    mark, regions = reviews_of_all(results, folder, summary)
    count = lambda: reviewed_regions(folder, read_summary(folder), read_reviews(results, mark))  # noqa: E731
    assert count() == len(regions) >= 2
    file = next((results / FOLDER).rglob("*.jsonl"))
    before = file.read_bytes()
    scored(stride_um=32.0, shape=(40, 60))  # another grid: the regions are others
    assert file.read_bytes() == before
    scored(calibration=None)  # nothing is flagged any more
    assert count() == 0
    matched = match_reviews(read_reviews(results, mark).of("ann"), [])
    assert len(matched.elsewhere) == len(regions)
    scored()
    assert count() == len(regions)


def test_worklist_and_report_say_what_is_reviewed(scored):
    folder, summary = scored()
    results = folder.parent
    append_event(results, "scored", scored_event(folder, "slide"))
    _, regions = reviews_of_all(results, folder, summary)
    count = len(regions)
    bring_up_to_date(results, ["slide"])
    assert f"reviewed {count} of {count}" in (results / "index.html").read_text()
    with (results / "slides.csv").open() as file:
        [line] = csv.DictReader(file)
    assert line["reviewed"] == str(count)
    said = f"ann has reviewed {count} of {count}"
    assert said in (folder / "report.html").read_text()
    assert audit_results(results).problems == []  # a change that the trail knows
    scored()  # a report that is written anew knows it too
    assert said in (folder / "report.html").read_text()
    next((results / FOLDER).rglob("*.jsonl")).write_bytes(b"")
    bring_up_to_date(results, ["slide"])
    assert "has reviewed" not in (folder / "report.html").read_text()


def test_a_kill_at_any_moment_loses_at_most_the_decision_being_written(tmp_path):
    """A reader that says each decision once it is saved is killed again and again."""
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from shapely.geometry import box
        from wsi_anomaly.results.reviews import Review, append_review
        start = int(sys.argv[2])
        for i in range(start, start + 100000):
            place = box(10 * i, 0, 10 * i + 5, 5)
            append_review(Path(sys.argv[1]), Review("ann", "slide", "{MARK}", "artefact", place,
                                                    region=i))
            print(i, flush=True)
        """
    )
    said: list[int] = []
    for attempt in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(1000 * attempt)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 * (attempt + 1))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        said += [1000 * attempt, *(int(line) for line in rest.splitlines())]
    kept = {entry.region for entry in read_reviews(tmp_path, MARK).entries["ann"]}
    assert set(said) <= kept
    assert len(kept - set(said)) <= 3  # saved, but killed before it was said


def test_standing_is_quick_with_thousands():
    entries = [review(outline=box(20 * i, 0, 20 * i + 10, 10)) for i in range(2000)]
    assert len(standing([*entries, *entries])) == 2000


def test_an_outline_may_have_holes(tmp_path):
    ring = Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(3, 3), (6, 3), (6, 6), (3, 6)]])
    append_review(tmp_path, review(outline=ring))
    assert read_reviews(tmp_path, MARK).of("ann")[0].outline.equals(ring)

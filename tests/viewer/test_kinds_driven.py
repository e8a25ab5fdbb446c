"""A reader and the kinds of regions: one key for all that are alike, and why each is flagged."""

from __future__ import annotations

import json
import shutil

import pytest
from score_map_fakes import fake_calibration, fake_score_map, fake_slide, with_normals

from wsi_anomaly.reports import Worklist, write_results
from wsi_anomaly.results.reviews import read_reviews
from wsi_anomaly.slides import open_slide

pytest.importorskip("bokeh")
from devtools import wait_for
from driving import READY, open_slide_page, serving, text


@pytest.fixture
def results(tmp_path):
    """Results of five slides, two or more regions each."""
    with Worklist(tmp_path / "results"):
        for k in range(5):
            slide_file = fake_slide(tmp_path / f"s{k}.tif", mpp=0.5 + k / 1000)
            score_map = fake_score_map(
                3, calibration=fake_calibration(), slide=slide_file, lesions=3, missing=0,
                mpp=0.5 + k / 1000, name=f"s{k}",
            )  # fmt: skip
            with open_slide(slide_file) as slide:
                made = with_normals(score_map, k)
                write_results(made, slide, tmp_path / "results" / f"s{k}", heatmap=False)
    return tmp_path / "results"


def open_kinds(browser, server):
    browser.open("about:blank", "location.href === 'about:blank'")
    browser.open(f"{server.url}kinds", READY)
    return browser


def kept(results, reader="ann"):
    out = []
    for folder in sorted(p for p in results.iterdir() if (p / "summary.json").exists()):
        mark = json.loads((folder / "summary.json").read_text())["slide"]["fingerprint"]
        out += [(folder.name, review) for review in read_reviews(results, mark).of(reader)]
    return out


def saved(page, begins):
    said = "document.querySelector('section[aria-current] .saved').textContent"
    wait_for(lambda: page.value(said).startswith(begins), f"{begins}: {page.value(said)}")


def test_one_key_reviews_all_regions_of_a_kind(browser, results):
    with serving(results, "ann") as server:
        page = open_kinds(browser, server)
        kinds = page.value("document.querySelectorAll('section.kind').length")
        assert kinds == 2
        page.press("n")
        page.press("v")
        saved(page, "Saved")
        made = kept(results)
        first = int(text(page, "section.kind .mine").split()[0])
        assert len(made) == first >= 5
        assert {review.verdict for _, review in made} == {"normal variant"}
        assert {review.kind.split()[-2] for _, review in made} == {str(first)}
        assert {review.region % 2 for _, review in made} in ({0}, {1})
        # Named by what was said of it, also when it is opened again.
        assert text(page, "section.kind h2").startswith("Kind 1: normal variant")
        page = open_kinds(browser, server)
        assert text(page, "section.kind .mine") == f"{first} of {first} reviewed"
        page.press("n")
        page.press("u")
        saved(page, "Taken back")
        assert kept(results) == []
        assert browser.problems == []


def test_a_finding_is_given_to_all_and_a_region_reviewed_by_itself_stays(browser, results):
    with serving(results, "ann") as server:
        open_slide_page(browser, server, "s0")
        browser.press("n")
        browser.press("a")
        wait_for(lambda: len(kept(results)) == 1, "the first review")
        page = open_kinds(browser, server)
        for _ in range(2):
            page.press("n")
            page.press("f")
            page.send("Input.insertText", text="follicle")
            page.press("Escape")
            page.press("x")
            saved(page, "Saved")
    made = kept(results)
    alone = [(name, review.region) for name, review in made if not review.kind]
    assert alone == [("s0", 1)]
    assert {review.verdict for _, review in made if review.kind} == {"artefact"}
    assert {review.finding for _, review in made if review.kind} == {"follicle"}
    regions = sum(
        json.loads(file.read_text())["flagged"]["regions"]
        for file in results.glob("*/summary.json")
    )
    assert len(made) == regions


def test_beside_a_chosen_region_stand_the_nearest_normal_fields(browser, results):
    with serving(results) as server:
        page = open_slide_page(browser, server, "s0")
        assert page.value("document.getElementById('why').hidden")
        page.press("n")
        wait_for(lambda: not page.value("document.getElementById('why').hidden"), "why")
        shown = "[...document.querySelectorAll('#why figcaption')].map((f) => f.textContent)"
        captions = page.value(shown)
        assert captions[0] == "this field, 256 µm"
        assert captions[1] == (
            "normal: normal 2; 1.50 SD away, farther than 99.8% of normal fields are from their "
            "nearest"
        )
        assert len(captions) == 4
        loaded = "[...document.querySelectorAll('#why img')].every((i) => i.naturalWidth > 0)"
        wait_for(lambda: page.value(loaded), "the pictures")
        assert "7.5 robust deviations" in text(page, "#why-spoke")
        assert browser.problems == []


def test_a_result_without_normal_fields_says_nothing_of_why(browser, results):
    (results / "s0" / "regions.safetensors").unlink()
    with serving(results) as server:
        page = open_slide_page(browser, server, "s0")
        page.press("n")
        assert page.value("document.getElementById('why').hidden")


def test_a_blinded_reader_sees_no_title_that_another_gave(browser, results):
    with serving(results, "bob") as server:
        page = open_kinds(browser, server)
        page.press("n")
        page.press("v")
        saved(page, "Saved")
    with serving(results, "ann", blinded=True) as server:
        page = open_kinds(browser, server)
        assert text(page, "section.kind h2") == "Kind 1"
        assert text(page, "section.kind .mine").startswith("0 of")


def test_the_contact_sheets_say_how_many_readers_their_verdicts_are_of(browser, results):
    for reader in ("ann", "bob"):
        with serving(results, reader) as server:
            page = open_kinds(browser, server)
            page.press("n")
            page.press("v")
            saved(page, "Saved")
            count = int(text(page, "section.kind .mine").split()[0])
            browser.open(server.url, "document.querySelectorAll('table a').length > 0")
    said = f"{count} reviewed by 2 readers: {2 * count} normal variant"
    assert said in (results / "kinds.html").read_text(encoding="utf-8")


def test_what_is_like_no_other_has_no_key(browser, results):
    for k in range(1, 5):  # of one slide alone too few are alike
        shutil.rmtree(results / f"s{k}")
    with serving(results, "ann") as server:
        page = open_kinds(browser, server)
        assert text(page, "section.kind h2") == "Single: like no other"
        page.press("n")
        page.press("v")
        assert page.value("document.querySelectorAll('section.kind button').length") == 0
    assert kept(results) == []

"""A reader at work: verdicts by key, undo, findings, clicks, a second reader, a blinded reading."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import shapely

from wsi_anomaly.core.files import write_json
from wsi_anomaly.results.reviews import read_reviews
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.viewer.world import World

pytest.importorskip("bokeh")
from devtools import wait_for
from driving import READY, open_slide_page, serving, text


def saved(page, what="Saved"):
    wait_for(lambda: text(page, "#saved").startswith(what), f"{what}: {text(page, '#saved')}")


def press(page, key, what="Saved"):
    page.value("document.querySelector('#saved').textContent = ''")
    page.press(key)
    saved(page, what)


def type_in(page, selector, words):
    page.value(f"document.querySelector('{selector}').focus()")
    page.send("Input.insertText", text=words)
    page.press("Escape")


def kept(results, reader="ann"):
    mark = json.loads((results / "slide" / "summary.json").read_text())["slide"]["fingerprint"]
    return read_reviews(results, mark).of(reader)


def post(server, about, path="/review/slide", kind="application/json", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(
        "POST", f"/{server.token}{path}", body or json.dumps(about).encode(),
        {"Content-Type": kind},
    )  # fmt: skip
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def shown(results):
    return json.loads((results / "slide" / "summary.json").read_text())["result_hash"]


def test_one_key_reviews_a_region_and_n_goes_to_the_next(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        count = page.value("document.querySelectorAll('#regions button').length")
        assert text(page, "#progress-text") == f"0 of {count} reviewed"
        for key in "axvs"[:count]:
            page.press("n")
            press(page, key)
        done = min(4, count)
        assert text(page, "#progress-text") == f"{done} of {count} reviewed"
        verdicts = ["abnormal", "artefact", "normal variant", "unsure"][:done]
        assert [r.verdict for r in kept(results)] == verdicts
        assert [r.region for r in kept(results)] == list(range(1, done + 1))
        press(page, "n", "All regions")
        # A page that is opened again knows it all.
        page = open_slide_page(browser, server)
        assert text(page, "#progress-text") == f"{done} of {count} reviewed"
        assert "abnormal" in text(page, "#regions li:first-child .verdict")
        page.open(server.url, "document.querySelectorAll('table a').length > 0")
        assert f"{done} of {count}" in text(page, "main")
        assert page.problems == []


def test_undo_takes_the_last_decision_back(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.press("n")
        press(page, "s")
        press(page, "a")
        press(page, "u", "Taken back: abnormal, region 1")
        assert [r.verdict for r in kept(results)] == ["unsure"]
        assert "unsure" in text(page, "#regions .verdict")
        press(page, "u", "Taken back: unsure")
        assert kept(results) == []
        page.press("u")
        wait_for(lambda: "nothing to take back" in text(page, "#problem"), "a sentence")


def test_a_finding_is_typed_once_and_offered_again(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.press("n")
        press(page, "v")
        # Letters typed into a field are no verdicts.
        type_in(page, "#finding", "lymph follicle, as usual")
        wait_for(lambda: kept(results)[0].finding == "lymph follicle, as usual", "the finding")
        type_in(page, "#note", "near the portal tract")
        wait_for(lambda: kept(results)[0].note == "near the portal tract", "the note")
        assert kept(results)[0].verdict == "normal variant"
        page.press("n")
        assert page.value("document.querySelector('#finding').value") == ""
        page = open_slide_page(browser, server)
        options = "[...document.querySelectorAll('#findings option')].map((o) => o.value)"
        assert page.value(options) == ["lymph follicle, as usual"]


def test_a_click_chooses_a_field_or_the_region_there(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.press("n")
        middle = page.value(
            "(() => { const b = document.querySelector('#figure').getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        page.press("0")
        page.press("n")  # in the middle of the window lies the peak of the first region
        page.drag(middle, middle)
        assert text(page, "#target").startswith("Region")
        page.press("0")
        page.drag((middle[0], middle[1]), (middle[0], middle[1]))
        for x in range(int(middle[0]), int(middle[0]) + 400, 40):
            page.drag((x, middle[1]), (x, middle[1]))
            if text(page, "#target").startswith("Field"):
                break
        press(page, "s")
        assert kept(results)[-1].region is None
        assert "not flagged" in text(page, "#places")


def test_two_readers_stand_side_by_side(browser, results):
    for reader, keys in (("ann", "ax"), ("bob", "aa")):
        with serving(results, reader) as server:
            page = open_slide_page(browser, server)
            for key in keys:
                page.press("n")
                press(page, key)
            if reader == "bob":
                assert "ann: artefact" in text(page, "#regions li:nth-child(2)")
                there = "document.body?.textContent.includes('side by side')"
                page.open(f"{server.url}readers", there)
                shown_text = text(page, "main")
                assert "1 of 2 places with the same verdict, Cohen's kappa 0.00" in shown_text
                assert "Where they differ" in shown_text
                page.value("document.querySelector('td a').click()")
                wait_for(lambda: browser.value(f"location.hash === '#2' && {READY}"), "its region")
                assert text(page, "#place").startswith("Region 2: ")


def test_a_place_that_is_no_region_any_more_is_linked_by_where_it_lies(browser, results):
    for reader, key in (("ann", "x"), ("bob", "a")):
        with serving(results, reader) as server:
            page = open_slide_page(browser, server)
            page.press("n")
            press(page, key)
    summary = read_summary(results / "slide")
    write_json(results / "slide" / "summary.json", summary | {"result_hash": "another"})
    with serving(results, "ann") as server:
        page.open(f"{server.url}readers", "document.querySelector('td a') !== null")
        x, y = map(float, page.value("document.querySelector('td a').hash").strip("#").split(","))
        (review,) = kept(results)
        page.value("document.querySelector('td a').click()")
        wait_for(lambda: page.value(f"location.pathname.includes('/view/') && {READY}"), "the page")
        mark = "Bokeh.documents[0].get_model_by_name('mark').data"
        assert page.value(f"[{mark}.x[0], {mark}.y[0]]") == [x, y]
        world = World.of(summary)
        level0 = world.origin + np.array([x / world.mpp_x, (world.side_um - y) / world.mpp_y])
        assert shapely.intersects_xy(review.outline, *level0)


def test_in_a_blinded_reading_each_sees_only_their_own(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.press("n")
        press(page, "a")
        type_in(page, "#finding", "secret")
        wait_for(lambda: kept(results)[0].finding == "secret", "the finding")
    with serving(results, "bob", blinded=True) as server:
        page = open_slide_page(browser, server)
        assert "ann" not in text(page, "aside")
        state = page.value(
            "(() => { const r = new XMLHttpRequest(); r.open('GET', '../review/slide', false);"
            " r.send(); return r.responseText; })()"
        )
        assert "ann" not in state
        assert "secret" not in state
        page.open(f"{server.url}readers", "document.body?.textContent.includes('blinded:')")


def test_without_a_reader_nothing_is_written(browser, results):
    with serving(results) as server:
        page = open_slide_page(browser, server)
        assert page.value("document.querySelector('#review')") is None
        page.press("n")
        page.press("a")
        assert (
            post(server, {"result": shown(results), "region": 0, "verdict": "abnormal"})[0] == 404
        )
        assert not (results / "reviews").exists()


@pytest.mark.parametrize(
    "about",
    [
        {"region": 10**6, "verdict": "abnormal"}, {"region": True, "verdict": "abnormal"},
        {"region": -1, "verdict": "abnormal"}, {"region": 0, "verdict": "malignant"},
        {"region": 0, "verdict": 7}, {"region": 0, "verdict": "abnormal", "note": "x" * 4001},
        {"field": [0], "verdict": "unsure"}, {"field": [999999, 0], "verdict": "unsure"},
        {"verdict": "unsure"}, {"undo": 1}, {"region": 0, "verdict": "abnormal", "result": "old"},
        {"region": 0, "verdict": "abnormal", "finding": "x" * 70000},
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused_in_a_sentence(results, about):
    with serving(results, "ann") as server:
        status, answer = post(server, {"result": shown(results)} | about)
        assert status == 409
        assert answer.endswith(".")
        assert kept(results) == []


def test_a_site_elsewhere_cannot_review(results):
    """A form can be sent across sites, JSON cannot; and nobody knows the address."""
    about = {"result": shown(results), "region": 0, "verdict": "abnormal"}
    with serving(results, "ann") as server:
        assert post(server, about, kind="text/plain")[0] == 404
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request(
            "POST", "/review/slide", json.dumps(about).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        assert connection.getresponse().status == 404
        assert post(server, None, body=b"[" * 60000)[0] == 409
        assert kept(results) == []
        assert post(server, about)[0] == 200


def test_a_viewer_that_is_killed_loses_no_saved_key(browser, results):
    process = subprocess.Popen(
        [sys.executable, "-m", "wsi_anomaly", "view", str(results), "--reader", "ann",
         "--no-browser"],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "500"},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split()[1]
        browser.open("about:blank", "location.href === 'about:blank'")
        browser.open(f"{url}view/slide", READY)
        browser.press("n")
        press(browser, "a")
        browser.press("n")
        press(browser, "x")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert [r.verdict for r in kept(results)] == ["abnormal", "artefact"]
        browser.press("s")
        wait_for(lambda: "Not saved" in text(browser, "#problem"), "a sentence")
        assert "artefact" in text(browser, "#regions li:nth-child(2) .verdict")
    finally:
        process.kill()
        process.wait()


def test_that_the_slide_is_missing_stands_there_after_a_verdict_too(browser, results):
    (results.parent / "slide.tif").unlink()
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.press("n")
        press(page, "a")
        assert "is not where it was scored" in text(page, "#problem")
        assert not page.value("document.querySelector('#problem').hidden")

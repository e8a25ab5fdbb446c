"""A reader marks normal tissue: by clicks, by a drag, by keys; names it, deletes it, copies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import shapely

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.core.files import write_json
from wsi_anomaly.results.marks import extent_of, read_marks
from wsi_anomaly.results.reviews import read_reviews
from wsi_anomaly.scoring import ALONE
from wsi_anomaly.tiles.inputs import identity

pytest.importorskip("bokeh")
from devtools import wait_for
from driving import open_slide_page, serving, text
from test_review_driven import post, press


def said(page, what):
    wait_for(lambda: text(page, "#mark-said").startswith(what), what)


def at(page, across, down):
    x, y, width, height = page.value(
        "(() => { const b = document.querySelector('#figure').getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height]; })()"
    )
    return x + across * width, y + down * height


def draw(page, *corners):
    page.click("#mark")
    for corner in corners:
        place = at(page, *corner)
        page.drag(place, place)


def name(page, kind):
    wait_for(lambda: not page.value("document.querySelector('#naming').hidden"), "the kind's field")
    page.send("Input.insertText", text=kind)
    page.press("Enter")
    said(page, "Marked")


SQUARE = ((0.4, 0.4), (0.55, 0.4), (0.55, 0.6), (0.4, 0.6))


def facts(results):
    return json.loads((results / "slide" / "summary.json").read_text())


def kept(results):
    return read_marks(results / "marks" / "slide.geojson", extent_of(facts(results)))


def about(results, **change):
    return {"result": facts(results)["result_hash"], **change}


def test_clicks_a_name_and_enter_are_a_mark_that_stays(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        draw(page, *SQUARE)
        page.press("a")  # no verdict meanwhile
        shown = float(text(page, "#drawn").split()[0])
        assert 0.05 < shown < 0.5
        page.press("Enter")
        page.press("Enter")
        assert "Name the kind" in text(page, "#draw-hint")
        name(page, "muscle")
        (mark,) = kept(results)
        assert (mark.kind, mark.reader) == ("Muscle", "ann")
        assert mark.outline.area * 0.25e-6 == pytest.approx(shown, abs=0.002)
        assert text(page, "#mark-list li span") == "Muscle"
        assert read_reviews(results, facts(results)["slide"]["fingerprint"]).entries == {}
        assert page.problems == []  # servers that end below leave tiles unanswered
        # Marks are there when the page is opened again, for another reader and for none.
        for reader in ("bob", None):
            with serving(results, reader) as other:
                there = open_slide_page(browser, other)
                assert "by ann" in text(there, "#mark-list")
                assert there.value("document.querySelector('.delete')") is None
        # The reader deletes it; that takes two presses.
        page = open_slide_page(browser, server)
        page.click(".delete")
        assert len(kept(results)) == 1
        assert text(page, ".delete") == "really?"
        page.click(".delete")
        said(page, "Deleted: Muscle")
        assert not (results / "marks" / "slide.geojson").exists()
        assert page.value("document.querySelector('#again').hidden")


def test_a_drag_and_a_double_click_close_an_outline_too(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.click("#mark")
        corners = [at(page, *corner) for corner in SQUARE]
        for kind, place in zip(
            ("mousePressed", *["mouseMoved"] * 3, "mouseReleased"), [*corners, corners[-1]],
            strict=True,
        ):  # fmt: skip
            page.send(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], clickCount=1,
                button="left", buttons=1,
            )  # fmt: skip
        name(page, "Fat")
        draw(page, *SQUARE[:3])
        x, y = at(page, *SQUARE[3])
        for count in (1, 2):
            for kind in ("mousePressed", "mouseReleased"):
                page.send(
                    "Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=count,
                    button="left", buttons=1,
                )  # fmt: skip
        name(page, "Nerve")
        fat, nerve = kept(results)
        assert (fat.kind, nerve.kind) == ("Fat", "Nerve")
        assert fat.outline.symmetric_difference(nerve.outline).area < 0.02 * nerve.outline.area
        options = "[...document.querySelectorAll('#kinds option')].map((o) => o.value)"
        assert page.value(options)[:3] == ["Fat", "Nerve", "Mucosa"]


def test_the_keyboard_alone_marks(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.press("m")
        for key in ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft"):
            page.press(" ")
            page.press(key)
        page.press(" ")
        page.press("Backspace")
        page.press("Enter")
        name(page, "Vessel")
        assert [mark.kind for mark in kept(results)] == ["Vessel"]
        assert len(kept(results)[0].outline.exterior.coords) == 5


def test_escape_leaves_everything_as_it_was(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        for corners, keys in ((SQUARE[:2], ["Escape"]), (SQUARE, ["Enter", "Escape"])):
            draw(page, *corners)
            for key in keys:
                page.press(key)
            said(page, "Nothing was marked")
            assert page.value("document.querySelector('#draw').hidden")
        assert not (results / "marks").exists()
        page.press("n")
        press(page, "v")  # the keys are the reviewer's again


def test_two_points_are_no_outline(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        draw(page, *SQUARE[:2])
        page.press("Enter")
        assert "three points at least" in text(page, "#draw-hint")


def test_the_page_says_how_to_score_again_and_what_is_too_little(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        draw(page, (0.4, 0.4), (0.43, 0.4), (0.43, 0.43))
        page.press("Enter")
        name(page, "Fat")
        assert "mark 0.049 mm² or more of it" in text(page, "#mark-doubts")
        assert page.value("document.querySelector('#again').hidden")
        draw(page, *SQUARE)
        page.press("Enter")
        name(page, "fat")
        assert text(page, "#mark-doubts") == ""
        command = text(page, "#command")
        assert command.startswith(f"wsi-anomaly score {results.parent / 'slide.tif'} --model MODEL")
        assert f"--normal {results / 'marks'}" in command
        assert text(page, "#blanks") == "MODEL is the folder of its model."
        page.click("#copy")
        wait_for(lambda: text(page, "#copied"), "that it is copied")


def test_a_slide_that_was_compared_with_itself_needs_no_model(results):
    summary = facts(results)
    summary["model"]["name"] = ALONE
    write_json(results / "slide" / "summary.json", summary)
    with serving(results, "ann") as server:
        status, answer = post(server, about(results, **FAT), path="/marks/slide")
    assert status == 200
    assert "--model none" in json.loads(answer)["command"]


def test_a_mark_on_what_was_called_abnormal_is_doubted(browser, results):
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        page.press("n")
        press(page, "a")
        draw(page, (0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6))
        page.press("Enter")
        name(page, "Mucosa")
        assert "Mucosa lies on what ann has called abnormal" in text(page, "#mark-doubts")


@pytest.mark.parametrize(
    "change",
    [
        {}, {"kind": "Fat"}, {"kind": 7, "points": []}, {"kind": "Fat", "points": [[1, 2]]},
        {"kind": "Fat", "points": [["a", 2], [3, 4], [5, 6]]}, {"kind": "Fat", "points": [1, 2, 3]},
        {"kind": "Fat", "points": [[1e300, 0], [0, 1], [1, 1]]},
        {"kind": "Fat", "points": [[None, 0], [0, 1], [1, 1]]},
        {"kind": "", "points": [[0, 500], [300, 500], [300, 800]]},
        {"kind": "Fat", "points": [[-900, -900], [-800, -900], [-800, -800]]},
        {"kind": "Fat", "points": [[5, 5], [5, 5], [5, 5]]},
        {"remove": "nothing"}, {"remove": ["x"]},
        {"kind": "Fat", "points": [[0, 500], [300, 500], [300, 800]], "result": "old"},
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused_in_a_sentence(results, change):
    with serving(results, "ann") as server:
        status, answer = post(server, about(results) | change, path="/marks/slide")
        assert status == 409
        assert answer.endswith(".")
        assert not list((results).glob("marks/*.geojson"))


FAT = {"kind": "Fat", "points": [[100, 500], [400, 500], [400, 800], [100, 800]]}


def why_not(results, reader="ann"):
    with serving(results, reader) as server:
        status, answer = post(server, about(results, **FAT), path="/marks/slide")
        assert not (results / "marks").exists()
        assert status != 200
        return answer


def test_without_a_reader_nothing_is_marked_and_the_page_says_why(browser, results):
    assert "--reader NAME" in why_not(results, None)
    with serving(results) as server:
        page = open_slide_page(browser, server)
        assert page.value("document.querySelector('#mark').disabled")
        page.press("m")
        assert page.value("document.querySelector('#draw').hidden")
        assert "--reader NAME" in text(page, "#mark-why-not")


@pytest.mark.parametrize(
    ("place", "key", "value", "words"),
    [
        ("settings", "controls", "abc", "A study is compared with its control animals"),
        ("model", "takes_marks", False, "cannot take marked tissue"),
        ("slide", "backend", "embeddings", "scored by embeddings"),
    ],
)
def test_where_marks_cannot_serve_nothing_is_marked(results, place, key, value, words):
    summary = facts(results)
    summary[place][key] = value
    write_json(results / "slide" / "summary.json", summary)
    assert words in why_not(results)


def test_a_folder_that_cannot_be_written_says_so(results, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _how: Path(path) != results)
    assert "cannot be written to" in why_not(results)


def test_a_broken_file_of_marks_is_said_and_the_page_stays(browser, results):
    (results / "marks").mkdir()
    (results / "marks" / "slide.geojson").write_text("{")
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        assert "slide.geojson is no JSON" in text(page, "#mark-why-not")
        assert page.value("document.querySelector('#mark').disabled")
        page.press("n")
        press(page, "a")
        status, answer = post(server, about(results, **FAT), path="/marks/slide")
        assert status == 500
        assert "slide.geojson is no JSON" in answer
        assert (results / "marks" / "slide.geojson").read_text() == "{"
        shutil.rmtree(results / "marks")
        assert post(server, about(results, **FAT), path="/marks/slide")[0] == 200


def test_a_kind_with_html_in_its_name_is_text(browser, results):
    evil = "<img src=x onerror=alert(1)>"
    (results / "marks").mkdir()
    write_geojson(
        results / "marks" / "slide.geojson", [Outline(evil, shapely.box(200, 200, 800, 800))], "s"
    )
    with serving(results, "ann") as server:
        page = open_slide_page(browser, server)
        assert text(page, "#mark-list li span") == evil
        assert "drawn elsewhere" in text(page, "#mark-list")
        assert page.value("document.querySelectorAll('#marks img').length") == 0


def test_scores_that_know_the_marks_say_so(browser, results):
    with serving(results, "ann") as server:
        assert post(server, about(results, **FAT), path="/marks/slide")[0] == 200
        summary = facts(results)
        summary["settings"]["normal"] = identity(results / "marks" / "slide.geojson", "bounds")
        summary["notices"] = [
            "Normal marked by a person on this slide: 1 area, 0.09 mm2 (Fat 0.09)."
        ]
        write_json(results / "slide" / "summary.json", summary)
        page = open_slide_page(browser, server)
        assert not page.value("document.querySelector('#mark-scored').hidden")
        assert page.value("document.querySelector('#again').hidden")
        assert "1 area, 0.09 mm²" in text(page, "aside")
        # Without them the scores know marks that are gone.
        (results / "marks" / "slide.geojson").unlink()
        page = open_slide_page(browser, server)
        assert "marks that are not here" in text(page, "#again-why")
        assert "--normal" not in text(page, "#command")

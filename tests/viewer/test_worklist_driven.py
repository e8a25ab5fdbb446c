"""The worklist as its reader works with it: search, filter and sort, in a headless Chromium."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsi_anomaly.reports import Worklist, write_worklist
from wsi_anomaly.reports.worklist_cases import note_cases
from wsi_anomaly.results.summary import FORMAT

pytest.importorskip("tornado")
from devtools import Browser
from driving import cohort_page

ROWS = "[...document.querySelectorAll('.worklist tbody tr')].filter(r => !r.hidden)"
NAMES = f"{ROWS}.map(r => r.cells[2].dataset.v)"
SLIDES = {  # name: slide score, flagged regions, area, verdict
    "liver 1": (9.0, 2, 0.5, "flagged"),
    "liver 2": (10.0, 0, 0.0, "calm"),
    "kidney 1": (2.5, 1, 3.0, "flagged"),
    "kidney 2": (None, 0, 0.0, "cannot be compared"),
}


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    for name, (score, regions, area, verdict) in SLIDES.items():
        (tmp_path / name).mkdir()
        facts = {
            "format": FORMAT, "status": "done", "slide": {"name": name}, "slide_score": score,
            "warnings": ["It is blurred."] if score is None else [],
            "verdict": verdict, "flagged": {"possible": True, "regions": regions, "area_mm2": area},
            "taken_away": {"regions": 1 if name == "liver 1" else 0, "area_mm2": 0.25},
        }  # fmt: skip
        (tmp_path / name / "summary.json").write_text(json.dumps(facts), encoding="utf-8")
    with Worklist(tmp_path) as listing:
        listing.failed("/slides/lung.svs", "The file is truncated.")
    url = write_worklist(tmp_path).as_uri()
    browser.open(url, "document.getElementById('shown')?.textContent.length > 0")
    return browser


def test_a_search_shows_the_slides_with_all_its_words(page: Browser) -> None:
    assert page.value("document.getElementById('shown').textContent") == "5 of 5"
    page.click("#search")
    for letter in "KIDNEY compared":
        page.press(letter)
    assert page.value(NAMES) == ["kidney 2"]
    assert page.value("document.getElementById('shown').textContent") == "1 of 5"
    assert not page.problems


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("flagged", {"liver 1", "kidney 1"}),
        ("open", {"liver 1", "kidney 1"}),
        ("unlike", {"kidney 2"}),
        ("failed", {"lung.svs"}),
        ("all", {*SLIDES, "lung.svs"}),
    ],
)
def test_a_filter_shows_one_kind(page: Browser, kind: str, names: set[str]) -> None:
    page.click(f"[data-kind={kind}]")
    assert set(page.value(NAMES)) == names
    assert page.value(f"document.querySelector('[data-kind={kind}]').ariaPressed") == "true"


def test_a_click_on_a_column_sorts_by_its_numbers_and_another_turns_it_round(page: Browser) -> None:
    page.click(".worklist th:nth-child(4) button")
    assert page.value(NAMES)[:3] == ["liver 2", "liver 1", "kidney 1"]  # 10 above 9, not as text
    page.click(".worklist th:nth-child(4) button")
    assert page.value(NAMES)[:3] == ["kidney 1", "liver 1", "liver 2"]
    page.click(".worklist th:nth-child(6) button")
    assert page.value(NAMES)[:2] == ["kidney 1", "liver 1"]  # by area
    assert page.value("document.querySelectorAll('.worklist th[aria-sort]').length") == 1
    page.click(".worklist th:nth-child(3) button")
    assert page.value(NAMES)[-1] == "kidney 1"


CASES = (
    "[...document.querySelectorAll('.worklist tbody')].filter(b => !b.hidden).map(b => ["
    "b.querySelector('.case th')?.firstChild.textContent.trim() ?? '',"
    "[...b.rows].filter(r => r.className !== 'case' && !r.hidden).map(r => r.cells[2].dataset.v)])"
)


def test_slides_of_a_case_stand_together_the_highest_case_first(page: Browser) -> None:
    folder = Path(page.value("decodeURI(location.pathname)")).parent
    note_cases(folder, {"liver 1": "animal 7", "kidney 1": "animal 7"})
    note_cases(folder, {"kidney 2": "animal 9", "/slides/lung.svs": "animal 9"})  # a later run
    page.open("about:blank", "location.href === 'about:blank'")
    page.open(
        write_worklist(folder).as_uri(), "document.getElementById('shown')?.textContent.length > 0"
    )
    assert page.value(CASES) == [
        ["animal 9", ["kidney 2", "lung.svs"]],  # what cannot be compared comes first
        ["No case named", ["liver 2"]],
        ["animal 7", ["liver 1", "kidney 1"]],
    ]
    page.click(".worklist th:nth-child(6) button")  # by area: cases by their highest slide
    assert page.value(CASES)[0] == ["animal 7", ["kidney 1", "liver 1"]]
    page.click("#search")
    for letter in "animal 7":
        page.press(letter)
    assert page.value(CASES) == [["animal 7", ["kidney 1", "liver 1"]]]
    page.click("[data-kind=unlike]")
    assert page.value(CASES) == []
    table = (folder / "slides.csv").read_text(encoding="utf-8")
    assert [line.count("animal 7") for line in table.splitlines()[1:]].count(1) == 2


def test_badges_say_what_is_reviewed_warned_and_not_comparable(page: Browser) -> None:
    badges = (
        "Object.fromEntries([...document.querySelectorAll('.worklist tbody tr')].map(r =>"
        " [r.cells[2].dataset.v, [...r.querySelectorAll('.tag')].map(t => t.textContent)]))"
    )
    found = page.value(badges)
    assert found["kidney 2"] == ["cannot be compared", "warned"]
    assert found["liver 2"] == []
    assert "truncated" in page.value(f"{ROWS}.at(-1).cells[2].textContent")


def test_without_a_script_it_is_the_list_in_order(page: Browser) -> None:
    """The tools are hidden until the script shows them: printed or blocked, nothing is dead."""
    assert '<div id="tools" class="tools" hidden' in Path(
        page.value("decodeURI(location.pathname)")
    ).read_text(encoding="utf-8")


def test_what_stands_beside_one_another_does_not_touch(page: Browser) -> None:
    gap = page.value(
        "(() => { const tag = document.querySelector('.name .tag');"
        " const name = tag.parentElement.querySelector('a');"
        " return tag.getBoundingClientRect().left - name.getBoundingClientRect().right; })()"
    )
    assert gap >= 4
    page.look(390)
    assert "0.50 mm²\n1 taken away" in page.value("document.querySelector('.worklist').innerText")


def test_the_page_of_a_study_is_no_wider_than_a_phone(browser: Browser, results: Path) -> None:
    cohort_page(results)
    browser.look(390)
    browser.open((results / "cohort.html").as_uri(), "document.readyState === 'complete'")
    assert browser.value("document.documentElement.scrollWidth") == 390

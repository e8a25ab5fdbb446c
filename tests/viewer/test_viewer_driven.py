"""The viewer as its user works with it: sliders, keys, list and mouse, in a headless Chromium."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from score_map_fakes import fake_calibration, fake_score_map, fake_slide

from wsi_anomaly.reports import write_results
from wsi_anomaly.slides import open_slide

pytest.importorskip("bokeh")
from devtools import wait_for
from driving import READY, open_slide_page, serving, text

from wsi_anomaly.viewer.world import World

X = "Bokeh.documents[0].get_model_by_name('x_range')"
Y = "Bokeh.documents[0].get_model_by_name('y_range')"
# Opacity of every field of the map, as Bokeh draws it.
ALPHA = (
    "(() => { const i = Bokeh.documents[0].get_model_by_name('map').data.image[0];"
    " return [...new Uint8Array(i.buffer, i.byteOffset, i.byteLength)].filter((_, k) => k % 4 == 3)"
    "; })()"
)


@pytest.fixture(scope="module")
def server(scored):
    with serving(scored) as made:
        yield made


@pytest.fixture
def page(browser, server):
    """The page of the slide, just opened."""
    return open_slide_page(browser, server)


def test_no_tile_is_asked_for_that_there_is_not(page, server):
    deepest = World.of(server.results.summary("slide")).max_zoom
    asked = len(page.requests)
    at = middle(page)
    for share in (0.4, 0.1, 0.1):
        half = width(page) * share / 2
        page.value(f"({X}.setv({{start: {at[0] - half}, end: {at[0] + half}}}), 0)")
        page.value(f"({Y}.setv({{start: {at[1] - half}, end: {at[1] + half}}}), 0)")
        # Bokeh fetches ahead when it has been idle for half a second.
        page.value("new Promise((done) => setTimeout(done, 1500))")
    zooms = [int(z) for z in re.findall(r"/tile/slide/(\d+)/", " ".join(page.requests[asked:]))]
    assert max(zooms) == deepest
    assert not page.problems


def alpha(page):
    return np.array(page.value(ALPHA))


def middle(page):
    return np.array(page.value(f"[({X}.start + {X}.end) / 2, ({Y}.start + {Y}.end) / 2]"))


def width(page):
    return page.value(f"{X}.end - {X}.start")


def places(server):
    """Where the regions lie, micrometres of the viewer's world."""
    from wsi_anomaly.viewer.page import page_data

    results = server.results
    data = page_data("slide", results.folder / "slide", results.summary("slide"))
    return np.array([region["um"] for region in data["regions"]])


def shown_fields(page):
    shown, there = re.match(r"([\d,]+) of ([\d,]+) fields", text(page, "#counted")).groups()
    return int(shown.replace(",", "")), int(there.replace(",", ""))


def test_the_opacity_slider_makes_the_heatmap_clear(page):
    before, drawn = alpha(page), page.picture()[:, 300:].astype(int)
    assert text(page, "#opacity-value") == "70%"
    assert before.max() > 150
    page.click("#opacity", 0.3)
    share = int(text(page, "#opacity-value").rstrip("%"))
    assert 20 <= share <= 40
    assert alpha(page) == pytest.approx(before / 70 * share, abs=1.5)
    page.press("Home")  # the slider has the focus
    assert text(page, "#opacity-value") == "0%"
    assert not alpha(page).any()
    wait_for(lambda: np.any(page.picture()[:, 300:] != drawn), "the map to be drawn clear")
    page.press("ArrowRight")
    assert text(page, "#opacity-value") == "1%"


def test_the_threshold_slider_hides_what_scores_lower(page):
    shown, there = shown_fields(page)
    assert shown == there  # fields of ordinary tissue are shown by no colour
    counts = [np.count_nonzero(alpha(page))]
    for across in (0.4, 0.7):
        page.click("#threshold", across)
        counts.append(np.count_nonzero(alpha(page)))
        assert shown_fields(page)[0] < there
    assert counts[0] > counts[1] > counts[2] > 0
    page.press("End")
    assert shown_fields(page)[0] == np.count_nonzero(alpha(page)) == 1  # the highest field
    page.press("Home")
    assert shown_fields(page) == (there, there)
    assert np.count_nonzero(alpha(page)) == counts[0]


def test_the_list_of_regions_jumps_to_each(page, server):
    there = places(server)
    assert page.value("document.querySelectorAll('#regions button').length") == len(there)
    for i in (1, 0):
        page.click(f"#regions li:nth-child({i + 1}) button")
        assert middle(page) == pytest.approx(there[i], abs=1)
        assert width(page) == pytest.approx(700, rel=0.01)
        assert text(page, "#regions [aria-current=true] span") == str(i + 1)
        assert f"Region {i + 1}: x " in text(page, "#place")


def test_what_a_choice_shows_does_not_move_the_list_under_the_pointer(page):
    """The panel of nearest normal fields comes when its pictures are made: after the click."""
    top = "document.querySelector('#regions').getBoundingClientRect().top"
    before = page.value(top)
    page.click("#regions li:nth-child(1) button")
    wait_for(lambda: page.value("!document.querySelector('#why').hidden"), "the panel to show")
    assert page.value(top) == before


def test_keys_go_from_region_to_region_and_around(page, server):
    there = places(server)
    for key, i in (("n", 0), ("n", 1), ("p", 0), ("p", len(there) - 1), ("n", 0)):
        page.press(key)
        assert middle(page) == pytest.approx(there[i], abs=1), key
    page.press("0")
    assert width(page) > 1900  # the whole slide


def test_keys_set_opacity_and_threshold_and_turn_the_heatmap_off(page):
    before = alpha(page)
    page.press("[")
    assert text(page, "#opacity-value") == "60%"
    page.press("]")
    page.press("]")
    assert text(page, "#opacity-value") == "80%"
    page.press("h")
    assert text(page, "#opacity-value") == "off"
    assert not alpha(page).any()
    page.press("h")
    page.press("[")
    assert (alpha(page) == before).all()
    page.press(".")
    assert shown_fields(page)[0] < shown_fields(page)[1]
    page.press(",")
    assert (alpha(page) == before).all()


def test_keys_and_mouse_move_and_zoom(page):
    start, wide = middle(page), width(page)
    page.press("+")
    assert width(page) == pytest.approx(wide / 1.5)
    page.press("-")
    assert width(page) == pytest.approx(wide)
    page.press("ArrowRight")
    assert middle(page) - start == pytest.approx([0.2 * wide, 0], abs=1)
    page.press("ArrowLeft")
    page.press("ArrowUp")
    assert middle(page)[1] > start[1]
    page.press("0")
    assert middle(page) == pytest.approx(start)
    page.requests.clear()
    for _ in range(4):
        page.wheel((800, 450), -240)
    wait_for(lambda: width(page) < wide / 1.5, "the wheel to zoom in")
    wait_for(
        lambda: page.value("1") and any("/tile/slide/4/" in url for url in page.requests),
        "finer tiles of the slide",
    )
    before = middle(page)
    page.drag((800, 450), (600, 450))
    wait_for(lambda: middle(page)[0] > before[0] + 1, "the slide to follow the mouse")


def test_zooming_ends_before_the_slide_is_a_speck_or_a_pixel_a_window(page):
    """Sixty steps out once froze the page."""
    page.press("0")
    whole = width(page)
    for _ in range(60):
        page.press("-")
    assert whole < width(page) < 6 * whole
    for _ in range(80):
        page.press("+")
    assert width(page) == pytest.approx(5)


def test_the_score_under_the_pointer_is_read(page, server):
    page.press("n")
    box = page.value(
        "(() => { const b = document.querySelector('#figure').getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    wait_for(lambda: re.match(r"score \d[\d.]+ · ", text(page, "#under")), "the score")


def test_nothing_is_asked_of_anybody_else_and_nothing_goes_wrong(page, server):
    page.requests.clear()
    page.press("n")
    page.click("#opacity", 0.5)
    page.open(server.url, "document.querySelectorAll('table a').length > 0")
    page.open(f"{server.url}view/slide", READY)
    assert len(page.requests) > 5
    assert all(url.startswith((server.url, "data:", "blob:")) for url in page.requests)
    assert page.problems == []


def test_regions_that_reviews_took_away_are_listed_and_shown_by_a_switch(browser, tmp_path):
    slide_file = fake_slide(tmp_path / "slide.tif")
    score_map = fake_score_map(
        3, calibration=fake_calibration(), slide=slide_file, lesions=3, missing=0
    )
    found = score_map.interpretation
    flagged = found.flagged.copy()
    flagged[found.regions[1].fields] = False
    taken = (found.regions[1], "lymph follicle (reviewed 12 times)")
    kept = replace(
        found, flagged=flagged, taken_away=(taken,), regions=[found.regions[0], *found.regions[2:]]
    )
    with open_slide(slide_file) as slide:
        write_results(
            replace(score_map, interpretation=kept), slide, tmp_path / "results" / "slide"
        )
    shown = "Bokeh.documents[0].get_model_by_name('taken').visible"
    with serving(tmp_path / "results") as server:
        page = open_slide_page(browser, server)
        count = page.value("document.querySelectorAll('#regions button').length")
        assert count == len(found.regions) - 1
        assert "like: lymph follicle (reviewed 12 times)" in text(page, "#taken-regions li")
        assert page.value(shown) is False
        page.click("#show-taken")
        assert page.value(shown) is True
        page.click("#show-taken")
        page.click("#taken-regions button")  # to go there shows them
        assert page.value(shown) is True
        assert width(page) == pytest.approx(700, rel=0.01)
        assert page.problems == []


def moved(page, x, y):
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


def test_the_magnification_is_that_of_the_pixels_on_the_screen(page):
    for _ in range(2):
        page.press("+")
    shown = re.fullmatch(r"([\d.]+)×, ([\d.]+) µm/px", text(page, "#power"))
    mpp = width(page) / page.value("document.querySelector('#figure').clientWidth")
    assert float(shown[2]) == pytest.approx(mpp, rel=0.05)
    assert float(shown[1]) == pytest.approx(10 / mpp, rel=0.05)


def test_a_click_on_the_overview_goes_there(page, server):
    page.press("n")
    page.click("#overview", 0.75)
    assert middle(page)[0] == pytest.approx(0.75 * 1920, rel=0.03)
    assert width(page) == pytest.approx(700, rel=0.01)  # as near as before


def test_the_slide_is_grey_under_the_heatmap_and_never_without_it(page):
    visible = "['slide', 'grey'].map(n => Bokeh.documents[0].get_model_by_name(n).visible)"

    def colourful():
        pixels = page.picture()[100:600, 400:1300].astype(int)
        return (pixels.max(-1) - pixels.min(-1)).mean()

    wait_for(lambda: colourful() > 20, "the slide in its colours")
    page.press("[")
    page.click("#opacity", 0.08)  # hardly any heatmap, so that the slide is what is seen
    page.press("g")
    assert page.value(visible) == [False, True]
    wait_for(lambda: colourful() < 10, "the slide in grey")
    page.press("h")
    assert page.value(visible) == [True, False]
    page.press("h")
    page.press("g")
    assert page.value(visible) == [True, False]


def test_the_scale_has_numbers_that_follow_its_range(page):
    ticks = "[...document.querySelectorAll('#ticks span')].map(s => Number(s.textContent))"
    usual = page.value(ticks)
    assert len(usual) >= 2
    assert usual == sorted(usual)
    page.click("#own")
    assert page.value(ticks) != usual


def test_the_percentile_under_the_pointer_is_that_of_the_reference(page):
    page.press("n")
    box = page.value(
        "(() => { const b = document.querySelector('#figure').getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    moved(page, *box)
    wait_for(lambda: "above all normal fields" in text(page, "#under"), "the peak's percentile")
    page.press("0")
    seen = set()
    for x in range(400, 1300, 60):
        moved(page, x, 300)
        seen.add(text(page, "#under").partition(" · ")[2].partition(" ")[0])
    assert "percentile" in seen

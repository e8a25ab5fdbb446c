"""The report and the worklist: what they say, and that nothing in a name can do harm."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from score_map_fakes import fake_calibration, fake_score_map, fake_slide

from wsi_anomaly.calibration import OperatingPoint
from wsi_anomaly.cli.score_display import regions_in_words
from wsi_anomaly.core.wording import area_text
from wsi_anomaly.reports import Worklist, write_report, write_results, write_worklist
from wsi_anomaly.reports.charts import color_bar
from wsi_anomaly.reports.report import percent, verdict
from wsi_anomaly.reports.slide_folder import frame_thumbnail
from wsi_anomaly.results import Frame
from wsi_anomaly.results.raster import overlay_picture
from wsi_anomaly.scoring import PixelMaps, interpret
from wsi_anomaly.slides import open_slide

CALIBRATION = fake_calibration()
EVIL = "<script>alert(1)</script>\"'&{{ 7*7 }}"


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    return fake_slide(tmp_path_factory.mktemp("slides") / "slide.tif")


def report_of(score_map, slide_file, folder) -> str:
    with open_slide(slide_file) as slide:
        frame = Frame.of(score_map.slide)
        thumbnail = frame_thumbnail(slide, frame, 400)
        overlay = overlay_picture(score_map, frame, thumbnail)
        write_report(folder / "report.html", score_map, slide, thumbnail, overlay, frame)
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Everything in a page that could load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.policy = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_data(self, data):
        if self.lasttag == "script":
            self.scripts.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        found = dict(attrs)
        self.addresses += [
            v for k, v in attrs if k in ("src", "href", "action", "data", "xlink:href")
        ]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        if found.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = found["content"]


def test_every_region_is_listed_the_later_ones_folded(slide_file, tmp_path):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    found = score_map.interpretation
    many = replace(found, regions=found.regions[:1] * 40)
    page = report_of(replace(score_map, interpretation=many), slide_file, tmp_path)
    assert [f'id="region-{k}"' in page for k in (1, 25, 26, 40, 41)] == [True] * 4 + [False]
    assert page.index('id="region-25"') < page.index("15 more") < page.index('id="region-26"')


def test_every_picture_has_a_scale_bar(slide_file, tmp_path):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    page = report_of(score_map, slide_file, tmp_path)
    pictures = page.count("<figure>")
    assert page.count('class="ruler"') == pictures > 2
    wide = re.findall(r'class="ruler" style="width:([\d.]+)%"><b>([^<]+)<', page)
    width_um = score_map.slide.bounds.width * score_map.slide.mpp.x
    assert wide[0] == (f"{100 * 200 / width_um:.2f}".rstrip("0"), "200 µm")
    assert ("19.53", "50 µm") in wide  # of 256 px at 10x
    assert ("15.62", "20 µm") in wide  # of 256 px at 20x


def test_a_report_leads_back_to_its_line_of_the_worklist(slide_file, tmp_path):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    with open_slide(slide_file) as slide:
        report = write_results(score_map, slide, tmp_path / "sl #ide")
    (line,) = re.findall(r'href="../index.html#([^"]+)"', report.read_text(encoding="utf-8"))
    assert f'id="{line}"' in write_worklist(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize("where", ["name", "path", "vendor", "model"])
def test_everything_that_comes_from_files_is_escaped(slide_file, tmp_path, where):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    if where == "model":
        model = {**score_map.model, "name": EVIL, "provenance": {EVIL: EVIL}}
        score_map = replace(score_map, model=model)
    else:
        score_map = replace(score_map, slide=replace(score_map.slide, **{where: EVIL}))
    text = report_of(score_map, slide_file, tmp_path)
    page = Page(text)
    assert "script" not in page.tags
    assert not page.handlers
    if where != "vendor":
        assert "&lt;script&gt;alert(1)" in text
        assert "{{ 7*7 }}" in text  # a name is text, not a template


def test_the_report_is_one_file_that_loads_nothing(slide_file, tmp_path):
    text = report_of(
        fake_score_map(3, calibration=CALIBRATION, slide=slide_file), slide_file, tmp_path
    )
    page = Page(text)
    assert page.addresses
    for address in page.addresses:
        assert address.startswith(("data:image/", "#")), address[:60]
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert "url(" not in text.replace("url(#scale)", "")
    assert not {"script", "iframe", "object", "link", "form"} & page.tags
    assert "default-src 'none'" in page.policy


def test_a_flagged_slide_says_how_much_and_where(slide_file, tmp_path):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    regions = score_map.interpretation.regions
    assert regions
    text = report_of(score_map, slide_file, tmp_path)
    assert f"{len(regions)} region" in verdict(score_map).headline
    assert verdict(score_map).headline in text
    peak = score_map.fields.coords[regions[0].peak] + 64
    assert f"{peak[0]}, {peak[1]}" in text
    assert "10×" in text
    assert "20×" in text
    assert "40×" not in text.replace("4040×", "")  # the slide has no such pixels
    assert "no diagnosis" in text


def test_without_a_reference_nothing_is_said_of_normal_tissue(slide_file, tmp_path):
    """Its colours come from the slide itself: what has none need not be like normal tissue."""
    raw = report_of(fake_score_map(calibration=None), slide_file, tmp_path)
    assert "no colour: the lower three quarters of this slide, or no tissue" in raw
    assert "<h2>Scores of this slide</h2>" in raw
    known = report_of(fake_score_map(calibration=CALIBRATION), slide_file, tmp_path)
    assert "no colour: like most normal tissue, or no tissue" in known
    assert "<h2>This slide against normal tissue</h2>" in known


def test_error_maps_are_shown_where_there_are_some(slide_file, tmp_path):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    assert "error map" not in report_of(score_map, slide_file, tmp_path)
    order = np.argsort(-np.nan_to_num(score_map.interpretation.smoothed))[:300]
    rng = np.random.default_rng(0)
    maps = PixelMaps(
        order,
        rng.integers(0, 255, (300, 16, 16, 3), np.uint8),
        rng.random((300, 16, 16), np.float32),
    )
    text = report_of(replace(score_map, pixel_maps=maps), slide_file, tmp_path)
    assert "<figcaption>error map</figcaption>" in text


def test_what_was_not_assessed_is_said_with_its_area(slide_file, tmp_path):
    score_map = fake_score_map(3, missing=0.4, calibration=CALIBRATION, slide=slide_file)
    text = report_of(score_map, slide_file, tmp_path)
    for reason, area in score_map.not_assessed_mm2().items():
        assert f"{reason} {area:.2f}" in text
    assert "silence there does not mean normal" in text


def test_nothing_assessed_gives_a_report_that_says_so(slide_file, tmp_path):
    score_map = fake_score_map(3, missing=1.0, calibration=CALIBRATION, slide=slide_file)
    assert "Nothing could be assessed." in report_of(score_map, slide_file, tmp_path)


@pytest.mark.parametrize("seen", ["train", "calibration"])
def test_a_seen_slide_has_no_flags_in_words_either(slide_file, tmp_path, seen):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file, seen=seen)
    text = report_of(score_map, slide_file, tmp_path)
    assert "Scores without flags." in text
    assert "the model has seen this slide" in text
    assert "p ≈" not in text


def test_no_region_is_not_called_normal():
    score_map = fake_score_map(0, lesions=0, calibration=CALIBRATION)
    if score_map.interpretation.regions:
        quiet = OperatingPoint(99.0, 1.0, 0.0, "")
        found = replace(score_map.interpretation, regions=[], operating_point=quiet)
        score_map = replace(score_map, interpretation=found)
    words = verdict(score_map)
    assert words.headline == "No region stands out from normal tissue."
    assert "does not prove that tissue is normal" in words.limits


def test_benjamini_hochberg_prints_its_floor(slide_file, tmp_path):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    found = interpret(
        score_map.fields, score_map.score, CALIBRATION, mpp=(0.5, 0.5), fdr=0.1
    )  # fmt: skip
    text = report_of(replace(score_map, interpretation=found), slide_file, tmp_path)
    assert found.fdr.floor > 1
    assert f"fewer than {found.fdr.floor} fields cannot be flagged" in text


def test_labels_of_percentiles_over_the_colour_bar_do_not_touch():
    found = fake_score_map(calibration=CALIBRATION)
    low, near = (CALIBRATION.quantile(share) for share in (0.75, 0.9))
    meaning = replace(found.interpretation, color_range=(low, low + 10 * (near - low)))
    bar = color_bar(replace(found, interpretation=meaning))
    places = [x for x, _ in bar.percentiles]
    assert len(places) > 1
    assert min(np.diff(places)) > 0.15 * bar.inner


def test_percentiles_are_not_rounded_up_to_what_only_the_highest_have():
    assert percent(99.96) == "99.9th percentile"
    assert percent(100) == "above all normal fields"
    assert percent(91) == "91st percentile"


def results(tmp_path, slide_file, **kind):
    out = tmp_path / "results"
    with open_slide(slide_file) as slide:
        for name, lesions in (("quiet", 0), ("loud", 4)):
            score_map = fake_score_map(
                2, lesions=lesions, calibration=CALIBRATION, slide=slide_file, name=name, **kind
            )
            write_results(score_map, slide, out / name, heatmap=False)
    return out


def rows_of(out):
    with open(out / "slides.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_worklist_ranks_by_the_highest_region_and_ends_with_what_failed(tmp_path, slide_file):
    out = results(tmp_path, slide_file)
    Worklist(out).failed("/x/broken.svs", "broken.svs is no slide; copy it again.")
    index = write_worklist(out)
    rows = rows_of(out)
    assert [row["slide"] for row in rows] == ["loud", "quiet", "broken.svs"]
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert float(rows[0]["slide_score"]) > float(rows[1]["slide_score"])
    assert rows[2]["status"] == "failed"
    assert "copy it again" in rows[2]["note"]
    text = index.read_text(encoding="utf-8")
    assert text.index("loud/report.html") < text.index("quiet/report.html")
    assert "None" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)


def test_the_worklist_names_what_was_not_assessed(tmp_path, slide_file):
    out = results(tmp_path, slide_file, missing=0.4)
    index = write_worklist(out)
    summary = json.loads((out / "loud" / "summary.json").read_text())
    reasons = summary["not_assessed_by_reason_mm2"]
    assert reasons
    for reason, area in reasons.items():
        assert f"{reason} {area:.2f}" in index.read_text(encoding="utf-8")
        assert f"{reason} {area:.2f}" in rows_of(out)[0]["not_assessed_why"]


def test_names_do_no_harm_in_the_worklist(tmp_path, slide_file):
    out = results(tmp_path, slide_file)
    Worklist(out).failed(f"/x/{EVIL}", EVIL)
    Worklist(out).failed("/x/=cmd|' /C calc'!A0", "+1+1")
    write_worklist(out)
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    # Its one script is ours, and the page lets no other run.
    ours = files("wsi_anomaly.reports").joinpath("templates", "worklist.js").read_text("utf-8")
    assert [text for text in page.scripts if text.strip()] == [ours]
    digest = base64.b64encode(hashlib.sha256(ours.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert "default-src 'none'" in page.policy
    assert not page.handlers
    for row in rows_of(out):
        for cell in row.values():
            assert cell[:1] not in {"=", "+", "@"}, "a spreadsheet would run it"


def test_the_worklist_survives_strange_folders(tmp_path, slide_file):
    out = results(tmp_path, slide_file)
    (out / "empty").mkdir()
    (out / "foreign").mkdir()
    (out / "foreign" / "summary.json").write_text('{"format": "something else"}')
    (out / "broken").mkdir()
    (out / "broken" / "summary.json").write_text("{")
    write_worklist(out)
    assert len(rows_of(out)) == 2


def test_a_slide_that_is_scored_at_last_leaves_the_list_of_failures(tmp_path, slide_file):
    out = results(tmp_path, slide_file)
    Worklist(out).failed("/x/a.svs", "no")
    Worklist(out).failed("/x/b.svs", "no")
    Worklist(out).done("/x/a.svs")
    Worklist(out).done("/x/never.svs")
    write_worklist(out)
    assert [row["slide"] for row in rows_of(out) if row["status"] == "failed"] == ["b.svs"]


@pytest.mark.parametrize(
    ("mm2", "said"), [(0.0, "0.00"), (0.004096, "0.004"), (0.01, "0.01"), (1.234, "1.23")]
)
def test_an_area_of_one_field_is_not_shown_as_nothing(mm2, said):
    assert area_text(mm2) == said


@pytest.mark.parametrize(
    ("count", "mm2", "said"),
    [
        (0, 0.0, "no flagged region"),
        (1, 0.004096, "1 flagged region (0.004 mm2)"),
        (2, 0.19, "2 flagged regions (0.19 mm2)"),
    ],
)
def test_the_line_of_a_slide_counts_its_regions(count, mm2, said):
    assert regions_in_words(count, mm2) == said


def test_the_last_label_of_the_legend_is_not_cut_off(slide_file, tmp_path):
    text = report_of(fake_score_map(3, calibration=CALIBRATION, slide=slide_file), slide_file,
                     tmp_path)  # fmt: skip
    labels = re.findall(r'<text x="([\d.]+)" y="20" text-anchor="(\w+)">[\d.]+%', text)
    assert labels
    assert all(anchor == "end" for x, anchor in labels if float(x) > 580)
    assert all(anchor == "start" for x, anchor in labels if float(x) < 30)


def test_the_places_stand_in_the_order_of_the_figure_shown_first(slide_file, tmp_path):
    text = report_of(fake_score_map(3, calibration=CALIBRATION, slide=slide_file), slide_file,
                     tmp_path)  # fmt: skip
    shown = re.findall(r'<div class="about"><b>(-?[\d.]+)</b> over 3 × 3', text)
    assert len(shown) > 2
    assert shown == sorted(shown, key=float, reverse=True)


def test_a_switch_shows_the_colours_of_normal_slides_or_of_this_slide_alone(slide_file, tmp_path):
    pictures = {}
    for name, calibration in (("normal", CALIBRATION), ("none", None)):
        score_map = fake_score_map(3, calibration=calibration, slide=slide_file)
        with open_slide(slide_file) as slide:
            report = write_results(score_map, slide, tmp_path / name, heatmap=False)
        text = report.read_text(encoding="utf-8")
        shown = re.findall(r'<div class="stack">(.*?)</div>', text, re.DOTALL)[0]
        pictures[name] = re.findall(r'<img[^>]*src="([^"]+)"', shown)
        assert ('for="alone"' in text) == (calibration is not None)
    assert len(set(pictures["normal"])) == 3
    assert len(pictures["none"]) == 2


def test_a_slide_above_every_normal_one_is_not_called_like_normal_tissue(slide_file):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file)
    calm = replace(score_map.interpretation, regions=[])
    assert verdict(replace(score_map, interpretation=calm)).headline == (
        "No region stands out from normal tissue."
    )
    high = replace(calm, lies_high=True)
    assert "higher than on any normal slide" in (
        verdict(replace(score_map, interpretation=high)).headline
    )

"""The results folder: all files or none, and a resume that never takes one for another."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from qupath_rules import read_as_qupath
from score_map_fakes import fake_calibration, fake_score_map, fake_slide

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.reports import slide_folder as results_module
from wsi_anomaly.reports import write_results
from wsi_anomaly.reports.slide_folder import frame_thumbnail
from wsi_anomaly.results import Frame, read_summary
from wsi_anomaly.results.colors import paint
from wsi_anomaly.results.raster import field_at, overlay_picture, score_picture
from wsi_anomaly.slides import open_slide

CALIBRATION = fake_calibration()
ALWAYS = {"overlay.geojson", "report.html", "scores.zarr", "summary.json", "thumbnail.jpg"}
WITH_HEATMAP = {"heatmap.png", "heatmap.ome.tif", "heatmap_qupath.png", "show_heatmap.groovy"}


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    return fake_slide(tmp_path_factory.mktemp("slides") / "slide.tif")


@pytest.fixture
def slide(slide_file):
    with open_slide(slide_file) as opened:
        yield opened


@pytest.fixture
def score_map(slide_file):
    return fake_score_map(3, calibration=CALIBRATION, slide=slide_file)


def test_all_files_are_there_and_the_summary_names_them(tmp_path, slide, score_map):
    write_results(score_map, slide, tmp_path / "r", heatmap=False)
    assert {p.name for p in (tmp_path / "r").iterdir()} == ALWAYS
    write_results(score_map, slide, tmp_path / "r", heatmap=True)
    assert {p.name for p in (tmp_path / "r").iterdir()} == ALWAYS | WITH_HEATMAP
    summary = read_summary(tmp_path / "r")
    assert all((tmp_path / "r" / name).exists() for name in summary["files"].values())
    assert summary["flagged"]["regions"] == len(score_map.interpretation.regions)
    assert summary["slide_score"] == pytest.approx(score_map.interpretation.slide_score)
    read_as_qupath(tmp_path / "r" / "overlay.geojson")


def test_the_summary_is_plain_json_even_when_nothing_was_assessed(tmp_path, slide, slide_file):
    score_map = fake_score_map(3, missing=1.0, calibration=CALIBRATION, slide=slide_file)
    write_results(score_map, slide, tmp_path / "r")
    text = (tmp_path / "r" / "summary.json").read_text()
    assert json.loads(text)["slide_score"] is None
    assert "NaN" not in text


@pytest.mark.parametrize("broken", ["write_report", "write_ome_tiff", "build_summary"])
def test_a_failure_leaves_no_folder_and_an_older_one_untouched(
    tmp_path, slide, score_map, monkeypatch, broken
):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(results_module, broken, fail)
        with pytest.raises(OutputError, match="disk is full"):
            write_results(score_map, slide, tmp_path / "r")
    assert list(tmp_path.iterdir()) == []
    write_results(score_map, slide, tmp_path / "r")
    before = (tmp_path / "r" / "report.html").read_bytes()
    monkeypatch.setattr(results_module, broken, fail)
    with pytest.raises(OutputError):
        write_results(score_map, slide, tmp_path / "r")
    assert (tmp_path / "r" / "report.html").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_colours_are_those_of_normal_slides_not_of_the_slide_at_hand(tmp_path, slide_file):
    """A normal slide looks calm: most of it clear, whatever its own range is."""
    quiet = fake_score_map(5, lesions=0, missing=0, calibration=CALIBRATION, slide=slide_file)
    loud = fake_score_map(5, lesions=4, missing=0, calibration=CALIBRATION, slide=slide_file)
    assert quiet.interpretation.color_range == loud.interpretation.color_range
    frame = Frame.of(quiet.slide)
    opacity = [
        score_picture(m, frame, (300, 200))[..., 3][field_at(m, frame, (300, 200)) >= 0]
        for m in (quiet, loud)
    ]
    assert np.mean(opacity[0] > 128) < 0.02
    assert np.mean(opacity[1] > 128) > 0.03
    assert np.median(opacity[0]) == 0


def test_the_scale_is_perceptually_ordered():
    rgba = paint(np.linspace(0, 1, 64), 0, 1).astype(float)
    grey = (rgba[:, :3] @ [0.299, 0.587, 0.114]) * rgba[:, 3] / 255 + 205 * (1 - rgba[:, 3] / 255)
    assert (np.diff(grey[8:]) < 0).all(), "darker is more anomalous, also in grey"
    assert (np.diff(rgba[:, 3]) >= 0).all()


def test_not_assessed_is_hatched_grey_never_a_low_score(slide_file):
    score_map = fake_score_map(5, missing=1.0, calibration=CALIBRATION, slide=slide_file)
    frame = Frame.of(score_map.slide)
    picture = score_picture(score_map, frame, (300, 200))
    inside = field_at(score_map, frame, (300, 200)) >= 0
    assert (picture[inside][:, :3] == 120).all()
    assert set(np.unique(picture[inside][:, 3])) == {60, 210}


@pytest.mark.parametrize("origin", ["bounds", "level0"])
def test_the_picture_for_qupath_covers_what_it_shows(tmp_path, slide, slide_file, origin):
    score_map = fake_score_map(3, calibration=CALIBRATION, slide=slide_file, origin=(640, 320))
    facts = replace(score_map.slide, width=6000, height=4000)
    score_map = replace(score_map, slide=facts)
    write_results(score_map, slide, tmp_path / "r", origin=origin)
    picture = np.asarray(Image.open(tmp_path / "r" / "heatmap_qupath.png"))
    frame = Frame.of(facts, origin)
    assert picture.shape[1] / picture.shape[0] == pytest.approx(
        frame.width / frame.height, rel=0.03
    )
    region = score_map.interpretation.regions[0]
    x, y = score_map.fields.coords[region.peak] + 64 - (frame.x, frame.y)
    col, row = (
        int(x * picture.shape[1] / frame.width),
        int(y * picture.shape[0] / frame.height),
    )
    assert picture[row, col, 3] > 60
    script = (tmp_path / "r" / "show_heatmap.groovy").read_text()
    assert "setCustomPixelLayerOverlay" in script
    assert re.search(r"new File\('.*heatmap_qupath\.png'\)", script)


def test_a_path_with_quotes_stays_a_string_in_the_script(tmp_path, slide, score_map):
    folder = tmp_path / "it's a \\ folder"
    write_results(score_map, slide, folder)
    script = (folder / "show_heatmap.groovy").read_text()
    (literal,) = re.findall(r"new File\('((?:[^'\\]|\\.)*)'\)\n", script)
    assert re.sub(r"\\(.)", r"\1", literal) == str((folder / "heatmap_qupath.png").absolute())


def test_the_thumbnail_shows_the_frame(slide, score_map):
    facts = replace(score_map.slide, width=7680, height=5120)
    whole = frame_thumbnail(slide, Frame.of(facts, "level0"), 600)
    part = frame_thumbnail(slide, Frame.of(facts, "bounds"), 600)
    assert whole.shape[:2] == part.shape[:2] == (400, 600)
    assert (whole[-1, -1] == 255).all()  # glass where nothing was scanned
    assert whole[:180, :280].mean() < 220
    assert overlay_picture(score_map, Frame.of(facts), part).shape == part.shape

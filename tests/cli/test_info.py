"""``wsi-anomaly info``: what a person is told of their files."""

from __future__ import annotations

import json
import shutil

import pytest
from cli_running import Ran, run_cli

from wsi_anomaly.synthetic import make_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("info") / "Präparat [1] 'a'.tif"
    return make_slide(path, seed=3, size_px=(900, 840), mpp=0.2527).path


def info_json(*paths):
    code, printed = run_cli("info", *paths, "--json")
    assert code == 0, printed
    return json.loads(printed)


def test_a_slide_says_its_size_its_pixels_and_what_it_serves(slide):
    code, printed = run_cli("info", slide)
    assert code == 0
    for words in (slide.name, "900 x 840 px", "0.2527 um", "TIFF resolution", "40x, 20x, 10x"):
        assert words in printed
    (facts,) = info_json(slide)
    assert facts["kind"] == "slide"
    assert facts["mpp"] == pytest.approx([0.2527, 0.2527], rel=1e-6)
    assert facts["magnifications"] == [40, 20, 10]
    assert facts["bounds"] == [0, 0, 900, 840]
    assert facts["levels"][1]["downsample"] == 2
    assert facts["vendor"] == "generic-tiff"
    assert facts["file_bytes"] == slide.stat().st_size


def test_mpp_can_be_overridden_and_decides_what_it_serves(slide):
    code, printed = run_cli("info", slide, "--mpp", "2.5")
    assert code == 0
    assert "too coarse even for 10x" in printed
    assert "--mpp" in printed


def test_real_slides(real_data):
    folder = real_data / "slides"
    facts = {entry["path"].split("/")[-1]: entry for entry in info_json(*folder.iterdir())}
    assert facts["larynx_40x.tif"]["magnifications"] == [40, 20, 10]
    assert facts["cmu1_small_region.svs"]["magnifications"] == [20, 10]
    assert facts["cmu1_small_region.svs"]["vendor"] == "aperio"
    assert facts["cmu1_small_region.svs"]["objective_power"] == 20
    assert facts["oral_scc_4x.tif"]["magnifications"] == []
    assert facts["tcga_no_mpp.svs"]["mpp"] is None
    code, printed = run_cli("info", folder / "tcga_no_mpp.svs")
    assert code == 0
    assert "unknown" in printed
    assert "--mpp" in printed


def test_verbose_shows_everything_that_the_file_says(real_data):
    path = real_data / "slides" / "cmu1_small_region.svs"
    assert "aperio.ScanScope ID" in run_cli("info", path, "-v")[1]
    assert "aperio.ScanScope ID" not in run_cli("info", path)[1]


def test_a_folder_of_slides_has_a_line_for_each(slide, tmp_path):
    shutil.copy(slide, tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_text("no slide")
    code, printed = run_cli("info", tmp_path)
    assert code == 0
    assert "900 x 840 px" in printed
    assert "cannot be used" in printed


def test_a_tile_file_a_model_and_results(small_demo: Ran):
    tiles = sorted((small_demo.folder / "tiles").glob("*.h5"))
    tile_file, folder, model, results, result = info_json(
        tiles[0],
        small_demo.folder / "tiles",
        small_demo.folder / "model",
        small_demo.folder / "results",
        small_demo.folder / "results" / "unseen lesion 1",
    )
    assert tile_file["kind"] == "tile file"
    assert tile_file["tiles"] == sum(tile_file["status"].values()) > 0
    assert tile_file["tile_side_px"] == {"20x": 128}
    assert len(tile_file["stain_matrix"]) == 2
    assert folder["tile_files"] == folder["cases"] == 8
    assert folder["tiles"] >= tile_file["tiles"]
    assert model["magnification"] == 20
    assert model["primary"] == "density"
    assert model["calibration_cases"] == 4
    assert sum(model["slides_seen"].values()) == 8
    assert results["slides"] == 3
    assert {row["rank"] for row in results["worklist"]} == {1, 2, 3}
    assert result["slide"]["name"] == "unseen lesion 1"


def test_they_read_well_too(small_demo: Ran):
    for part, words in {
        "tiles": ("8 of 8 cases", "20x in 8 files"),
        "model": ("128 px at 20x", "4 normal cases", "4 calibration"),
        "results": ("3, ", "index.html", "unseen normal"),
        "results/unseen lesion 1": ("slide score", "not assessed", "report.html"),
    }.items():
        code, printed = run_cli("info", small_demo.folder / part)
        assert code == 0
        for expected in words:
            assert expected in printed


def test_a_damaged_model_is_not_called_well(small_demo: Ran, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(small_demo.folder / "model", model)
    numbers = model / "model.safetensors"
    content = bytearray(numbers.read_bytes())
    content[-1] ^= 1
    numbers.write_bytes(content)
    code, printed = run_cli("info", model)
    assert code == 1
    assert "damaged" in printed
    (model / "model.json").write_text("{")
    code, printed = run_cli("info", model)
    assert code == 1
    assert len(printed.strip().splitlines()) == 1


def test_one_bad_path_does_not_hide_the_others(slide, tmp_path):
    (tmp_path / "text.svs").write_text("no slide")
    code, printed = run_cli("info", tmp_path / "text.svs", slide)
    assert code == 1
    assert "900 x 840 px" in printed
    assert printed.count("Error: ") == 1


@pytest.mark.parametrize("make", ["nothing", "empty folder", "text.h5"])
def test_anything_else_is_one_sentence(tmp_path, make):
    path = tmp_path / make
    if make == "empty folder":
        path.mkdir()
    elif make == "text.h5":
        path.write_text("no tiles")
    code, printed = run_cli("info", path)
    assert code in (1, 2)
    assert printed.startswith("Error: ")
    assert make in printed
    assert len(printed.strip().splitlines()) == 1


def test_quiet_prints_errors_only(slide):
    assert run_cli("info", slide, "-q") == (0, "")

"""``wsi-anomaly score`` as a user types it: what it writes, what it says, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tifffile
from score_running import rows, score, summary
from scoring_fakes import make_slide
from shapely import box

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.results.audit import audit_results
from wsi_anomaly.results.reviews import Review, append_review, read_reviews
from wsi_anomaly.scoring import load_model


def test_the_line_of_the_readme_works_in_a_fresh_folder(here, model, slide, capsys):
    shutil.copytree(model, here / "model")
    shutil.copy(slide, here / "slide.tif")
    assert score("slide.tif", "--heatmap") == 0
    assert {p.name for p in (here / "results").iterdir() if p.name[0] != "."} == {
        "slide", "index.html", "slides.csv", "audit.jsonl",
    }  # fmt: skip
    capsys.readouterr()
    assert main(["audit", "results"]) == 0
    assert "1 run, 1 result, 0 reviews recorded." in capsys.readouterr().err
    (here / "results/slide/overlay.geojson").write_text("{}")
    assert main(["audit", "results"]) == 1
    assert "overlay.geojson was changed after" in capsys.readouterr().err
    assert score("slide.tif", "--heatmap", "--overwrite") == 0
    assert main(["audit", "results"]) == 0
    assert (here / "results/slide/heatmap.png").is_file()
    found = summary("slide")
    assert found["slide"]["path"] == str(here / "slide.tif")  # view finds it from any folder
    assert found["flagged"]["regions"] >= 1
    x, y = found["regions"][0]["peak_qupath_px"]
    assert 512 <= x <= 832
    assert 384 <= y <= 704
    said = capsys.readouterr().err
    assert "1 of 1 slide done." in said
    assert "Open results/slide/report.html" in said
    assert not list(here.rglob("*.partial"))


def test_a_model_that_was_written_anew_or_lies_elsewhere_is_loaded_again(here, model, monkeypatch):
    """In one process: train or calibrate, score, again; or scripts that change their folder."""
    for name in ("a", "b"):
        (here / name).mkdir()
    shutil.copytree(model, here / "a" / "model")
    monkeypatch.chdir(here / "a")
    first = load_model(Path("model"), "cpu")
    assert load_model(Path("model"), "cpu") is first
    monkeypatch.chdir(here / "b")
    with pytest.raises(ModelError):
        load_model(Path("model"), "cpu")
    monkeypatch.chdir(here / "a")
    shutil.rmtree("model")
    shutil.copytree(model, "model")
    assert load_model(Path("model"), "cpu") is not first


def test_a_second_run_keeps_the_result_and_another_setting_does_not(here, model, slide, capsys):
    assert score(slide, "--model", model) == 0
    first = (here / "results/lesion/report.html").stat().st_mtime_ns
    capsys.readouterr()
    assert score(slide, "--model", model) == 0
    assert "kept" in capsys.readouterr().err
    assert (here / "results/lesion/report.html").stat().st_mtime_ns == first
    for options in (["--false-regions", "0.5"], ["--gzip"], ["--fdr", "0.2"], ["--overwrite"]):
        assert score(slide, "--model", model, *options) == 0
        assert "kept" not in capsys.readouterr().err, options


def test_a_result_that_is_not_whole_is_made_anew(here, model, slide, capsys):
    folder = here / "results/lesion"
    assert score(slide, "--model", model) == 0

    def cut_summary():
        text = (folder / "summary.json").read_text()
        (folder / "summary.json").write_text(text[: len(text) // 2])

    for damage in (
        cut_summary,
        (folder / "report.html").unlink,
        lambda: shutil.rmtree(folder / "scores.zarr"),
        lambda: (folder / "summary.json").write_text('{"format": "wsi-anomaly-summary"}'),
    ):
        damage()
        capsys.readouterr()
        assert score(slide, "--model", model) == 0
        assert "kept" not in capsys.readouterr().err
        assert set(summary("lesion")["files"].values()) <= {p.name for p in folder.iterdir()}
    assert score(slide, "--model", model) == 0
    assert "kept" in capsys.readouterr().err


def test_results_of_another_model_are_made_anew(here, model, slide, work, capsys):
    assert score(slide, "--model", model) == 0
    other = here / "other"
    shutil.copytree(model, other)
    facts = json.loads((other / "model.json").read_text())
    facts["name"] = "another"
    (other / "model.json").write_text(json.dumps(facts))
    capsys.readouterr()
    assert score(slide, "--model", other) == 0
    assert "kept" not in capsys.readouterr().err
    assert summary("lesion")["model"]["name"] == "another"


def test_fdr_prints_its_floor(here, model, slide, capsys):
    assert score(slide, "--model", model, "--fdr", "0.1") == 0
    said = " ".join(capsys.readouterr().err.split())
    floor = summary("lesion")["flagged"]["fdr"]["floor"]
    assert f"fewer than {floor:,} field" in said
    assert summary("lesion")["flagged"]["rule"] == "benjamini-hochberg"


def test_a_slide_of_the_training_gets_a_warning_and_no_flags(here, model, work, capsys):
    assert score(work / "normals/train.tif", "--model", model) == 0
    assert "part of the model's training" in " ".join(capsys.readouterr().err.split())
    found = summary("train")
    assert found["seen_in"] == "train"
    assert not found["flagged"]["possible"]
    assert rows()[0]["status"] == "seen in train"


def test_slides_that_do_not_say_their_pixel_size_take_it_from_a_table(here, model, slide, capsys):
    """The message names --mpp-csv, which once only ``tile`` had."""
    for name in ("a", "b"):
        shutil.copy(slide, here / f"{name}.tif")
        with tifffile.TiffFile(here / f"{name}.tif", mode="r+b") as tif:
            for page in tif.pages:
                page.tags["ResolutionUnit"].overwrite(1)  # no unit: no size
    (here / "sizes.csv").write_text("slide,mpp\na,0.5\n")
    assert score("a.tif", "b.tif", "--model", model, "--workers", 1) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "b.tif does not say how large a pixel is" in said
    assert "or in the column mpp of a manifest" in said
    assert score("a.tif", "b.tif", "--model", model, "--workers", 1, "--mpp-csv", "sizes.csv") == 1
    assert summary("a")["slide"]["mpp"] == [0.5, 0.5]
    assert not (here / "results" / "b").exists()
    both = ("--mpp-csv", "sizes.csv", "--mpp", "0.45")
    assert score("a.tif", "b.tif", "--model", model, "--workers", 1, *both) == 0
    assert [summary(name)["slide"]["mpp"][0] for name in ("a", "b")] == [0.5, 0.45]
    said = capsys.readouterr().err
    assert "kept" in said


def test_slides_of_one_name_get_folders_of_their_own(here, model, slide, capsys):
    for i, name in enumerate("ab"):
        (here / name).mkdir()
        make_slide(here / name / "same.tif", seed=20 + i)
    assert score("a/same.tif", "b/same.tif", "--model", model, "--workers", 1) == 0
    folders = [p for p in (here / "results").iterdir() if p.is_dir() and p.name[0] != "."]
    assert len(folders) == 2
    paths = {summary(folder.name)["slide"]["path"] for folder in folders}
    assert paths == {str(here / "a" / "same.tif"), str(here / "b" / "same.tif")}
    make_slide(here / "a" / "same.tif", seed=22)  # the result of what it was goes
    capsys.readouterr()
    assert score("a/same.tif", "b/same.tif", "--model", model, "--workers", 1) == 0
    assert "same.tif changed after being scored" in capsys.readouterr().err
    assert len(rows()) == 2
    assert audit_results(here / "results").problems == []


def test_a_slide_that_has_changed_replaces_its_former_result(here, model, slide, capsys):
    """Its reviews stay, and a slide of that name from elsewhere still is another one."""
    shutil.copy(slide, here / "one.tif")
    assert score("one.tif", "--model", model) == 0
    former = summary("one")["slide"]["fingerprint"]
    results = here / "results"
    append_review(results, Review("ann", "one", former, "artefact", box(0, 0, 100, 100)))
    make_slide(here / "one.tif", seed=31)
    capsys.readouterr()
    assert score("one.tif", "--model", model) == 0
    assert "one.tif changed after being scored" in capsys.readouterr().err
    assert [row["slide"] for row in rows()] == ["one"]
    assert summary("one")["slide"]["fingerprint"] != former
    assert len(read_reviews(results, former).of("ann")) == 1
    assert audit_results(results).problems == []
    (here / "elsewhere").mkdir()
    make_slide(here / "elsewhere" / "one.tif", seed=32)
    assert score("elsewhere/one.tif", "--model", model) == 0
    assert len(rows()) == 2


def outlines(path, *corners):
    """A QuPath file with one rectangle."""
    x0, y0, x1, y1 = corners
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation"},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def test_the_worklist_knows_the_case_of_every_slide_whether_it_could_be_scored(
    here, model, slide, capsys
):
    shutil.copy(slide, here / "one.tif")
    (here / "two.tif").write_bytes(b"II*\0 and no more")
    (here / "animals.csv").write_text("slide,case\none,animal 7\ntwo.tif,animal 7\n")
    assert score("one.tif", "two.tif", "--model", model, "--cases", "animals.csv") == 1
    assert [row["case"] for row in rows()] == ["animal 7", "animal 7"]
    assert score("one.tif", "--model", model) == 0  # a later run does not name it again
    assert {row["case"] for row in rows()} == {"animal 7"}
    assert score("one.tif", "--cohort", "animals.csv", "--cases", "animals.csv") == 2
    assert "--cases goes without --cohort" in capsys.readouterr().err


def test_a_tissue_mask_decides_what_is_looked_at_and_the_result_says_so(here, model, slide, capsys):
    mask = outlines(here / "mask.geojson", 192, 192, 640, 640)
    assert score(slide, "--model", model, "--tissue-mask", mask) == 0
    found = summary("lesion")
    assert found["tissue_mm2"] == pytest.approx(448**2 / 1e6, rel=0.1)
    assert any("nothing outside it was looked at" in w for w in found["warnings"])
    masked = found["not_assessed_by_reason_mm2"]["masked"]
    # Of 1024 x 768 um of tissue, whatever of the fields on its edge is tissue.
    assert masked * 1e6 == pytest.approx(1024 * 768 - 448**2, rel=0.1)
    assert f"{masked:.2f} mm2 of tissue" in " ".join(found["warnings"])
    assert rows()[0]["not_assessed_why"] == f"masked {masked:.2f}"
    assert f"masked {masked:.2f}" in Path("results/lesion/report.html").read_text()
    shown = [
        f["properties"]
        for f in json.loads(Path("results/lesion/overlay.geojson").read_text())["features"]
        if f["properties"]["classification"]["name"] == "Not assessed"
    ]
    assert [p["measurements"] for p in shown if p.get("name") == "Not assessed: masked"] == [
        {"Area mm^2": pytest.approx(masked)}
    ]
    tiles = sum(p["objectType"] == "tile" for p in shown)  # whole ones: some are part glass
    assert masked <= tiles * 64**2 / 1e6 <= 1.4 * masked
    capsys.readouterr()
    assert score(slide, "--model", model, "--tissue-mask", mask) == 0
    assert "kept" in capsys.readouterr().err
    outlines(mask, 192, 192, 640, 512)
    assert score(slide, "--model", model, "--tissue-mask", mask) == 0
    assert "kept" not in capsys.readouterr().err


def test_a_tissue_mask_of_another_slide_is_one_sentence(here, model, slide, capsys):
    mask = outlines(here / "mask.geojson", 50_000, 50_000, 60_000, 60_000)
    assert score(slide, "--model", model, "--tissue-mask", mask) == 1
    assert "mask.geojson" in capsys.readouterr().err
    (here / "masks").mkdir()
    assert score(slide, "--model", model, "--tissue-mask", here / "masks") == 1
    assert "masks has no file for" in capsys.readouterr().err


def test_either_reader_gives_the_same_scores(here, slide, model):
    for reader in ("tiff", "openslide"):
        assert score(slide, "--model", model, "-o", reader, "--backend", reader) == 0
    found = [summary("lesion", reader) for reader in ("tiff", "openslide")]
    assert [f["slide"]["backend"] for f in found] == ["tiff", "openslide"]
    assert found[0]["slide_score"] == pytest.approx(found[1]["slide_score"], rel=1e-5)
    assert found[0]["regions"] == found[1]["regions"]

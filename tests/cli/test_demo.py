"""``wsi-anomaly demo``: the whole path, small."""

from __future__ import annotations

import json
import re

import pytest
from cli_running import Ran, run_cli

from wsi_anomaly.cli import main as entry
from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.demo.slides import SLIDES, DemoSlide, count_missing, make_slides
from wsi_anomaly.training.splits import split_cases


def test_the_demo_runs_the_commands_that_it_prints(small_demo: Ran) -> None:
    assert small_demo.code == 0, small_demo.printed
    typed = re.findall(r"^\$ wsi-anomaly (\w+)", small_demo.printed, re.MULTILINE)
    assert typed == ["tile", "train", "score"]
    # Folders with spaces are quoted, so that a line can be copied.
    assert re.search(r"\$ wsi-anomaly score '.*small demo", small_demo.printed)
    assert (small_demo.folder / "model" / "model.json").is_file()
    assert len(list((small_demo.folder / "tiles").glob("*.h5"))) == 8
    for name in ("unseen normal", "unseen lesion 1", "unseen lesion 2"):
        assert (small_demo.folder / "results" / name / "heatmap.png").is_file()


def test_it_ends_with_the_figures_and_the_file_to_open(small_demo: Ran) -> None:
    for words in ("Tile ROC AUC, dpa", "Tile ROC AUC, mean colour", "Lesions flagged"):
        assert words in small_demo.printed
    index = small_demo.folder / "results" / "index.html"
    assert small_demo.printed.strip().endswith(f"Open {index}")
    assert index.is_file()


def test_the_figures_are_kept_as_numbers(small_demo: Ran) -> None:
    figures = json.loads((small_demo.folder / "evaluation.json").read_text())
    assert figures["primary"] == "density"
    for auc in (
        *figures["tile_roc_auc"].values(),
        figures["tile_roc_auc_smoothed"],
        figures["tile_roc_auc_mean_colour"],
    ):
        assert 0 <= auc["value"] <= 1
        assert auc["low"] is None or auc["low"] <= auc["value"] <= auc["high"]
        assert auc["abnormal"] > 0
        assert auc["normal"] > auc["abnormal"]
    assert set(figures["false_regions"]) == {"unseen normal", "unseen lesion 1", "unseen lesion 2"}
    assert all(0 <= part["flagged"] <= part["count"] for part in figures["lesions"])


def test_run_again_it_keeps_everything(small_demo: Ran) -> None:
    before = {
        path: path.stat().st_mtime_ns
        for path in (
            *(small_demo.folder / "slides").rglob("*.tif"),
            *(small_demo.folder / "tiles").glob("*.h5"),
            small_demo.folder / "model" / "model.safetensors",
            *(small_demo.folder / "results").glob("*/summary.json"),
        )
    }
    code, printed = run_cli("demo", "-o", small_demo.folder, "--workers", "1")
    assert code == 0, printed
    assert "The model is up to date" in printed
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "Tile ROC AUC, dpa" in printed


def test_a_lost_slide_is_made_again_and_nothing_else(small_demo: Ran) -> None:
    from wsi_anomaly.demo import slides as demo_slides

    slide = demo_slides.SLIDES[0]
    path = demo_slides.slide_path(small_demo.folder, slide)
    pixels = path.read_bytes()
    path.unlink()
    assert count_missing(demo_slides.SLIDES, small_demo.folder) == 1
    made = list(make_slides(demo_slides.SLIDES, small_demo.folder, workers=1))
    assert made == [slide]
    assert path.read_bytes() == pixels


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, printed = run_cli("demo", "-o", tmp_path / "file" / "demo")
    assert code == 1
    assert printed.startswith("Error: ")
    assert len(printed.strip().splitlines()) == 1


def test_an_error_in_a_process_reaches_the_user(tmp_path) -> None:
    (tmp_path / "slides").write_text("in the way")
    with pytest.raises(OutputError, match="stands where a folder is needed"):
        list(make_slides([DemoSlide("new", "a", 1, size_px=(420, 420))], tmp_path, workers=1))


def test_a_step_that_fails_ends_the_demo_with_its_code(small_demo: Ran, monkeypatch) -> None:
    from wsi_anomaly.demo import run as demo

    monkeypatch.setattr(demo, "CONFIG", "no-such-configuration")
    assert run_cli("demo", "-o", small_demo.folder, "--workers", "1")[0] == 2


def test_the_demos_own_slides_keep_apart_what_must_be_apart() -> None:
    assert len({slide.seed for slide in SLIDES}) == len(SLIDES)
    assert len({slide.name for slide in SLIDES}) == len(SLIDES)
    normal = [slide.name for slide in SLIDES if slide.folder == "normal"]
    assert all(slide.lesions is None for slide in SLIDES if slide.folder == "normal")
    unseen = [slide for slide in SLIDES if slide.folder == "new"]
    assert sum(slide.lesions is None for slide in unseen) >= 3
    assert {slide.lesions for slide in unseen} == {None, "medium"}
    # Enough normal cases for flags, see calibration.
    assert len(split_cases(dict.fromkeys(normal, 200)).calibration) >= 4


def test_the_help_says_what_it_costs(capsys) -> None:
    assert entry.main(["demo", "--help"]) == 0
    assert "minutes on two cores" in capsys.readouterr().out

"""``wsi-anomaly reproduce`` as a user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cli_running import run_cli

from wsi_anomaly.reproduce import run as run_module

sys.path.append(str(Path(__file__).parents[1] / "reproduce"))
from tiny_sets import make_cifar_zip, make_folder_set

SMALL = ("--features", "compact", "--steps", "3", "--batch-size", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder_set(tmp_path_factory.mktemp("data") / "mine")


def test_a_folder_becomes_a_table(folder: Path, tmp_path: Path) -> None:
    code, printed = run_cli(
        "reproduce", "folder", folder, "-o", tmp_path, "--rows", "density,mean-colour", "--seeds",
        "2", *SMALL,
    )  # fmt: skip
    assert code == 0, printed
    assert "mine: ROC AUC" in printed
    text = (tmp_path / "folder" / "table.md").read_text()
    assert (
        f"wsi-anomaly reproduce folder {folder} --rows density --rows mean-colour --seeds 2 "
        in text
    )
    assert "± " in text
    code, printed = run_cli(
        "reproduce", "folder", folder, "-o", tmp_path, "--rows", "density", "--seeds", "2", "-q",
        *SMALL,
    )  # fmt: skip
    assert (code, printed) == (0, "")


def test_the_six_rows_of_the_ablation(folder: Path, tmp_path: Path) -> None:
    code, printed = run_cli(
        "reproduce", "folder", folder, "-o", tmp_path, "--ablation", "--seeds", "1", "--learn",
        "12", "--judge", "10", *SMALL,
    )  # fmt: skip
    assert code == 0, printed
    text = (tmp_path / "folder" / "table.md").read_text()
    for row in (
        "(1) perceptual",
        "(2) + weakly",
        "(3) + adv",
        "(4) + adv",
        "(5) + 1 L1",
        "(6) + p",
    ):
        assert row in text


def test_classes_and_compared_systems(tmp_path: Path) -> None:
    data = make_cifar_zip(tmp_path / "cifar.zip")
    code, printed = run_cli(
        "reproduce", "cifar10", data, "-o", tmp_path, "--classes", "cat,ship", "--rows",
        "deep-if,deep-geo", "--option", "deep-geo.width=1", "--option",
        "deep-geo.dirichlet_tiles=4", "--judge", "10", "--seeds", "1", *SMALL,
    )  # fmt: skip
    assert code == 0, printed
    table = json.loads((tmp_path / "cifar10" / "table.json").read_text())
    assert table["title"] == "CIFAR-10 (JPEG)"
    by_row = {row["row"]: row for row in table["rows"]}
    assert by_row["deep-if"]["paper"]["tuned"] == pytest.approx((0.737 + 0.934) / 2)
    text = (tmp_path / "cifar10" / "table.md").read_text()
    assert "Other than usual: deep-geo.width = 1" in text
    assert "| cat |" in text


def test_the_curve_of_supervision(folder: Path, tmp_path: Path) -> None:
    code, printed = run_cli(
        "reproduce", "supervision", folder, "-o", tmp_path, "--seeds", "1", *SMALL
    )
    assert code == 0, printed
    assert "Best of the grid" in printed
    assert (tmp_path / "folder" / "supervision.png").is_file()


def test_ctrl_c_leaves_what_is_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module.Bench.run

    def stop_at_the_second(self, place):
        if place.seed == 1:
            raise KeyboardInterrupt
        return real(self, place)

    asked = ("reproduce", "folder", folder, "-o", tmp_path, "--rows", "mean-colour", "--seeds", "2")
    monkeypatch.setattr(run_module.Bench, "run", stop_at_the_second)
    code, printed = run_cli(*asked)
    assert code == 130
    assert "run the same command again" in printed
    monkeypatch.undo()
    first = next((tmp_path / "folder").rglob("normal-0.json"))
    stamp = first.stat().st_mtime_ns
    assert run_cli(*asked)[0] == 0
    assert first.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("folder", "{missing}"), "does not exist"),
        (("folder", "{empty}"), "needs folders normal/ and abnormal/"),
        (("nih", "{empty}"), "lacks images (*.png) and Data_Entry_2017.csv"),
        (("camelyon16", "{empty}"), "lacks slides normal_*.tif"),
        (("cifar10", "{empty}"), "there are no images in train/airplane/"),
        (("folder", "{folder}", "--rows", "best"), "There is no row 'best'"),
        (("folder", "{folder}", "--rows", "dpa", "--ablation"), "leave --rows away"),
        (("supervision", "{folder}", "--ablation"), "grid of its own"),
        (("folder", "{folder}", "--splits", "{empty}"), "--splits is for camelyon16 and nih"),
        (("folder", "{folder}", "--fraction", "3"), "--fraction is above 0"),
        (("folder", "{folder}", "--option", "fusion.width=3"), "names no detector"),
        (("folder", "{folder}", "--option", "deep-geo"), "give ROW.NAME=VALUE"),
        (("folder", "{folder}", "--rows", "deep-geo", "--option", "deep-geo.width=x",
          "--features", "compact"), "deep-geo.width=x makes no sense"),
        (("tables", "{folder}"), "Invalid value"),
    ],
)  # fmt: skip
def test_wrong_requests_end_with_a_sentence_and_2(
    arguments: tuple[str, ...], text: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"missing": tmp_path / "missing", "empty": tmp_path / "empty", "folder": folder}
    code, printed = run_cli(
        "reproduce", *(a.format(**places) for a in arguments), "-o", str(tmp_path / "out")
    )
    assert code == 2, printed
    assert text in " ".join(printed.split())
    assert "Traceback" not in printed


def test_a_broken_image_stops_with_its_name(tmp_path: Path) -> None:
    data = make_folder_set(tmp_path / "data")
    (data / "abnormal" / "wide" / "003.png").write_bytes(b"broken")
    code, printed = run_cli("reproduce", "folder", data, "-o", tmp_path, "--rows", "mean-colour")
    assert code == 2
    assert "003.png is no readable image" in printed

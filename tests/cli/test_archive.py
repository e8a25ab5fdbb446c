"""A mixed archive overnight: no name, table or link ends or shrinks a batch."""

from __future__ import annotations

import csv
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_running import run_cli
from scoring_fakes import make_slide

from wsi_anomaly.core import files
from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.file_names import output_name
from wsi_anomaly.core.files import write_json
from wsi_anomaly.core.slide_names import read_pixel_sizes
from wsi_anomaly.reports import Worklist
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.tiles import TileStore
from wsi_anomaly.viewer.server import Results

LATIN = os.fsdecode(b"B_Pr\xe4parat.tif")
NAMES = {
    LATIN: "B_Pr%E4parat",
    "B" + "x" * 240 + ".tif": "B" + "x" * 180 + "-",
    "Gewebe-" + "\N{HIRAGANA LETTER A}" * 80 + ".tif": "Gewebe-" + "\N{HIRAGANA LETTER A}" * 58,
    "index.html.tif": "index.html-slide",
    "slides.csv.tif": "slides.csv-slide",
    "two\nlines.tif": "two\nlines",
    "=1+1.tif": "=1+1",
    "<b>&amp;.tif": "<b>&amp;",
}

needs_bytes = pytest.mark.skipif(sys.platform != "linux", reason="names are text on this system")


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "slides.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return {Path(row.get("path") or row["slide"].lstrip("'")).name: row for row in found}


def statuses(folder: Path) -> dict[str, str]:
    return {name: row["status"] for name, row in rows(folder).items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slides").mkdir()
    return tmp_path


def put(slides: Path, *names: str) -> None:
    whole = make_slide(slides.parent / "whole.tif", seed=3).read_bytes()
    for name in names:
        (slides / name).write_bytes(whole + name.encode(errors="surrogateescape"))


TILE = ("tile", "slides", "-o", "t", "--workers", "1", "--magnifications", "10", "--stain", "none")


@needs_bytes
def test_names_of_every_kind_are_tiled_and_scored(here: Path, model: Path) -> None:
    put(here / "slides", "A.tif", *NAMES, "Z.tif")
    for _ in range(2):  # the second time what is done is kept, under the same names
        code, printed = run_cli(*TILE)
        assert code == 0, printed
        assert set(statuses(here / "t").values()) <= {"done", "kept"}
        assert len(rows(here / "t")) == len(NAMES) + 2
        code, printed = run_cli("score", "slides", "--model", model, "--heatmap")
        assert code == 0, printed
        assert len(rows(here / "results")) == len(NAMES) + 2
    made = {path.name for path in (here / "results").iterdir() if path.is_dir()}
    assert all(any(name.startswith(start) for name in made) for start in NAMES.values()), made
    # The slide itself is found again from what was written of it.
    stored = TileStore.open(here / "t" / "B_Pr%E4parat.h5")
    assert stored.slide_path == here / "slides" / LATIN
    summary = read_summary(here / "results" / "B_Pr%E4parat")
    assert Path(summary["slide"]["path"]) == here / "slides" / LATIN
    viewer = Results(here / "results")
    assert viewer.tile("B_Pr%E4parat", 0, 0, 0)
    assert "B_Pr%25E4parat" in viewer.index()


@needs_bytes
def test_a_bad_slide_of_a_bad_name_is_named_and_the_others_are_done(
    here: Path, model: Path
) -> None:
    put(here / "slides", "A.tif", "C.tif")
    (here / "slides" / LATIN).write_bytes(b"no slide")
    (here / "slides" / "README.txt").write_text("of the archive")
    for _ in range(2):
        for command in (TILE, ("score", "slides", "--model", model, "-o", "t2")):
            code, printed = run_cli(*command)
            assert code == 1
            assert printed.count("Error:") == 1, printed
            assert "unexpected" not in printed
    assert statuses(here / "t") == {
        "A.tif": "kept", "B_Pr%E4parat.tif": "error", "C.tif": "kept", "README.txt": "not a slide",
    }  # fmt: skip
    assert statuses(here / "t2") == {
        "A.tif": "done", "B_Pr%E4parat.tif": "failed", "C.tif": "done", "README.txt": "not a slide",
    }  # fmt: skip
    page = (here / "t2" / "index.html").read_text(encoding="utf-8")
    assert "1 file beside them is no slide of its own" in page


def test_one_output_in_the_way_costs_one_slide(here: Path, model: Path) -> None:
    put(here / "slides", "A.tif", "B.tif", "C.tif")
    (here / "results").mkdir()
    (here / "results" / "B").write_text("somebody's file")
    code, printed = run_cli("score", "slides", "--model", model)
    assert code == 1
    assert printed.count("Error:") == 1
    assert "results/B cannot be written: a file stands where a folder is needed" in printed
    assert statuses(here / "results") == {"A.tif": "done", "B.tif": "failed", "C.tif": "done"}
    assert (here / "results" / "B").read_text() == "somebody's file"


def test_a_disk_with_shorter_names_costs_one_slide(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here / "slides", "A.tif", "B" + "x" * 130 + ".tif", "C.tif")
    real = Path.mkdir

    def mkdir(self: Path, *arguments, **options) -> None:
        if len(self.name) > 143:  # as encrypted home folders have it
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        real(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    code, printed = run_cli("score", "slides", "--model", model, "--workers", "1")
    assert code == 1
    assert "the name is too long for this disk; rename the slide" in printed
    assert sorted(statuses(here / "results").values()) == ["done", "done", "failed"]


def test_a_table_that_cannot_be_written_waits_for_the_end(here: Path, model: Path) -> None:
    put(here / "slides", "A.tif", "B.tif")
    (here / "results" / "slides.csv").mkdir(parents=True)
    code, printed = run_cli("score", "slides", "--model", model)
    assert code == 1
    assert "slides.csv cannot be written" in printed
    assert all((here / "results" / name / "summary.json").exists() for name in "AB")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_what_stops_one_output_and_all_others_is_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", full)
    if number == errno.EROFS:  # asked, not believed: the folder takes no other file either
        monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError) as raised:
        write_json(tmp_path / "a.json", {})
    assert raised.value.for_all


def test_an_error_of_one_file_is_not_for_all(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputError) as raised:
        write_json(tmp_path / "a.json", {})
    assert not raised.value.for_all
    with pytest.raises(OutputError), Worklist(tmp_path) as worklist:
        (tmp_path / ".failed").write_text("in the way")
        worklist.failed("a.tif", "It is damaged.")
        worklist.done("b.tif")


def test_names_that_some_disks_take_for_one_get_two_outputs(here: Path) -> None:
    put(here / "slides", "a.tif", "A.tif", "e\N{COMBINING ACUTE ACCENT}.tif", "\N{LATIN SMALL LETTER E WITH ACUTE}.tif")  # noqa: E501 # fmt: skip
    code, printed = run_cli(*TILE)
    assert code == 0, printed
    made = sorted(path.name for path in (here / "t").glob("*.h5"))
    assert len(made) == 4
    assert all(name[-12:-11] == "-" for name in made), made  # each with its fingerprint


@needs_bytes
def test_a_table_names_a_slide_as_slides_csv_does(tmp_path: Path) -> None:
    (tmp_path / "mpp.csv").write_text("slide,mpp\nB_Pr%E4parat.tif,0.5\n")
    found = read_pixel_sizes(tmp_path / "mpp.csv", [tmp_path / LATIN])
    assert found.values == (0.5,)


def test_outputs_of_a_dzi_in_a_folder_of_any_name_have_short_names() -> None:
    assert len(output_name("x" * 250 + "/" + "y" * 250 + ".dzi").encode()) <= 190


# -- the cases of the field, word for word --------------------------------------------------------


@needs_bytes
@pytest.mark.parametrize("kind", ["latin", "long"])
@pytest.mark.parametrize("command", ["score", "tile"])
def test_one_name_stops_the_batch(
    field_case: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    kind: str,
    command: str,
) -> None:
    folder = field_case("one_name_stops_the_batch")
    monkeypatch.chdir(folder)
    by = ("--model", model) if command == "score" else ()
    code, printed = run_cli(command, kind, "-o", "out", "--workers", "1", *by)
    assert code == 0, printed
    assert set(statuses(folder / "out").values()) == {"done"}
    assert len(rows(folder / "out")) == 3


def test_symlinked_folder(
    field_case: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    folder = field_case("symlinked_folder")
    monkeypatch.chdir(folder)
    code, printed = run_cli("score", "slides", "-o", "r", "--model", model)
    assert code == 0, printed
    assert "2 of 2 slides done" in printed
    assert statuses(folder / "r") == {"one.tif": "done", "two.tif": "done"}


def test_copies_that_share_a_result_are_all_accounted_for(here: Path, model: Path) -> None:
    put(here / "slides", "A.tif")
    (here / "slides" / "copy").mkdir()
    (here / "slides" / "copy" / "A.tif").write_bytes((here / "slides" / "A.tif").read_bytes())
    code, printed = run_cli("score", "slides", "--model", model, "-o", "r", "--workers", "1")
    assert code == 0, printed
    with open(here / "r" / "slides.csv", newline="", encoding="utf-8") as file:
        found = [(row["status"], row["path"], row["note"]) for row in csv.DictReader(file)]
    assert [row[0] for row in found] == ["done", "part of another slide"]
    assert {Path(row[1]).absolute() for row in found} == set((here / "slides").rglob("*.tif"))
    assert found[1][2].startswith("a copy: A-")


@pytest.mark.parametrize("command", ["calibrate", "check"])
def test_a_slide_that_cannot_be_read_is_named(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from wsi_anomaly.training import normals

    put(here / "slides", "A.tif", "B.tif")
    real = normals.slide_fingerprint

    def fails(path: Path) -> str:
        if path.name == "A.tif":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(normals, "slide_fingerprint", fails)
    out = ("-o", "m") if command == "calibrate" else ()
    code, printed = run_cli(command, "slides", "--model", model, *out)
    assert code == 1, printed
    assert "slides/A.tif cannot be read (Input/output error); check its disk" in printed

"""The soak's judge can fail, and a draw can be made again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from faults_running import differences, end, start
from soak import KINDS, harm, soak
from soak_archive import STEPS, Archive

from wsi_anomaly.results.summary import result_names


@pytest.fixture
def archive(tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive that holds results alone, whole, without a disk of its own."""
    monkeypatch.setattr("soak_archive._mounted", lambda folder: folder.mkdir() is not None)
    made = Archive(tmp_path)
    shutil.copytree(results, tmp_path / "undisturbed" / "results")
    shutil.copytree(results, made.root / "results")
    return made


def test_what_is_as_undisturbed_passes_and_a_changed_byte_does_not(archive: Archive) -> None:
    archive.is_whole("score")
    name = result_names(archive.root / "results")[0]
    overlay = archive.root / "results" / name / "overlay.geojson"
    overlay.write_bytes(overlay.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(AssertionError, match=r"overlay\.geojson"):
        archive.is_whole("score")
    archive.restore()
    archive.is_whole("score")


def test_the_times_of_a_project_for_qupath_make_no_difference(tmp_path: Path) -> None:
    for folder, when, name in (("a", 1, "x"), ("b", 2, "x"), ("c", 1, "y")):
        (tmp_path / folder).mkdir()
        text = f'{{"createTimestamp": {when}, "modifyTimestamp": {when}, "name": "{name}"}}'
        (tmp_path / folder / "project.qpproj").write_text(text)
    assert differences(tmp_path / "a", tmp_path / "b") == []
    assert differences(tmp_path / "a", tmp_path / "c") == ["project.qpproj"]


def test_reviews_made_again_make_no_other_model(tmp_path: Path) -> None:
    for folder, when, number, verdict in (
        ("a", "2026-11-29T14:24:32.238+00:00", 1, "artefact"),
        ("b", "2026-11-30T09:00:00.000+00:00", 2, "artefact"),
        ("c", "2026-11-29T14:24:32.238+00:00", 1, "abnormal"),
    ):
        (tmp_path / folder).mkdir()
        review = {"time": when, "verdict": verdict, "id": f"{number:032x}"}
        (tmp_path / folder / "model.json").write_text(json.dumps({"reviews": [review]}))
    assert differences(tmp_path / "a", tmp_path / "b") == []
    assert differences(tmp_path / "a", tmp_path / "c") == ["model.json"]


def test_what_lies_about_is_named(archive: Archive) -> None:
    (archive.root / ".x.partial").touch()
    with pytest.raises(AssertionError, match=r"left behind: \['\.x\.partial'\]"):
        archive.is_whole("score")


def test_a_number_is_the_same_draw_again(tmp_path: Path) -> None:
    drawn = []
    for _ in range(2):
        file = tmp_path / "file"
        file.write_bytes(bytes(range(256)) * 8)
        moments = random.Random("7 12")
        kind = moments.choice(list(KINDS))
        how = harm(file, moments)
        drawn.append((kind, how, file.read_bytes() if file.exists() else b""))
    assert drawn[0] == drawn[1]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_soak_that_is_ended_ends_its_commands_and_gives_the_disk_back(tmp_path: Path) -> None:
    process = start(tmp_path, "--folder", str(tmp_path), program=Path(soak.__code__.co_filename))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    commands: list[str] = []
    while not commands and process.poll() is None:  # it draws slides first
        time.sleep(0.1)
        commands = [pid for pid in children.read_text().split() if _is_a_command(pid)]
    assert commands, end(process).printed
    process.terminate()
    assert end(process).code == 128 + signal.SIGTERM
    assert not os.path.ismount(tmp_path / "archive")
    assert not [pid for pid in commands if Path("/proc", pid).exists()]


def _is_a_command(pid: str) -> bool:
    return "one_run.py" in Path("/proc", pid, "cmdline").read_text()


def test_what_is_lost_is_said_and_the_archive_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disturbance that harms for good, and then one that does not."""
    monkeypatch.setattr("soak_archive._mounted", lambda folder: folder.mkdir() is not None)
    monkeypatch.setattr(Archive, "make", lambda _self: (tmp_path / "undisturbed").mkdir())
    monkeypatch.setattr(Archive, "all_is_whole", lambda self: self.is_whole("audit"))

    def harmful(archive: Archive, _moments: random.Random) -> str:
        assert not (archive.root / ".x.partial").exists(), "put back before the next one"
        (archive.root / ".x.partial").touch()
        archive.is_whole("audit")
        return "never said"

    monkeypatch.setattr("soak.KINDS", {"harm": harmful})
    lost = soak(tmp_path, minutes=1, seed=3, first=0, most=2)
    assert [text.split(":")[0] for text in lost] == ["number 0, harm", "number 1, harm"]
    assert "seed 3: 2 disturbances, 2 lost" in capsys.readouterr().out
    assert '"lost": "number 1, harm: audit: left behind' in (tmp_path / "soak.log").read_text()
    assert set(STEPS) >= {"tile", "train", "calibrate", "score", "review", "learn", "export"}

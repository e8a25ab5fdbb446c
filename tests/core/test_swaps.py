"""Several processes, or one after another's death, put a folder in the same place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import atomic_folder, remove_left_behind

REPLACE = """
import sys
from wsi_anomaly.core.files import atomic_folder
for _ in range(60):
    with atomic_folder(sys.argv[1]) as partial:
        (partial / "a").write_text(sys.argv[2])
        (partial / "b").write_text(sys.argv[2])
"""


def test_two_processes_replace_one_folder_all_the_time(tmp_path: Path) -> None:
    target = tmp_path / "out"
    command = [sys.executable, "-c", REPLACE, str(target)]
    running = [subprocess.Popen([*command, who], stderr=subprocess.PIPE, text=True) for who in "12"]
    for process in running:
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0
    assert (target / "a").read_text() == (target / "b").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _die_between_the_renames(target: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'os.rename' and str(arguments[1]) == sys.argv[1]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
    ) + REPLACE
    subprocess.run([sys.executable, "-c", script, str(target), "new"], check=False)


def test_the_former_folder_comes_back_when_its_successor_never_came(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_text("old")
    _die_between_the_renames(target)
    assert not target.exists()
    remove_left_behind(tmp_path, "other")
    assert not target.exists()
    remove_left_behind(tmp_path, "out")
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_takes_away_what_a_killed_process_left_of_it(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    _die_between_the_renames(target)
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_folder(target) as partial:
        (partial / "a").write_text("newest")
    assert (target / "a").read_text() == "newest"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_place_of_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with (
        pytest.raises(OutputError, match="a file stands where a folder is needed"),
        atomic_folder(tmp_path / "out"),
    ):
        pass
    assert (tmp_path / "out").read_text() == "mine"

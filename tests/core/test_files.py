"""Outputs are whole or absent; identity follows content."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core import files
from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import (
    atomic_file,
    atomic_folder,
    config_hash,
    fingerprint,
    make_folder,
    remove_left_behind,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def break_off() -> None:
    raise ZeroDivisionError


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out.txt"
    with atomic_file(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["out.txt"]


def test_a_failed_write_leaves_the_former_file(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("former")
    with pytest.raises(ZeroDivisionError), atomic_file(target) as partial:
        partial.write_text("half")
        break_off()
    assert target.read_text() == "former"
    assert names(tmp_path) == ["out.txt"]


def test_a_folder_replaces_the_former_one_completely(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("old", "new"):
        with atomic_folder(target) as partial:
            (partial / name).write_text(name)
    assert names(target) == ["new"]
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as partial:
        (partial / "half").write_text("half")
        break_off()
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


def test_kill_nine_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    script = (
        "import sys, time; from wsi_anomaly.core.files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as p:\n"
        "    p.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    target = tmp_path / "out.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert [p.name.endswith(".partial") for p in tmp_path.iterdir()] == [True]
    with atomic_file(target) as partial:
        partial.write_text("whole")
    assert target.read_text() == "whole"


def test_what_killed_processes_left_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from wsi_anomaly.core.files import atomic_file, atomic_folder\n"
        "with atomic_file(sys.argv[1] + '/a.h5') as a, atomic_folder(sys.argv[1] + '/b') as b:\n"
        "    a.touch(); (b / 'half').touch()\n"
        "    Path(sys.argv[1] + '/c').rename(b.with_name(b.name.replace('.b.', '.c.'))\n"
        "                                    .with_suffix('.former'))\n"
        "    os._exit(9)"
    )
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "result").touch()
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(names(tmp_path)) == 3
    elsewhere = [tmp_path / f".{name}.h5.0123abcd.1.partial" for name in ("old", "young")]
    others = [tmp_path / name for name in ("mine.partial", ".hidden")]
    for file in (*elsewhere, *others):
        file.touch()
        os.utime(file, (0, 0))
    os.utime(elsewhere[1])
    with atomic_folder(tmp_path / "d") as partial:
        (partial / "half").touch()
        remove_left_behind(tmp_path)
        assert names(tmp_path) == sorted(
            ["c", partial.name, elsewhere[1].name, *(other.name for other in others)]
        )
    assert names(tmp_path / "c") == ["result"]
    assert names(tmp_path / "d") == ["half"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing says so")
def test_a_killed_process_that_nobody_has_asked_for_has_ended(tmp_path: Path) -> None:
    script = (
        "import os, sys; from wsi_anomaly.core.files import atomic_file\n"
        "with atomic_file(sys.argv[1] + '/a.h5') as a: a.touch(); os._exit(9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it has ended; its entry stays
    os.kill(killed.pid, 0)
    assert len(names(tmp_path)) == 1
    remove_left_behind(tmp_path)
    assert names(tmp_path) == []
    assert killed.wait() == 9


def test_a_folder_within_is_flushed_once_with_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        flushed.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    with atomic_folder(tmp_path / "results") as partial:
        with atomic_folder(partial / "scores.zarr") as inner:
            (inner / "0").write_text("map")
        with atomic_file(partial / "report.html") as file:
            file.write_text("report")
        assert not flushed
    written = [tmp_path, tmp_path / "results", *(tmp_path / "results").rglob("*")]
    assert sorted(flushed) == sorted(path.stat().st_ino for path in written)


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match=r"taken.*cannot be written: .* choose another"):
        make_folder(tmp_path / "taken" / "tiles")


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with (
        pytest.raises(OutputError, match="the disk is full; free some space"),
        atomic_file(tmp_path / "out.txt"),
        open("/dev/full", "w") as full,
    ):
        full.write("x" * 100_000)
    assert names(tmp_path) == []


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"score": float("nan")})
    assert names(tmp_path) == []


@given(st.binary(max_size=400_000), st.integers(0, 399_999))
def test_a_fingerprint_is_of_the_content(tmp_path: Path, content: bytes, position: int) -> None:
    one, two = tmp_path / "one.tif", tmp_path / "two.tif"
    one.write_bytes(content)
    shutil.copy(one, two)
    assert fingerprint(one) == fingerprint(two)
    if position < len(content):
        changed = bytearray(content)
        changed[position] ^= 1
        two.write_bytes(changed)
        assert fingerprint(one) != fingerprint(two)
    two.write_bytes(content + b"\0")
    assert fingerprint(one) != fingerprint(two)


def test_a_file_is_read_again_for_its_fingerprint_once_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)
    file = tmp_path / "a.tif"
    file.write_bytes(b"one")
    first = fingerprint(file)
    assert files.known_fingerprint(file) is not None
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))  # whatever it says of its age
    assert files.known_fingerprint(file) is None
    assert fingerprint(file) != first


def test_a_file_that_has_just_changed_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"one")
    fingerprint(tmp_path / "a.tif")
    assert files.known_fingerprint(tmp_path / "a.tif") is None


def test_the_configuration_hash_ignores_order_only() -> None:
    assert config_hash({"a": 1, "b": [1, 2]}) == config_hash({"b": [1, 2], "a": 1})
    assert config_hash({"a": 1, "b": [1, 2]}) != config_hash({"a": 1, "b": [2, 1]})

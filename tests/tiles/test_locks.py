"""Disks and systems without locks, and disks that cannot be read."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from preloaded import library_without_locks

from wsi_anomaly import tile
from wsi_anomaly.core.errors import OutputError, TileStoreError
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, TileStore
from wsi_anomaly.tiles.slides_table import SlidesTable, write_slides_table

NO_FCNTL = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())
"""

COARSE = ("--magnifications", "10", "--workers", "1")


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locks")
    return make_slide(folder / "scan.tif", seed=0, size_px=(900, 900), mpp=1.0).path


@pytest.fixture
def tiles(slide: Path, tmp_path: Path) -> Path:
    tile(slide, tmp_path / "made", config=TileConfig(magnifications=(10,)))
    return tmp_path / "made" / "scan.h5"


def ran(*command: str | Path, **surroundings: str) -> str:
    """Run it in a process of its own; what it printed."""
    result = subprocess.run(
        [sys.executable, *map(str, command)], env=os.environ | surroundings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    return result.stdout


def cli(*arguments: str | Path, **surroundings: str) -> str:
    return ran("-c", "from wsi_anomaly.cli.main import run; run()", *arguments, **surroundings)


def check_tiled(printed: str, folder: Path) -> None:
    """One slide done; that there are no locks is said, once."""
    assert "1 of 1 slide done" in printed
    assert printed.count("cannot be locked") == 1
    assert "Warning" not in printed
    assert "scan.tif" in (folder / "slides.csv").read_text()


def test_a_system_without_fcntl(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_FCNTL)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    printed = cli("tile", slide, "-o", tmp_path / "t", *COARSE, PYTHONPATH=path)
    check_tiled(printed, tmp_path / "t")


def test_a_disk_without_locks(slide: Path, tmp_path: Path) -> None:
    library = library_without_locks(tmp_path)
    printed = cli("tile", slide, "-o", tmp_path / "t", *COARSE, LD_PRELOAD=library)
    check_tiled(printed, tmp_path / "t")
    made = tmp_path / "t" / "scan.h5"
    printed = cli("preview", made, "-o", tmp_path / "sheet.png", LD_PRELOAD=library)
    assert "damaged" not in printed
    assert (tmp_path / "sheet.png").is_file()


def test_the_case_windows_import(
    slide: Path, tmp_path: Path, field_case: Callable[[str], Path]
) -> None:
    path = os.pathsep.join([str(field_case("windows_import")), os.environ.get("PYTHONPATH", "")])
    check_tiled(cli("tile", slide, "-o", tmp_path / "t", *COARSE, PYTHONPATH=path), tmp_path / "t")


def test_the_case_no_locks(slide: Path, tmp_path: Path, field_case: Callable[[str], Path]) -> None:
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("needs Linux and gcc")
    library = str(field_case("no_locks") / "nolock.so")
    printed = cli("tile", slide, "-o", tmp_path / "t", *COARSE, LD_PRELOAD=library)
    check_tiled(printed, tmp_path / "t")
    out = ("-o", tmp_path / "m", "--detector", "density")
    printed = cli("train", tmp_path / "t", *out, LD_PRELOAD=library)
    assert "damaged" not in printed
    assert (tmp_path / "m" / "model.json").is_file()


def locks_fail(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(_file: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_whatever_a_disk_without_locks_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    locks_fail(monkeypatch, number)
    table = SlidesTable(tmp_path / "slides.csv")
    table.write()
    assert "cannot be locked" in table.note
    assert (tmp_path / "slides.csv").is_file()


def test_another_failure_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks_fail(monkeypatch, errno.EIO)
    with pytest.raises(OutputError, match=r"slides\.csv cannot be written"):
        write_slides_table(tmp_path / "slides.csv", [])


def test_a_program_is_warned(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks_fail(monkeypatch, errno.ENOLCK)
    with pytest.warns(UserWarning, match="cannot be locked") as warned:
        tile(slide, tmp_path, config=TileConfig(magnifications=(10,)))
    assert len(warned) == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOLCK, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("late", [False, True], ids=["opening", "reading"])
def test_a_file_that_cannot_be_read_is_not_called_damaged(
    tiles: Path, monkeypatch: pytest.MonkeyPatch, number: int, late: bool
) -> None:
    # HDF5 gives the number where it opens a file; where it reads one, its text alone has it.
    said = KeyError(
        f"Unable to synchronously open object (file read failed: errno = {number}, ...)"
    )

    def fail(*_arguments: object, **_options: object) -> None:
        raise said if late else OSError(number, "Unable to synchronously open file")

    if late:
        monkeypatch.setattr(h5py.Group, "__contains__", fail)
    else:
        monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(TileStoreError, match=r"scan\.h5 cannot be read \(.*check the disk"):
        TileStore.open(tiles)


def test_a_place_that_cannot_be_is_damage(tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EINVAL, "file seek failed")

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(TileStoreError, match="is damaged"):
        TileStore.open(tiles)

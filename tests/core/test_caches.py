"""A cache that cannot be written is no error: numba and matplotlib do without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_anomaly.core.caches import provide_caches
from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.synthetic import make_slide

RUN = "from wsi_anomaly.cli.main import run; run()"
NO_PLACE = {"HOME": "/proc/nowhere", "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
"""No home that can be written, and none of the places in which numba keeps what it compiles."""


def cli(*arguments: str | Path, code: str = RUN, **surroundings: str) -> str:
    """Run a command without any of the usual places; what it printed."""
    usual = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL", "NUMBA_C"))}
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=usual | NO_PLACE | surroundings,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="/proc stands for what cannot be written")
def test_a_read_only_installation_without_a_home(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "scan.tif", seed=0, size_px=(256, 256), mpp=1.0).path
    options = ("--magnifications", "10", "--stain", "none", "--workers", "1")
    assert "1 of 1 slide done" in cli("tile", slide, "-o", tmp_path / "t", *options)
    printed = " ".join(cli("doctor").split())
    assert "every start compiles anew" in printed
    assert "Everything that is needed works" in printed


def test_a_user_of_no_name_draws(tmp_path: Path) -> None:
    """In a container a process may have a number that no user has: no home at all."""
    code = (
        "import pathlib; pathlib.Path.home = classmethod(lambda c: (_ for _ in ()).throw("
        "RuntimeError('Could not determine home directory.')));"
        "import wsi_anomaly; from matplotlib.figure import Figure; Figure().savefig('a.png');"
        "import os; print(os.environ['XDG_CONFIG_HOME'])"
    )
    printed = cli(code=f"import os; os.chdir({str(tmp_path)!r}); {code}")
    assert (tmp_path / "a.png").is_file()
    assert "Matplotlib created" not in printed
    assert not Path(printed.strip().splitlines()[-1]).exists()  # it went with the process


def test_a_home_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert provide_caches()
    assert "XDG_CACHE_HOME" not in os.environ


def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    @compiled()
    def three() -> int:
        return 3

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(three._cache, "_save_overload", full)
    monkeypatch.setattr(three._cache, "_load_overload", full)
    assert three() == 3

"""Fixtures for every room's tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# One thread a process: the suite runs on several workers, and results do not depend on the count.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    deadline=None,
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real slides and tiles (see its README); skips where the machine has none."""
    folder = Path(os.environ.get("WSI_ANOMALY_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "slides").is_dir():
        pytest.skip("no real slides here: set WSI_ANOMALY_DATA to their folder")
    return folder


@pytest.fixture
def field_case(tmp_path: Path) -> Callable[[str], Path]:
    """Make the files of a case of the field by its name (``expected.txt`` says what is right)."""
    cases = REPOSITORY.parent / "shared" / "cases"

    def made(name: str) -> Path:
        if not (cases / name / "make.py").is_file():
            pytest.skip(f"no case {name} here: they lie beside the repository")
        folder = tmp_path / "cases" / name
        shutil.copytree(cases / name, folder, copy_function=shutil.copy)
        folder.chmod(0o755)
        shutil.copy(cases / "draw.py", folder.parent)
        subprocess.run([sys.executable, folder / "make.py"], check=True, capture_output=True)
        return folder

    return made

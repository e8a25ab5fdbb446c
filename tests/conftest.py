"""Fixtures for every room's tests."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Folder of the cases that users reported (each says what is right); skips without it."""
    folder = REPOSITORY.parent / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("the reported cases are not here: they lie in ../shared/cases")
    return folder

"""``train`` under ``torchrun``: a process that is killed costs time, not the model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

sys.path.append(str(Path(__file__).parents[1] / "training"))

from cohort import make_cohort
from machines import wait_for

CONFIG = """\
batch_size = 16
validate_every = 5
density_estimator = "knn"
[steps]
16 = [0, 5]
32 = [5, 5]
64 = [5, 60]
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_cohort(tmp_path_factory.mktemp("cohort"), count=5)
    (folder / "few.toml").write_text(CONFIG)
    return folder


def start(cohort: Path, model: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "wsi_anomaly", "train", str(cohort / "tiles"), "-o", str(model),
            "--config", str(cohort / "few.toml"), "--device", "cpu",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def process_of_rank(rank: int, launcher: int) -> int | None:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(x for x in status.read_text().splitlines() if x.startswith("PPid:"))
            words = status.with_name("environ").read_bytes().split(b"\0")
        except (OSError, StopIteration):
            continue
        if int(parent.split()[1]) == launcher and f"RANK={rank}".encode() in words:
            return int(status.parent.name)
    return None


def test_a_killed_rank_and_the_same_command_again_give_the_same_model(
    cohort: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    said, _ = (undisturbed := start(cohort, whole)).communicate(timeout=600)
    assert undisturbed.returncode == 0, said

    launcher = start(cohort, broken)
    working = broken.with_name(".broken.training")
    wait_for(lambda: any(working.glob("*.safetensors")), seconds=300)
    victim = process_of_rank(1, launcher.pid)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    launcher.communicate(timeout=300)
    assert launcher.returncode != 0
    assert not broken.exists()  # nothing unfinished is taken for a model

    said, _ = (again := start(cohort, broken)).communicate(timeout=600)
    assert again.returncode == 0, said
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, broken))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert (values == found[name]).all(), name

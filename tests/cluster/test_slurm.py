"""Job arrays and the Slurm example: what can be checked without Slurm."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_anomaly.jobs import parse_shard, take_shard
from wsi_anomaly.synthetic import make_slide

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW = ["--magnifications", "10", "--max-tiles", "20", "--workers", "1"]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed in range(5):
        make_slide(folder / f"s{seed}.tif", seed=seed, size_px=(1024, 1024), mpp=0.5)
    return folder


def test_the_tasks_of_an_array_together_are_one_run(slides: Path, tmp_path: Path) -> None:
    """Two tasks at the same time, as Slurm starts them, with its variables."""
    out = tmp_path / "tiles"
    command = [sys.executable, "-m", "wsi_anomaly", "tile", str(slides), "-o", str(out), *FEW]
    tasks = [
        subprocess.Popen(
            [*command, "--shard", "slurm"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ, "SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_COUNT": "2",
            },
        )
        for number in (1, 2)
    ]  # fmt: skip
    for task in tasks:
        said, _ = task.communicate(timeout=300)
        assert task.returncode == 0, said

    names = [f"s{k}.tif" for k in range(5)]
    with (out / "slides.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(Path(row["slide"]).name, row["status"]) for row in table] == [
        (name, "done") for name in names
    ]
    kept = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    with (out / "slides.csv").open(newline="", encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["kept"] * 5, kept.stderr


def test_every_slide_belongs_to_one_task() -> None:
    everything = [Path(f"{k}.svs") for k in range(23)]
    parts = [take_shard(everything, parse_shard(f"{k}/5")) for k in range(1, 6)]
    assert sorted(slide for part in parts for slide in part) == sorted(everything)
    assert {len(part) for part in parts} == {4, 5}


def test_the_slurm_example_asks_for_workers() -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra 'dask' is not installed")
    spec = importlib.util.spec_from_file_location("slurm_dask", EXAMPLES / "slurm_dask.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with example.cluster_of(
        cores=4, memory_gb=8, hours=2, queue="short", interface="lo"
    ) as cluster:
        script = cluster.job_script()
    assert "#SBATCH -p short" in script
    assert "#SBATCH --cpus-per-task=4" in script
    assert "#SBATCH --mem=8G" in script
    assert "#SBATCH -t 02:00:00" in script
    assert "export OMP_NUM_THREADS=1" in script
    # One slide at a time in each of four processes.
    assert "dask_worker" in script
    assert "--nworkers 4" in script
    assert "--nthreads 1" in script


def test_the_array_example_is_a_shell_script_with_the_options_of_score() -> None:
    script = EXAMPLES / "slurm_array.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "--shard slurm" in script.read_text(encoding="utf-8")

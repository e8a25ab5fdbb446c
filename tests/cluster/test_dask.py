"""``--dask`` on a cluster of real processes, one of which is killed half-way."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
sys.path.append(str(Path(__file__).parents[1] / "scoring"))

from distributed import LocalCluster
from machines import Cluster, wait_for
from small_model import save_small_model

from wsi_anomaly.cli.main import main
from wsi_anomaly.jobs.cluster import run_on_cluster
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, tile_slide

SLIDES = 6


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed in range(SLIDES):
        make_slide(folder / f"s{seed}.tif", seed=seed, size_px=(2048, 2048), mpp=0.5)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), workers=3) as running:
        yield running


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(path: Path) -> dict[str, bytes]:
    """Arrays and root attributes of a tile file."""
    with h5py.File(path) as file:
        found = {name: np.asarray(value).tobytes() for name, value in file.attrs.items()}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def stamps(paths: Iterator[Path]) -> dict[str, tuple[int, int]]:
    """What would differ were a file written a second time."""
    found = {path.name: path.stat() for path in paths}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def written(results: Path) -> dict[str, int]:
    """When each slide's results were written."""
    found = results.glob("[!.]*/summary.json")  # hidden folders are half-written
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def test_the_machines_are_apart_where_that_is_allowed(cluster: Cluster) -> None:
    if not cluster.network.separate:
        pytest.skip("network namespaces need root and ip")
    held = {Path(f"/proc/{worker.pid}/ns/net").readlink() for worker in cluster.workers}
    assert len(held) == 3
    assert Path("/proc/self/ns/net").readlink() not in held


def test_tile_loses_nothing_and_does_nothing_twice_when_a_worker_is_killed(
    slides: Path, cluster: Cluster, tmp_path: Path
) -> None:
    out, here = tmp_path / "tiles", tmp_path / "here"
    running = cluster.run(
        "tile", str(slides), "-o", str(out), "--magnifications", "10", "--dask", cluster.address
    )
    victim = cluster.workers[0]
    # It is writing a slide, and others are finished.
    wait_for(
        lambda: any(out.glob("*.h5")) and any(out.glob(f".*.{victim.pid}.partial")), seconds=180
    )
    os.kill(victim.pid, signal.SIGKILL)
    finished = stamps(out.glob("*.h5"))
    said, _ = running.communicate(timeout=180)

    assert running.returncode == 0, said
    assert finished
    assert finished.items() <= stamps(out.glob("*.h5")).items()
    table = rows(out / "slides.csv")
    assert sorted(Path(row["slide"]).name for row in table) == [f"s{k}.tif" for k in range(SLIDES)]
    assert {row["status"] for row in table} <= {"done", "kept"}  # kept: its answer was lost

    for slide in slides.glob("*.tif"):
        made = tile_slide(slide.resolve(), here, TileConfig(magnifications=(10,))).path
        assert contents(out / made.name) == contents(made), made.name


def test_a_finished_result_that_dies_with_its_worker_is_made_again() -> None:
    def where(item: int, progress: object) -> int:
        time.sleep(1)
        return os.getpid()

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
        finished = run_on_cluster(where, range(6), local.scheduler_address)
        first = next(finished)
        held = local.scheduler.tasks
        wait_for(lambda: [task.state for task in held.values()].count("memory") == 6)
        pids = {nanny.pid for nanny in local.workers.values()}
        assert first.result in pids
        os.kill(next(iter(pids - {first.result})), signal.SIGKILL)
        wait_for(lambda: any(task.state != "memory" for task in held.values()))
        rest = list(finished)

    assert {done.index for done in [first, *rest]} == set(range(6))
    assert all(done.result is not None for done in rest)


def test_score_loses_nothing_and_does_nothing_twice_when_a_worker_is_killed(
    slides: Path, cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "normals").mkdir()
    model = save_small_model(tmp_path / "model", tmp_path / "normals")
    out, here = tmp_path / "results", tmp_path / "here"
    words = ["score", str(slides), "--model", str(model), "--device", "cpu", "--heatmap"]
    running = cluster.run(*words, "-o", str(out), "--dask", cluster.address)
    victim = cluster.workers[1]
    wait_for(
        lambda: any(out.glob("[!.]*/summary.json")) and any(out.glob(f".*{victim.pid}*")),
        seconds=180,
    )
    os.kill(victim.pid, signal.SIGKILL)
    finished = written(out)
    said, _ = running.communicate(timeout=180)

    assert running.returncode == 0, said
    assert finished
    assert finished.items() <= written(out).items()
    table = rows(out / "slides.csv")
    assert sorted(row["slide"] for row in table) == [f"s{k}" for k in range(SLIDES)]
    assert {row["status"] for row in table} == {"done"}

    assert main([*words, "-o", str(here), "--workers", "1"]) == 0
    for k in range(SLIDES):
        for name in ("overlay.geojson", "heatmap.png"):
            there = (out / f"s{k}" / name).read_bytes()
            assert there == (here / f"s{k}" / name).read_bytes(), (k, name)
    ranks = {row["slide"]: row["rank"] for row in table}
    assert ranks == {row["slide"]: row["rank"] for row in rows(here / "slides.csv")}

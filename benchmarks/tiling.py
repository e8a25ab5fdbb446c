"""Whole runs of ``tile``: two workers against one.

    python benchmarks/tiling.py workers     # processes of its own
    python benchmarks/tiling.py dask        # workers of a Dask cluster

Goal: two at least 1.7 times one. Wall-clock medians, one and two workers taking turns, need two
free cores to mean anything; the speed-up by CPU time (what two free cores would allow, were the
slides dealt out evenly) does not.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from common import finish, parser_of

from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig
from wsi_anomaly.tiles.jobs import plan_jobs
from wsi_anomaly.tiles.tiling import tile_slides


def workers(slides: int, side: int, rounds: int) -> dict[str, float]:
    """Seconds of one and of two workers for the same slides, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = copies(root, slides, side)
        wall: dict[int, list[float]] = {1: [], 2: []}
        cpu: dict[int, list[float]] = {1: [], 2: []}
        for count in [1, 2] * rounds:
            out = root / "tiles"
            start, before = time.perf_counter(), _children_cpu()
            jobs = plan_jobs(files, out)
            outcomes = list(tile_slides(jobs, out, TileConfig(), workers=count))
            wall[count].append(time.perf_counter() - start)
            cpu[count].append(_children_cpu() - before)
            assert sum(bool(outcome.result) for outcome in outcomes) == slides
            shutil.rmtree(out)
        return summary(slides, side, wall, cpu)


def copies(root: Path, slides: int, side: int) -> list[Path]:
    """Draw a slide and copy it so many times."""
    drawn = make_slide(root / "0.tif", seed=0, size_px=(side, side), mpp=0.25).path
    return [drawn, *(Path(shutil.copy(drawn, root / f"{k}.tif")) for k in range(1, slides))]


def summary(
    slides: int, side: int, wall: dict[int, list[float]], cpu: dict[int, list[float]]
) -> dict[str, float]:
    """Medians, and how many times as fast two are."""
    return {
        "slides": slides,
        "side_px": side,
        "one_worker_s": statistics.median(wall[1]),
        "two_workers_s": statistics.median(wall[2]),
        "speedup": statistics.median(a / b for a, b in zip(wall[1], wall[2], strict=True)),
        "one_worker_cpu_s": statistics.median(cpu[1]),
        "two_workers_cpu_s": statistics.median(cpu[2]),
        "speedup_by_cpu_time": 2 * statistics.median(cpu[1]) / statistics.median(cpu[2]),
    }


def _children_cpu() -> float:
    """CPU seconds of all ended children: what a run costs, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def on_dask(slides: int, side: int, rounds: int) -> dict[str, float]:
    """The same with a scheduler and workers of Dask's, processes of one thread that stay."""
    from distributed import Client, LocalCluster

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = copies(root, slides, side)
        wall: dict[int, list[float]] = {1: [], 2: []}
        cpu: dict[int, list[float]] = {1: [], 2: []}
        clusters = {
            count: LocalCluster(
                n_workers=count, threads_per_worker=1, dashboard_address=":0", silence_logs="ERROR"
            )
            for count in wall
        }
        try:
            clients = {count: Client(cluster) for count, cluster in clusters.items()}
            for count in [1, 2] * (rounds + 1):
                out = root / "tiles"
                jobs = plan_jobs(files, out)
                before = sum(clients[count].run(time.process_time).values())
                start = time.perf_counter()
                address = clusters[count].scheduler_address
                outcomes = list(tile_slides(jobs, out, TileConfig(), dask=address))
                wall[count].append(time.perf_counter() - start)
                cpu[count].append(sum(clients[count].run(time.process_time).values()) - before)
                assert sum(bool(outcome.result) for outcome in outcomes) == slides
                shutil.rmtree(out)
        finally:
            for cluster in clusters.values():
                cluster.close()
        # The first round loads the code into the workers.
        return summary(slides, side, *({k: v[1:] for k, v in d.items()} for d in (wall, cpu)))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=["workers", "dask"])
    parser.add_argument("--slides", type=int, default=24)
    parser.add_argument("--side", type=int, default=6144, help="px")
    asked = parser.parse_args()
    measure = workers if asked.what == "workers" else on_dask
    finish(measure(asked.slides, asked.side, asked.rounds), asked.json)


if __name__ == "__main__":
    main()

"""``score`` on a Dask cluster of real processes that loses a machine and gets another one.

    python benchmarks/archive_dask.py FOLDER [--json FILE]

FOLDER holds slides, a model and what ``score`` made of them without Dask, as ``scale.py archive``
leaves them. Two workers of one thread begin; when a quarter is done one of them is killed with its
nanny, as a machine that loses its power; when half is done a third one joins.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from common import finish, parser_of

_PORT = 18786


def _dask(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a part of the cluster in a group of its own."""
    log = (folder / f"dask-{words[0]}-{time.monotonic_ns()}.log").open("wb")
    command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
    return subprocess.Popen(
        command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def _done(results: Path) -> int:
    return len([*results.glob("[!.]*/summary.json")])


def _wait(results: Path, count: int, running: subprocess.Popen[bytes]) -> int:
    while running.poll() is None and _done(results) < count:
        time.sleep(0.2)
    return _done(results)


def _arrays(store: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, array in zarr.open_group(store, mode="r").members(max_depth=None):
        if isinstance(array, zarr.Array):
            values = np.asarray(array[...])
            found[name] = f"{values.dtype} {values.shape}".encode() + values.tobytes()
    return found


def run(folder: Path) -> dict[str, Any]:
    """Score the slides on the cluster, and compare."""
    results = folder / "results_dask"
    shutil.rmtree(results, ignore_errors=True)
    slides = len([*(folder / "slides").glob("*.tif")])
    address = f"tcp://127.0.0.1:{_PORT}"
    worker = ("worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard")
    parts = [_dask(folder, "scheduler", "--port", str(_PORT), "--no-dashboard")]
    try:
        parts += [_dask(folder, *worker) for _ in range(2)]
        log = (folder / "score_dask.log").open("wb")
        start = time.perf_counter()
        running = subprocess.Popen(
            [sys.executable, "-m", "wsi_anomaly", "score", "slides", "--device", "cpu",
             "-o", results.name, "--dask", address],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        killed_at = _wait(results, slides // 4, running)
        os.killpg(parts[1].pid, signal.SIGKILL)
        joined_at = _wait(results, slides // 2, running)
        parts.append(_dask(folder, *worker))
        code = running.wait()
        seconds = time.perf_counter() - start
    finally:
        for part in parts:
            if part.poll() is None:
                os.killpg(part.pid, signal.SIGTERM)
                part.wait()
    both = {
        path.parent.name: _arrays(path) == _arrays(results / path.parent.name / path.name)
        for path in (folder / "results").glob("[!.]*/scores.zarr")
        if (results / path.parent.name / path.name).is_dir()
    }
    return {
        "slides": slides, "code": code, "seconds": round(seconds, 1),
        "done_when_one_was_killed": killed_at, "done_when_one_joined": joined_at,
        "results": _done(results), "compared": len(both), "equal": sum(both.values()),
        "said": (folder / "score_dask.log").read_text().strip().splitlines()[-3:],
    }  # fmt: skip


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    finish(run(asked.folder.resolve()), asked.json)


if __name__ == "__main__":
    main()

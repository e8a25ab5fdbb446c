"""Time and memory as slides grow, and as tiles become many.

    python benchmarks/scale.py sizes [--sides 10000 20000 40000 80000 100000] [--model MODEL]
    python benchmarks/scale.py tiles [--tiles 10000 100000 1000000]
    python benchmarks/scale.py slides [--slides 1000]
    python benchmarks/scale.py archive FOLDER [--slides 1000] [--different 60] [--largest-mm 6]

sizes: ``tile`` (its defaults: 2,000 fields at three magnifications) and ``score`` (all fields at
10x, every result file; a model that costs nothing) of drawn slides, half of them tissue. Goal: a
peak memory that grows by less than 20% from 10,000 to 80,000 px a side. With --model ``score``
alone, by that model.

tiles: the results of a slide with so many fields (score map, overlay, heatmaps, report), and
random training batches from files of 20,000 tiles.

slides: ``score`` of so many slides of ten sizes of 1 to 2 mm2 in one process, without a model (the
network runs all the same): its memory after slides, and what of its heap is in use and what free.

archive: ``tile``, ``train`` and ``score`` of so many drawn slides of 1 mm a side and more, most of
them small, as a user gives them, with two workers: time, memory as slides are done, what is left.
FOLDER keeps it all; give the same line again to go on.

Every figure of the first two comes from a process of its own; medians of the rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from archive import run_archive
from common import finish, huge_slide, memory_mb, parser_of, peak_mb
from numpy.typing import NDArray

_FILE_TILES = 20_000
_BATCH = 128


class Brightness:
    """A model without a network, calibrated on made-up normal slides."""

    name, version, magnification, tile_size = "brightness", 1, 10, 64
    primary, methods, hash = "dark", ("dark",), "0" * 16

    def __init__(self) -> None:
        from wsi_anomaly.calibration import Calibration, CaseScores
        from wsi_anomaly.tiles import Preprocessing

        rng = np.random.default_rng(0)
        grid = np.divmod(np.arange(900), 30)
        slides = [
            CaseScores(f"c{i}", f"c{i}", *grid, rng.normal(0.4, 0.05, 900).astype(np.float32))
            for i in range(6)
        ]
        self.preprocessing = Preprocessing().to_dict()
        self.calibration = {"dark": Calibration.fit(slides)}
        self.seen: dict[str, Any] = {}
        self.domain: dict[str, Any] = {}
        self.provenance: dict[str, Any] = {}

    def score_tiles(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Judge by darkness."""
        return {"dark": (1 - images.mean((1, 2, 3)) / 255).astype(np.float32)}

    def pixel_maps(self, images: NDArray[np.uint8]) -> None:
        """Make none."""


def tile_one(side: int, folder: Path) -> Callable[[], dict[str, float]]:
    """Tile a slide of this size."""
    from wsi_anomaly.tiles import TileConfig, tile_slide

    path = huge_slide(folder / "slide.tif", side)

    def work() -> dict[str, float]:
        result = tile_slide(path, folder / "tiles", TileConfig())
        return {"fields": result.tiles, "file_mb": result.path.stat().st_size / 1e6}

    return work


def score_one(
    side: int, folder: Path, model_folder: str | None = None
) -> Callable[[], dict[str, float]]:
    """Score a slide of this size."""
    from wsi_anomaly.options import ScoreOptions
    from wsi_anomaly.scoring.loading import load_model
    from wsi_anomaly.screening import ScoreJob, score_to_folder

    job = ScoreJob(huge_slide(folder / "slide.tif", side), folder / "results")
    model = load_model(Path(model_folder), "cpu") if model_folder else Brightness()

    def work() -> dict[str, float]:
        made = score_to_folder(job, model, ScoreOptions(heatmap=True))
        return {"fields": len(made.fields)}

    return work


def results_of(tiles: int, folder: Path) -> Callable[[], dict[str, float]]:
    """Interpret so many scores and write what a person opens."""
    from geojson import score_map

    from wsi_anomaly.reports import write_results
    from wsi_anomaly.scoring import interpret
    from wsi_anomaly.slides import open_slide

    made = score_map(tiles)
    slide = open_slide(huge_slide(folder / "slide.tif", made.slide.width, mpp=0.5))

    def work() -> dict[str, float]:
        score = made.scores[made.primary]
        interpret(made.fields, score, made.calibration, mpp=(0.5, 0.5))
        write_results(made, slide, folder / "results")
        size = sum(file.stat().st_size for file in (folder / "results").rglob("*"))
        return {"results_mb": size / 1e6}

    return work


def batches_of(tiles: int, folder: Path) -> Callable[[], dict[str, float]]:
    """Draw random training batches from so many tiles."""
    from store import write_file

    from wsi_anomaly.tiles import TileSet, TileStore

    count = min(tiles, _FILE_TILES)
    images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    paths = [folder / f"{k}.h5" for k in range(tiles // count)]
    for path in paths:
        write_file(path, images)
    del images

    def work() -> dict[str, float]:
        start = time.perf_counter()
        found = TileSet([TileStore.open(path) for path in paths], 10)
        opened = time.perf_counter()
        order = np.random.default_rng(1).integers(0, len(found), (400, _BATCH))
        for indices in order:
            found.batch(indices)
        return {
            "files": len(paths),
            "open_s": opened - start,
            "tiles_per_s": order.size / (time.perf_counter() - opened),
        }

    return work


WORK = {"tile": tile_one, "score": score_one, "results": results_of, "batches": batches_of}


def one(what: str, size: int, *more: str) -> None:
    """Do it once, in this process; print what it took beyond what the process had before."""
    with tempfile.TemporaryDirectory() as folder:
        work = WORK[what](size, Path(folder), *more)
        before, start, cpu = memory_mb(), time.perf_counter(), time.process_time()
        found = work()
        taken = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        # Tiles that are mapped from their files belong to the system, not to the process.
        peak = {"own_mb": memory_mb()} if what == "batches" else {"peak_mb": peak_mb()}
    print(json.dumps({**found, **taken, **peak, "before_mb": before}))


def grow(what: str, sizes: list[int], rounds: int, *more: str) -> dict[str, dict[str, float]]:
    """Medians for each size."""
    found = {}
    for size in sizes:
        runs = []
        for _ in range(rounds):
            command = [sys.executable, __file__, "one", what, str(size), *more]
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(out.stdout.splitlines()[-1]))
        found[str(size)] = {
            key: float(f"{statistics.median(run[key] for run in runs):.4g}") for key in runs[0]
        }
        print(what, size, found[str(size)], file=sys.stderr, flush=True)
    return found


class _Heap(ctypes.Structure):
    """What glibc says of its heap (mallinfo2)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def many(slides: int) -> dict[str, Any]:
    """Score so many slides here, one after the other, and note the memory; ten are drawn."""
    from wsi_anomaly.options import ScoreOptions
    from wsi_anomaly.screening.run import ScoreRun
    from wsi_anomaly.synthetic import make_slide

    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Heap
    notes: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "slides").mkdir()
        for i in range(10):
            side = 900 + 60 * (i * 7 % 10)  # no two of one size, in no order
            make_slide(folder / f"drawn{i}.tif", seed=i, size_px=(side, side), mpp=1.0)
        for i in range(slides):  # a byte behind the picture makes another slide of it
            data = (folder / f"drawn{i % 10}.tif").read_bytes()
            (folder / "slides" / f"s{i:05}.tif").write_bytes(data + b"%d" % i)
        options = ScoreOptions(workers=1, device="cpu")
        run = ScoreRun.plan([folder / "slides"], None, folder / "results", options)
        started, cpu = time.perf_counter(), time.process_time()
        for number, outcome in enumerate(run.outcomes(), start=1):
            assert not outcome.error, outcome.error
            if number <= 12 or number == slides or number % max(1, slides // 20) == 0:
                heap = library.mallinfo2()
                notes.append({
                    "slide": number, "own_mb": round(memory_mb()), "peak_mb": round(peak_mb()),
                    "heap_in_use_mb": round((heap.uordblks + heap.hblkhd) / 2**20),
                    "heap_free_mb": round(heap.fordblks / 2**20),
                })  # fmt: skip
                print(notes[-1], file=sys.stderr, flush=True)
        taken = {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    return {"slides": slides, **{name: round(value, 1) for name, value in taken.items()},
            "after_slide": notes}  # fmt: skip


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=["sizes", "tiles", "slides", "archive", "one"])
    parser.add_argument("work", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[10_000, 20_000, 40_000, 80_000, 100_000]
    )
    parser.add_argument("--model", help="folder of the model that scores, in place of a free one")
    parser.add_argument("--tiles", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--different", type=int, default=60, help="slides that are really drawn")
    parser.add_argument("--largest-mm", type=float, default=6.0, help="side of the largest")
    asked = parser.parse_args()
    if asked.what == "archive":
        found = run_archive(
            Path(asked.work[0]).resolve(), asked.slides, asked.different, asked.largest_mm
        )
        finish(found, asked.json)
        return
    if asked.what == "slides":
        finish(many(asked.slides), asked.json)
        return
    if asked.what == "one":
        one(asked.work[0], int(asked.work[1]), *asked.work[2:])
        return
    kinds, sizes = {
        "sizes": (("tile", "score"), asked.sides),
        "tiles": (("results", "batches"), asked.tiles),
    }[asked.what]
    more = [asked.model] if asked.model else []
    if more:
        kinds = ("score",)
    grown = {kind: grow(kind, sizes, asked.rounds, *more) for kind in kinds}
    finish({"rounds": asked.rounds, **grown}, asked.json)


if __name__ == "__main__":
    main()

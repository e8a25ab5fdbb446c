"""Whole runs of ``tile``: two workers against one, and the memory of a worker on a huge slide.

    python benchmarks/tiling.py workers     # goal: two workers at least 1.7 times one
    python benchmarks/tiling.py memory      # goal: below 1 GB on 100,000 x 100,000 px

Wall-clock medians, one and two workers taking turns, need two free cores to mean anything; the
speed-up by CPU time (what two free cores would allow, were the slides dealt out evenly) does not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import peak_mb

from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, tile_slide
from wsi_anomaly.tiles.jobs import plan_jobs
from wsi_anomaly.tiles.pool import Outcome, tile_slides

_TILE = 256


def workers(slides: int, side: int, rounds: int) -> dict[str, float]:
    """Seconds of one and of two workers for the same slides, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drawn = make_slide(root / "0.tif", seed=0, size_px=(side, side), mpp=0.25).path
        files = [drawn, *(Path(shutil.copy(drawn, root / f"{k}.tif")) for k in range(1, slides))]
        wall: dict[int, list[float]] = {1: [], 2: []}
        cpu: dict[int, list[float]] = {1: [], 2: []}
        for count in [1, 2] * rounds:
            out = root / "tiles"
            start, before = time.perf_counter(), _children_cpu()
            jobs = plan_jobs(files, out)
            events = list(tile_slides(jobs, out, TileConfig(), workers=count))
            wall[count].append(time.perf_counter() - start)
            cpu[count].append(_children_cpu() - before)
            assert sum(isinstance(e, Outcome) and bool(e.result) for e in events) == slides
            shutil.rmtree(out)
        return {
            "slides": slides,
            "side_px": side,
            "one_worker_s": statistics.median(wall[1]),
            "two_workers_s": statistics.median(wall[2]),
            "speedup": statistics.median(a / b for a, b in zip(wall[1], wall[2], strict=True)),
            "one_worker_cpu_s": statistics.median(cpu[1]),
            "two_workers_cpu_s": statistics.median(cpu[2]),
            "speedup_by_cpu_time": 2 * statistics.median(cpu[1]) / statistics.median(cpu[2]),
            "load_average": os.getloadavg()[0],
        }


def _children_cpu() -> float:
    """CPU seconds of all ended children: what a run costs, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def huge_slide(path: Path, side: int, levels: int) -> Path:
    """Tissue and glass at 0.25 um, `side` px a side: four compressed tiles over and over.

    A file of a few megabytes that costs what a real one does to read.
    """
    import tifffile

    drawn = make_slide(path.with_suffix(".small.tif"), seed=0, size_px=(4096, 4096), mpp=0.25).path
    with tifffile.TiffFile(drawn) as tif:
        page = tif.pages[0]
        sizes = np.array(page.databytecounts)
        order = np.argsort(sizes)
        tissue, glass = order[[-80, -60, -40]], order[0]
        blobs = []
        for index in (*tissue, glass):
            tif.filehandle.seek(page.dataoffsets[index])
            blobs.append(tif.filehandle.read(page.databytecounts[index]))
        jpeg_tables, photometric = page.jpegtables, int(page.photometric)
        subsampling = page.subsampling or (1, 1)
    drawn.unlink()
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        places = [(file.tell(), file.write(blob)) for blob in blobs]
        tables = file.tell()
        file.write(jpeg_tables or b"")
        link = 8
        for level in range(levels):
            factor = 4**level
            size = side // factor
            across = -(-size // _TILE)
            row, column = np.divmod(np.arange(across * across), across)
            inside = (np.hypot(row - across / 2, column - across / 2) < across * 0.4).astype(int)
            which = np.where(inside, (row * 7 + column * 3) % 3, 3)
            offsets, counts = (np.array([p[k] for p in places])[which] for k in (0, 1))
            file.seek(0, 2)
            here = file.tell()
            file.write(offsets.astype("<u8").tobytes() + counts.astype("<u4").tobytes())
            entries = [
                (254, 4, 1, struct.pack("<I", int(level > 0))),
                (256, 4, 1, struct.pack("<I", size)),
                (257, 4, 1, struct.pack("<I", size)),
                (258, 3, 3, struct.pack("<3H", 8, 8, 8)),
                (259, 3, 1, struct.pack("<H", 7)),
                (262, 3, 1, struct.pack("<H", photometric)),
                (277, 3, 1, struct.pack("<H", 3)),
                (282, 5, 1, struct.pack("<2I", 40_000, factor)),
                (283, 5, 1, struct.pack("<2I", 40_000, factor)),
                (284, 3, 1, struct.pack("<H", 1)),
                (296, 3, 1, struct.pack("<H", 3)),
                (322, 4, 1, struct.pack("<I", _TILE)),
                (323, 4, 1, struct.pack("<I", _TILE)),
                (324, 16, len(which), struct.pack("<Q", here)),
                (325, 4, len(which), struct.pack("<Q", here + 8 * len(which))),
            ]
            if jpeg_tables:
                entries.append((347, 7, len(jpeg_tables), struct.pack("<Q", tables)))
            entries.append((530, 3, 2, struct.pack("<2H", *subsampling)))
            start = file.tell()
            file.write(struct.pack("<Q", len(entries)))
            for tag, kind, count, value in entries:
                file.write(struct.pack("<HHQ", tag, kind, count) + value.ljust(8, b"\0"))
            file.write(struct.pack("<Q", 0))
            end = file.tell() - 8
            file.seek(link)
            file.write(struct.pack("<Q", start))
            link = end
    return path


def memory(side: int, levels: int) -> dict[str, float]:
    """Peak memory of a process that does what a worker does with a huge slide."""
    with tempfile.TemporaryDirectory() as folder:
        path = huge_slide(Path(folder) / "huge.tif", side, levels)
        command = [sys.executable, __file__, "one", str(path)]
        out = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, float] = json.loads(out.stdout.splitlines()[-1])
        return {"side_px": side, "levels": levels, "file_mb": path.stat().st_size / 1e6, **found}


def one(path: Path) -> dict[str, float]:
    """Tile a slide in this process."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = tile_slide(path, folder, TileConfig())
        size = result.path.stat().st_size
    return {
        "tiles": result.tiles,
        "tile_file_mb": size / 1e6,
        "seconds": time.perf_counter() - start,
        "peak_mb": peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["workers", "memory", "one"])
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--slides", type=int, default=24)
    parser.add_argument(
        "--side", type=int, help="px; default: 6144 for workers, 100,000 for memory"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--levels", type=int, default=4, help="of the huge slide; 1: no pyramid")
    options = parser.parse_args()
    if options.what == "workers":
        result = workers(options.slides, options.side or 6144, options.rounds)
    elif options.what == "memory":
        result = memory(options.side or 100_000, options.levels)
    else:
        result = one(options.slide)
    print(json.dumps(result, indent=None if options.what == "one" else 2))


if __name__ == "__main__":
    main()

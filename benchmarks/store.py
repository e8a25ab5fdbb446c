"""How fast tile files are written, and random training batches read across many of them.

    python benchmarks/store.py

Goals: written at 500 MB/s or more; 100,000 tiles/s or more of 64 px at 10x in truly random batches
across 50 files from one process, page cache warm. Every figure is a median.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from common import finish, parser_of

from wsi_anomaly.slides import Bounds, Mpp
from wsi_anomaly.tiles import Fields, TileConfig, TileSet, TileStore
from wsi_anomaly.tiles.writing import tiles_of, write_tiles

BATCH = 128


def write_file(path: Path, images: np.ndarray) -> float:
    """Write a tile file of these 10x tiles in batches of 256; the seconds it took, synced."""
    count, side = images.shape[:2]
    slide = SimpleNamespace(
        name=path.stem, path=path.with_suffix(".tif"), width=1 << 16, height=1 << 16,
        mpp=Mpp(0.25, 0.25, "benchmark"), finest_mpp=0.25, backend="none",
        bounds=Bounds(0, 0, 1 << 16, 1 << 16),
    )  # fmt: skip
    row, col = np.divmod(np.arange(count, dtype=np.int32), 200)
    fields = Fields(
        np.stack((col, row), 1).astype(np.int64) * 4 * side, row, col, (200, 200), (0.0, 0.0),
        (4.0 * side, 4.0 * side), (4.0 * side, 4.0 * side), float(side),
        np.ones(count, np.float32), np.zeros(count, np.uint8),
    )  # fmt: skip
    start = time.perf_counter()
    with write_tiles(
        path, slide, fields, fields.status, config=TileConfig((10,), tile_size=side, stain="none"),
        magnifications=(10,), stain=None,
        attributes={"fingerprint": path.stem, "case": path.stem}, planes={},
    ) as writer:  # fmt: skip
        for first in range(0, count, 256):
            indices = np.arange(first, min(first + 256, count))
            writer.put(tiles_of(10), indices, images[indices[0] : indices[-1] + 1])
    return time.perf_counter() - start


def bare_write(path: Path, images: np.ndarray) -> float:
    """The same bytes into a plain file, synced: what the disk allows."""
    import os

    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        view = memoryview(images).cast("B")
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--tiles", type=int, default=4000, help="a file")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.tiles, 64, 64, 3), np.uint8)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        paths = [Path(folder) / f"{k}.h5" for k in range(options.files)]
        write_file(paths[0], images)
        ours, bare = [], []
        for path in paths:
            ours.append(write_file(path, images))
            bare.append(bare_write(path.with_suffix(".bin"), images))
        tiles = TileSet([TileStore.open(path) for path in paths], 10)
        tiles.all()  # warm
        rng = np.random.default_rng(1)
        rates = []
        for _ in range(7):
            order = rng.permutation(len(tiles))[: 200 * BATCH].reshape(-1, BATCH)
            start = time.perf_counter()
            for indices in order:
                tiles.batch(indices)
            rates.append(order.size / (time.perf_counter() - start))
        result = {
            "files": options.files,
            "tiles": len(tiles),
            "write_MB_per_s": images.nbytes / 1e6 / statistics.median(ours),
            "write_bare_MB_per_s": images.nbytes / 1e6 / statistics.median(bare),
            "random_tiles_per_s": statistics.median(rates),
        }
    finish(result, options.json)


if __name__ == "__main__":
    main()

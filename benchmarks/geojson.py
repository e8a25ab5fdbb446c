"""Time, memory and size of an overlay of a million tiles.

    python benchmarks/geojson.py [--tiles 1000000] [--rounds 5]

Goals: under 4 s, under 150 MB of memory on top of the score map, under 60 MB gzipped. Writing
JSON of the same content with orjson, a feature at a time, is measured beside it in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np
import orjson
from common import finish, parser_of
from shapely.geometry import MultiPolygon, box

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.geojson import tile_features, write_geojson
from wsi_anomaly.scoring import ScoreMap, SlideFacts, interpret
from wsi_anomaly.slides import Bounds, Mpp
from wsi_anomaly.tiles import Fields

_PAGE_MB = 4096 / 2**20


def score_map(tiles: int) -> ScoreMap:
    """A square slide with a calibrated map and a few regions."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(tiles)))
    row, col = (a[:tiles].astype(np.int32) for a in np.divmod(np.arange(side * side), side))
    coords = np.stack([col, row], 1).astype(np.int64) * 128
    fields = Fields(
        coords, row, col, (side, side), (0.0, 0.0), (128.0, 128.0), (128.0, 128.0), 64.0,
        np.ones(tiles, np.float32), np.zeros(tiles, np.uint8),
    )  # fmt: skip
    score = rng.normal(1, 0.1, tiles).astype(np.float32)
    for y, x in rng.integers(0, side, (40, 2)):
        score[np.hypot(row - y, col - x) < 6] += 0.5
    small = np.divmod(np.arange(900), 30)
    calibration = Calibration.fit(
        [
            CaseScores(f"c{i}", f"c{i}", *small, rng.normal(1, 0.1, 900).astype(np.float32))
            for i in range(8)
        ]
    )
    extent = side * 128
    facts = SlideFacts(
        "benchmark", "benchmark.tif", "0123456789abcdef", extent, extent, Mpp(0.5, 0.5, "--mpp"),
        Bounds(0, 0, extent, extent), "none",
    )  # fmt: skip
    return ScoreMap(
        facts, fields, np.zeros(tiles, np.uint8), {"dpa": score}, "dpa",
        interpret(fields, score, calibration, mpp=(0.5, 0.5)), calibration, None,
        {
            "name": "m", "hash": "0" * 16, "version": 1, "magnification": 10, "tile_size": 64,
            "methods": ["dpa"], "primary": "dpa", "provenance": {},
        },
        {"stride_um": 64.0, "false_regions": 1.0, "fdr": None},
        MultiPolygon([box(0, 0, extent, extent)]), 1.0,
    )  # fmt: skip


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MB


class Peak:
    """Highest memory while a block runs, over that at its start."""

    def __enter__(self) -> Self:
        self.start = self.peak = resident_mb()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, resident_mb())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.growth = max(self.peak, resident_mb()) - self.start


def one_by_one(made: ScoreMap, path: Path) -> None:
    """Write the same tiles with orjson, each as an object of its own."""
    frame = Frame.of(made.slide)
    with open(path, "wb") as file:
        for chunk in tile_features(made, frame):
            file.writelines(
                orjson.dumps(feature) + b",\n" for feature in orjson.loads(b"[" + chunk + b"]")
            )


def timed(function: object, *arguments: object, **options: object) -> tuple[float, float]:
    """Processor and wall seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments, **options)  # type: ignore[operator]
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--tiles", type=int, default=1_000_000)
    asked = parser.parse_args()
    made = score_map(asked.tiles)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_geojson(place, score_map(1000), gzip=True)  # imports and caches
        with Peak() as peak:
            packed = [timed(write_geojson, place, made, gzip=True) for _ in range(asked.rounds)]
        size = (place / "overlay.geojson.gz").stat().st_size / 1e6
        plain = [timed(one_by_one, made, place / "plain.json") for _ in range(asked.rounds)]
    result = {
        "tiles": asked.tiles,
        "regions": len(made.interpretation.regions),
        "gzipped_cpu_s": round(statistics.median(c for c, _ in packed), 2),
        "gzipped_wall_s": round(statistics.median(w for _, w in packed), 2),
        "memory_growth_mb": round(peak.growth, 1),
        "gzipped_mb": round(size, 1),
        "parse_and_dump_one_by_one_cpu_s": round(statistics.median(c for c, _ in plain), 2),
    }
    finish(result, asked.json)


if __name__ == "__main__":
    main()

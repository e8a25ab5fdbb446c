"""A network over a whole image: ``lite0`` in one pass against tiles one by one, one core.

    python benchmarks/dense.py [--rounds 5] [--side 8192]

An image of `side` x `side` px at 10x (1 um a pixel) goes through ``lite0`` up to b5 and b6, in
float32 and, where the processor multiplies it, in bfloat16: maps alone, and with fields of 256 px
every 64 px or of 64 px side by side pooled from them. The image's margins and the statistics of its
filters are included, reading from a disk is not. Beside them, what a tile costs that is looked at
by itself: 64 px in batches of 32. CPU time, all interleaved, medians over rounds; ratios are
within a round. Goals: 8 mm2/s to b5, 5 to b6; 256 px every 64 px at most 1.3 times 64 px fields.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common import finish, memory_mb, parser_of, peak_mb

from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.features.pooling import pooled_fields
from wsi_anomaly.features.precision import fast_precision

GOALS = {"b5": 8, "b6": 5}
GLASS = (240, 240, 240)
BATCH = 32


def made_image(side: int) -> np.ndarray:
    """Blurred noise in tissue's colours: what it shows does not matter to the speed."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.random((128, 128, 1)), np.ones((8, 8, 1)))
    patch = (150, 80, 150) + coarse * (90, 120, 80) + rng.normal(0, 6, (1024, 1024, 3))
    times = -(-side // 1024)
    return np.tile(np.clip(patch, 0, 255).astype(np.uint8), (times, times, 1))[:side, :side]


def ways(
    network: PerceptualNetwork, layer: str, image: np.ndarray
) -> dict[str, Callable[[], float]]:
    """Each way's work, which returns the area that it covered, mm2."""
    maps, side = DenseMaps(network, (layer,)), len(image)

    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        return image[y : y + height, x : x + width]

    def dense() -> float:
        for _ in maps.strips(read, side, side, background=GLASS):
            pass
        return side**2 / 1e6

    def fields(size: int) -> float:
        for _ in pooled_fields(maps, read, side, side, background=GLASS, sizes=(size,), step=64):
            pass
        return side**2 / 1e6

    @torch.inference_mode()
    def tiles() -> float:
        count = 8 * BATCH
        cut = image[: 64 * 16, : 64 * (count // 16)].reshape(16, 64, count // 16, 64, 3)
        cut = cut.swapaxes(1, 2).reshape(count, 64, 64, 3)
        for start in range(0, count, BATCH):
            batch = torch.from_numpy(cut[start : start + BATCH]).permute(0, 3, 1, 2)
            network(batch.float() / 127.5 - 1, (layer,))[layer].mean((2, 3))
        return count * 64**2 / 1e6

    return {
        "maps": dense,
        "256_every_64": lambda: fields(256),
        "64_every_64": lambda: fields(64),
        "64_one_by_one": tiles,
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--side", type=int, default=8192, help="of the image, px (default 8192)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    image = made_image(options.side)
    precisions = {torch.float32, fast_precision("cpu")}
    work = {
        (str(precision).removeprefix("torch."), layer): ways(
            load_features("lite0").set_precision(precision), layer, image
        )
        for precision in sorted(precisions, key=str)
        for layer in GOALS
    }
    speeds: dict[tuple[str, str], dict[str, list[float]]] = {
        key: {name: [] for name in by_name} for key, by_name in work.items()
    }
    before = memory_mb()
    for turn in range(options.rounds + 1):
        for key, by_name in work.items():
            for name, run in by_name.items():
                start = time.process_time()
                area = run()
                if turn:  # the first one warms up
                    speeds[key][name].append(area / (time.process_time() - start))
    result: dict[str, object] = {"side_px": options.side, "layers": {}}
    for (precision, layer), measured in speeds.items():
        wide = measured["256_every_64"]
        times = {
            name: [b / a for a, b in zip(wide, measured[name], strict=True)]
            for name in ("64_every_64", "64_one_by_one")
        }
        result["layers"][f"{layer} {precision}"] = {  # type: ignore[index]
            "mm2_per_s": {name: round(statistics.median(v), 2) for name, v in measured.items()},
            "goal_mm2_per_s": GOALS[layer],
            "256_every_64_costs_times": {
                name: [round(v, 2) for v in (statistics.median(r), min(r), max(r))]
                for name, r in times.items()
            },
            "goal_times": 1.3,
        }
    result["memory_mb"] = {"before": round(before), "peak": round(peak_mb())}
    finish(result, options.json)


if __name__ == "__main__":
    main()

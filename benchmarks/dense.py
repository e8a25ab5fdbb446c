"""A network over a whole image: ``lite0`` in one pass against tiles one by one, one core.

    python benchmarks/dense.py [--rounds 3] [--side 6144]
    python benchmarks/dense.py --width 16384      (memory alone, in this process)

An image of `side` x `side` px at 10x (1 um a pixel) goes through ``lite0`` up to b5 and b6, in
float32 and, where the processor multiplies it, in bfloat16: maps alone, and with fields of 256 px
every 64 px or of 64 px side by side pooled from them. The image's margins and the statistics of its
filters are included, reading from a disk is not. Beside them, what a tile costs that is looked at
by itself: 64 px in batches of 32. CPU time, all interleaved, medians over rounds; ratios are
within a round. Goals: 8 mm2/s to b5, 5 to b6; 256 px every 64 px at most 1.3 times 64 px fields.
Memory: fresh processes pool three sizes of field from b5 and b6 of images of growing width.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common import finish, parser_of, peak_mb

from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.features.pooling import pooled_fields
from wsi_anomaly.features.precision import fast_precision

GOALS = {"b5": 8, "b6": 5}
WIDTHS, HEIGHT = (4096, 16384, 32768), 4096
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


def memory(width: int) -> dict[str, int]:
    """Peak of this process while an image that is drawn as it is read goes through."""
    network = load_features("lite0").set_precision(fast_precision("cpu"))
    patch = made_image(1024)

    def read(x: int, y: int, width: int, height: int) -> np.ndarray:
        return patch[np.arange(y, y + height) % 1024][:, np.arange(x, x + width) % 1024]

    before = peak_mb()
    for _ in pooled_fields(
        DenseMaps(network, ("b5", "b6")), read, width, HEIGHT,
        background=GLASS, sizes=(64, 128, 256), step=64,
    ):  # fmt: skip
        pass
    return {"before_mb": round(before), "peak_mb": round(peak_mb())}


def memory_of_another_process(width: int) -> dict[str, int]:
    command = [sys.executable, __file__, "--width", str(width)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, int] = json.loads(out)
    return found


def main() -> None:
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--width", type=int, help="only measure memory with such an image, px")
    parser.add_argument("--side", type=int, default=6144, help="of the image, px (default 6144)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.width:
        finish(memory(options.width), options.json)
        return
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
    result["memory"] = {str(width): memory_of_another_process(width) for width in WIDTHS}
    finish(result, options.json)


if __name__ == "__main__":
    main()

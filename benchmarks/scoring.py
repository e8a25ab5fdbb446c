"""The whole ``score`` command against its longest unavoidable part; memory over slide size.

    python benchmarks/scoring.py SLIDE --model MODEL [--rounds 5]
    python benchmarks/scoring.py --start
    python benchmarks/scoring.py --memory

The first measures, in turn and in one process, all that the command does for a slide (report and
heatmaps included) and, alone, reading the slide's fields, normalising their stains, and the
network. The goal is a whole of at most 1.5 times the longest part; the ratio is the median of
those of the rounds, as neighbours on the machine disturb a round as a whole. The second measures,
in fresh processes, ``import wsi_anomaly`` (the goal is 0.5 s) and the imports that every worker
of ``score`` makes. The third scores slides of 10,000 and of 80,000
pixels a side in processes of their own, with a network that costs nothing; the goal is a peak
memory that grows by less than 20%.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import tifffile
from common import peak_mb
from imagecodecs import jpeg_encode
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.overlays import ScoreOptions, score_to_folder
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Preprocessing, Status, plan_fields, read_fields

_SIZES = (10_000, 80_000)
_TILE = 512
_LEVELS = (1, 4, 16, 32)
_PARTS = ("decode", "stain", "network")


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def parts(slide_file: Path, model_folder: Path, rounds: int) -> dict[str, object]:
    """Medians of the whole command and of its parts, taken in turn."""
    import torch

    from wsi_anomaly.detectors import Model

    model = Model.load(model_folder)
    with open_slide(slide_file) as slide, tempfile.TemporaryDirectory() as folder:
        tissue = find_tissue(slide)
        fields = plan_fields(slide, tissue, field_um=model.tile_size * 10 / model.magnification)
        preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(slide, tissue)
        size = {"magnification": model.magnification, "tile_size": model.tile_size}
        read = [(images, status) for _, images, status in read_fields(slide, fields, **size)]
        good = [images[status == Status.OK] for images, status in read]

        def decode() -> None:
            with open_slide(slide_file) as fresh:
                for _ in read_fields(fresh, fields, **size):
                    pass

        work: dict[str, Callable[[], object]] = {
            "whole": lambda: score_to_folder(
                slide_file, model, Path(folder) / "r", ScoreOptions(heatmap=True)
            ),
            "decode": decode,
            "stain": lambda: [preprocess(images) for images in good],
            "network": lambda: [model.score_tiles(images) for images in good],
        }
        for call in work.values():  # caches and compiled code
            call()
        taken: dict[str, list[float]] = {name: [] for name in work}
        cpu: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(rounds):
            for name, call in work.items():
                before = time.process_time()
                taken[name].append(seconds(call))
                cpu[name].append(time.process_time() - before)
    longest = max(_PARTS, key=lambda name: statistics.median(taken[name]))
    ratios = [whole / part for whole, part in zip(taken["whole"], taken[longest], strict=True)]
    return {
        "fields": len(fields),
        "methods": list(model.methods),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "seconds": {name: round(statistics.median(values), 3) for name, values in taken.items()},
        "cpu_seconds": {name: round(statistics.median(values), 3) for name, values in cpu.items()},
        "longest_part": longest,
        "whole_over_longest_part": round(statistics.median(ratios), 2),
        "of_the_rounds": [round(ratio, 2) for ratio in ratios],
    }


def start(rounds: int) -> dict[str, object]:
    """Seconds that imports take in a fresh process, by the clock and of the processor."""
    imports = {
        "package": "wsi_anomaly",
        "score": "wsi_anomaly.cli.score, wsi_anomaly.overlays, wsi_anomaly.detectors",
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in imports}
    for _ in range(rounds):
        for name, modules in imports.items():
            script = (
                "import time; w, c = time.perf_counter(), time.process_time()\n"
                f"import {modules}\n"
                "print(time.perf_counter() - w, time.process_time() - c)"
            )
            command = [sys.executable, "-c", script]
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            taken[name].append([float(value) for value in out.stdout.split()])
    return {
        "load_average": round(os.getloadavg()[0], 1),
        **{
            f"{name}_{kind}": round(statistics.median(one[i] for one in values), 3)
            for name, values in taken.items()
            for i, kind in enumerate(("s", "cpu_s"))
        },
    }


class Brightness:
    """A model without a network, calibrated on made-up normal slides."""

    name, version, magnification, tile_size = "brightness", 1, 10, 64
    primary, methods, hash = "dark", ("dark",), "0" * 16

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        grid = np.divmod(np.arange(900), 30)
        slides = [
            CaseScores(f"c{i}", f"c{i}", *grid, rng.normal(0.4, 0.05, 900).astype(np.float32))
            for i in range(6)
        ]
        self.preprocessing = Preprocessing().to_dict()
        self.calibration = {"dark": Calibration.fit(slides)}
        self.seen, self.domain, self.provenance = {}, {}, {}

    def score_tiles(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Judge by darkness."""
        return {"dark": (1 - images.mean((1, 2, 3)) / 255).astype(np.float32)}

    def pixel_maps(self, images: NDArray[np.uint8]) -> None:
        """Make none."""


def large_slide(path: Path, side: int) -> Path:
    """A slide full of tissue at 0.25 um a pixel: one drawn tile over and over."""
    rng = np.random.default_rng(0)
    amount = np.kron(rng.random((_TILE // 16, _TILE // 16, 2)) * (0.8, 1.2), np.ones((16, 16, 1)))
    density = amount @ np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])  # two stains
    plain = 245 * np.exp(-density)
    plain[: _TILE // 8] = 245  # glass
    grainy = plain + rng.normal(0, 4, plain.shape)
    # The finest level is hardly read: without grain its tiles are a few kilobytes.
    finest, encoded = (
        jpeg_encode(np.clip(tile, 0, 255).astype(np.uint8), 60) for tile in (plain, grainy)
    )

    def tiles(size: int, level: int) -> Iterator[bytes]:
        count = -(-size // _TILE)
        return repeat(encoded if level else finest, count * count)

    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for level, factor in enumerate(_LEVELS):
            size = side // factor
            tif.write(
                tiles(size, level), shape=(size, size, 3), dtype=np.uint8, tile=(_TILE, _TILE),
                photometric="rgb", compression="jpeg", subfiletype=int(level > 0), metadata=None,
                resolution=(4e4 / factor, 4e4 / factor), resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


def peak_of_one(path: Path) -> None:
    """Score a slide in this process and print its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        made = score_to_folder(path, Brightness(), Path(folder) / "r", ScoreOptions(heatmap=True))
    print(json.dumps({"fields": len(made.fields), "peak_mb": round(peak_mb(), 1)}))


def memory() -> dict[str, object]:
    """Peak memory of ``score`` on a small and a large slide."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in _SIZES:
            path = large_slide(Path(folder) / f"{side}.tif", side)
            command = [sys.executable, __file__, "--one", str(path)]
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            found[side] = json.loads(out.stdout.splitlines()[-1])
            path.unlink()
    small, large = (found[side]["peak_mb"] for side in _SIZES)
    return {**{str(side): value for side, value in found.items()}, "growth": large / small - 1}


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--model", type=Path, default=Path("model"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        peak_of_one(asked.one)
    elif asked.start:
        print(json.dumps(start(asked.rounds)))
    elif asked.memory:
        print(json.dumps(memory()))
    elif asked.slide is None:
        parser.error("give a slide, --start or --memory")
    else:
        print(json.dumps(parts(asked.slide, asked.model, asked.rounds)))


if __name__ == "__main__":
    main()

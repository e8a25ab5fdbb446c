"""The whole ``score`` command against its longest unavoidable part, and how fast it starts.

    python benchmarks/scoring.py [SLIDE] [--model MODEL]
    python benchmarks/scoring.py --density
    python benchmarks/scoring.py --start

The first measures, in turn and in one process, all that the command does for a slide (report and
heatmaps included) and, alone, reading the slide's fields, normalising their stains, and the
network. A model of fields reads blocks and normalises them at once: they are one part, the
search for blur included, and the network gets the same blocks from memory. The goal is a whole of
at most 1.5 times the longest part (1.2 with a model of fields), by the processor's time as by the
clock; the ratio is the median of those of the rounds, as neighbours on the machine disturb a round
as a whole. *Rest*: the whole without its parts, processor time. Without SLIDE: the
larynx slide of the project's data, or a drawn slide; without MODEL: the shipped one. The second
does the same with ``density`` alone at 10x, the quickest network there is, on a drawn slide of
40,000 px. The third measures, in fresh processes, ``import wsi_anomaly`` (the goal is 0.5 s) and
the imports that every worker of ``score`` makes. Memory: see scale.py.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import REPOSITORY, find_slide, finish, huge_slide, parser_of
from numpy.typing import NDArray
from training import made_tiles

from wsi_anomaly.detectors import Density, DensityConfig, Model
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.features import load_features
from wsi_anomaly.features.precision import fast_precision
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.scoring.model import grid_of
from wsi_anomaly.screening import ScoreJob, score_to_folder
from wsi_anomaly.slides import Slide, TissueMap, find_tissue, open_slide
from wsi_anomaly.tiles import Preprocessing, Status, plan_fields, read_fields
from wsi_anomaly.tiles.fields import Fields
from wsi_anomaly.tiles.plane import SlidePlane
from wsi_anomaly.tiles.preprocessing import SlidePreprocessor


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def density_model() -> Model:
    """Learn ``density`` at 10x from made-up tiles: what they show does not matter to the speed."""
    network = load_features("compact").set_precision(fast_precision("cpu"))
    tiles = ArrayTiles(made_tiles(512))
    fit_missing_statistics(network, tiles, ["c3"], most=256)
    density = Density(network, DensityConfig(("c3",)))
    density.fit(tiles)
    return Model(
        name="benchmark", magnification=10, tile_size=64, preprocessing=Preprocessing().to_dict(),
        detectors={"density": density}, primary="density", seen={}, domain={}, provenance={},
    )  # fmt: skip


def parts(slide_file: Path, model: Model, rounds: int) -> dict[str, object]:
    """Medians of the whole command and of its parts, taken in turn."""
    with open_slide(slide_file) as slide, tempfile.TemporaryDirectory() as folder:
        tissue = find_tissue(slide)
        preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(slide, tissue)
        fields = plan_fields(slide, tissue, **grid_of(model, None))
        ways = of_fields if model.fields_um else of_tiles
        alone = ways(slide, tissue, preprocess, fields, model)
        work: dict[str, Callable[[], object]] = {
            "whole": lambda: score_to_folder(
                ScoreJob(slide_file, Path(folder) / "r"), model, ScoreOptions(heatmap=True)
            ),
            **alone,
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
    result: dict[str, object] = {
        "fields": len(fields),
        "methods": list(model.methods),
        "threads": torch.get_num_threads(),
        "seconds": {name: round(statistics.median(values), 3) for name, values in taken.items()},
        "cpu_seconds": {name: round(statistics.median(values), 3) for name, values in cpu.items()},
        "rest_cpu_seconds": round(
            statistics.median(
                whole - sum(parts)
                for whole, *parts in zip(cpu["whole"], *(cpu[name] for name in alone), strict=True)
            ),
            3,
        ),
    }
    for kind, values in (("", taken), ("cpu_", cpu)):
        longest = max(alone, key=lambda name: statistics.median(values[name]))
        ratios = [a / b for a, b in zip(values["whole"], values[longest], strict=True)]
        result |= {
            f"{kind}longest_part": longest,
            f"{kind}whole_over_longest_part": round(statistics.median(ratios), 2),
            f"{kind}of_the_rounds": [round(ratio, 2) for ratio in ratios],
        }
    return result


def of_tiles(
    slide: Slide, _tissue: TissueMap, preprocess: SlidePreprocessor, fields: Fields, model: Model
) -> dict[str, Callable[[], object]]:
    """The parts of a model that judges tiles one by one."""
    size = {"magnification": model.magnification, "tile_size": model.tile_size}
    read = [(images, status) for _, images, status in read_fields(slide, fields, **size)]
    good = [images[status == Status.OK] for images, status in read]

    def decode() -> None:
        with open_slide(slide.path) as fresh:
            for _ in read_fields(fresh, fields, **size):
                pass

    return {
        "decode": decode,
        "stain": lambda: [preprocess(images) for images in good],
        "network": lambda: [model.score_tiles(images) for images in good],
    }


def of_fields(
    slide: Slide, tissue: TissueMap, preprocess: SlidePreprocessor, fields: Fields, model: Model
) -> dict[str, Callable[[], object]]:
    """The parts of a model of fields, which looks at a slide block by block."""
    blocks: dict[tuple[int, ...], NDArray[np.uint8]] = {}
    plane = SlidePlane(slide, tissue, model.magnification, preprocess)
    read, maps = plane.read, model.dense_maps()

    def keep(*place: int) -> NDArray[np.uint8]:
        blocks[place] = read(*place)
        return blocks[place]

    def network() -> None:
        for part in embed_cells(plane, fields, maps, model.fields_um):
            model.score_fields(part.embeddings, part.shares)
            model.place_fields(part.embeddings)

    plane.read = keep  # type: ignore[method-assign]
    network()
    plane.read = lambda *place: blocks[place]  # type: ignore[method-assign]

    def decode() -> None:
        with open_slide(slide.path) as fresh:
            again = SlidePlane(fresh, tissue, model.magnification, preprocess)
            for place in blocks:
                again.read(*place)

    return {"decode": decode, "network": network}


def start(rounds: int) -> dict[str, object]:
    """Seconds that imports take in a fresh process, by the clock and of the processor."""
    imports = {
        "package": "wsi_anomaly",
        "score": "wsi_anomaly.cli.score, wsi_anomaly.screening, wsi_anomaly.detectors",
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
        f"{name}_{kind}": round(statistics.median(one[i] for one in values), 3)
        for name, values in taken.items()
        for i, kind in enumerate(("s", "cpu_s"))
    }


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models" / "synthetic-20x")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--density", action="store_true")
    parser.add_argument("--start", action="store_true")
    asked = parser.parse_args()
    if asked.start:
        finish(start(asked.rounds), asked.json)
        return
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.density:
            slide, model = huge_slide(folder / "drawn.tif", 40_000), density_model()
        else:
            slide, model = asked.slide or find_slide(folder), Model.load(asked.model)
        finish(parts(slide, model, asked.rounds), asked.json)


if __name__ == "__main__":
    main()

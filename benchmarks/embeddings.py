"""How fast embeddings of another program are learned from and scored.

    python benchmarks/embeddings.py [FOLDER]       # 5 GB of disk for 100 slides

A TRIDENT-like folder of 100 slides with 1e6 embeddings of 1,024 numbers, most of whose variance
lies in 128 components. Goals: ``train`` under 2 minutes and 4 GB; scoring at half the speed of the
matrix products that it needs, on the same numbers in the same run; 1e6 fields exported to Parquet
under 5 s. Times are of the clock, and of the processors, which hang less on who else uses the
machine.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from common import finish, parser_of

from wsi_anomaly.detectors import Model
from wsi_anomaly.embeddings import find_embeddings
from wsi_anomaly.results.export import export_results
from wsi_anomaly.scoring.embedded import judge

STEP, WIDTH, RANK = 512, 1024, 128


def write_slide(path: Path, seed: int, fields: int) -> None:
    """A file as TRIDENT writes it (a chunk an embedding), of random numbers."""
    rng = np.random.default_rng(seed)
    side = round(fields**0.5)
    y, x = (axis.ravel()[:fields] for axis in np.mgrid[: side + 1, :side])
    mix = np.random.default_rng(0).normal(size=(RANK, WIDTH)).astype(np.float32)
    features = rng.normal(size=(fields, RANK)).astype(np.float32) @ mix
    features += rng.normal(size=(fields, WIDTH)).astype(np.float32)
    with h5py.File(path, "w") as file:
        made = file.create_dataset("features", data=features, chunks=(1, WIDTH))
        made.attrs["encoder"] = "random"
        coords = np.stack((x, y), 1).astype(np.int64) * STEP
        placed = file.create_dataset("coords", data=coords, chunks=(1, 2))
        size = (side + 2) * STEP
        placed.attrs.update(
            {
                "patch_size": 256, "patch_size_level0": STEP, "level0_magnification": 40,
                "target_magnification": 20, "overlap": 0, "level0_width": size,
                "level0_height": size,
            }
        )  # fmt: skip


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the clock and of the processors."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return {"s": time.perf_counter() - start, "cpu_s": time.process_time() - used}


def command(*words: object) -> dict[str, float]:
    """Run a command of ours; its seconds, and the most memory that it held, GB."""
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import resource, sys; from wsi_anomaly.cli.main import main; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "s": time.perf_counter() - start,
        "cpu_s": used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gb": int(done.stdout.split()[-1]) / 1e6,
    }


def scoring(folder: Path, model_folder: Path) -> dict[str, float | str]:
    """Embeddings a second: read and scored, and the bare matrix products on the same numbers."""
    model = Model.load(model_folder)
    files = list(find_embeddings(folder).files.values())
    if model_folder.name == "knn":  # many products: a tenth of them tells as much
        files = files[:10]
    [um], detector = model.fields_um, model.detectors[model.primary]
    state = {name.removeprefix(f"{um}um."): t for name, t in detector.state_.items()}
    axes = [t for name, t in state.items() if name.endswith((".components", ".references"))]
    roots = [t for name, t in state.items() if name.endswith(".root")]
    rows = 4096
    count, spent = 0, {"bare": 0.0, "score": 0.0, "read_and_score": 0.0, "read_and_score_cpu": 0.0}
    for file in files:
        with file.open() as found:
            read = timed(lambda found=found: judge(found, model, found.pixel_size(None)))
            values = found.read(slice(0, len(found)))
        spent["read_and_score"] += read["s"]
        spent["read_and_score_cpu"] += read["cpu_s"]
        count += len(values)
        blocks = [values[i : i + rows] for i in range(0, len(values), rows)]

        def bare(blocks: list[np.ndarray] = blocks) -> None:
            for block in blocks:
                x = torch.from_numpy(block)
                made = [x @ part.T for part in axes]
                for part, root in zip(made, roots, strict=False):
                    part @ root

        def score(blocks: list[np.ndarray] = blocks) -> None:
            for block in blocks:
                model.score_fields({um: block}, np.ones(len(block), np.float32))

        with torch.inference_mode():
            spent["bare"] += timed(bare)["s"]
        spent["score"] += timed(score)["s"]
    flop = 2 * sum(a.numel() for a in axes) + 2 * sum(r.numel() for r in roots)
    return {
        "components": "+".join(str(len(a)) for a in axes),
        "flop_an_embedding": flop,
        "bare_products_per_s": count / spent["bare"],
        "scored_per_s": count / spent["score"],
        "scored_per_bare_product": spent["bare"] / spent["score"],
        "read_and_scored_per_s": count / spent["read_and_score"],
        "read_and_scored_per_cpu_s": count / spent["read_and_score_cpu"],
        "coreset": str(model.provenance.get("neighbours", "")),
    }


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, None)
    parser.add_argument("folder", type=Path, nargs="?", help="kept; else a temporary one")
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--fields", type=int, default=10_000, help="of a slide")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        here = arguments.folder or Path(temporary)
        given = here / "features_random"
        given.mkdir(parents=True, exist_ok=True)
        for number in range(arguments.slides):
            path = given / f"s{number:03}.h5"
            if not path.exists():
                write_slide(path, number, arguments.fields)
        os.chdir(here)
        (here / "one.toml").write_text('density_estimator = "mahalanobis"\n')
        (here / "knn.toml").write_text(
            'density_estimator = "knn"\n[options.density]\nreferences = 1024\n'
        )
        result: dict[str, object] = {
            "slides": arguments.slides, "embeddings": arguments.slides * arguments.fields,
        }  # fmt: skip
        for name, config in (("both", "fast"), ("mahalanobis", "one.toml"), ("knn", "knn.toml")):
            train = command("train", "--embeddings", given, "--config", config, "-o", name, "-q")
            result[name] = {"train": train, **scoring(given, here / name)}
            print(json.dumps({name: result[name]}, indent=2), file=sys.stderr)
        result["score_with_all_files"] = command(
            "score", "--embeddings", given, "--model", "both", "-o", "results", "-q"
        )
        result["export_parquet"] = timed(
            lambda: export_results(here / "results", here / "exported", "parquet")
        )
        finish(result, arguments.json)


if __name__ == "__main__":
    main()

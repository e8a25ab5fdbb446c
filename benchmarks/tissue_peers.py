"""Quality on real tissue beside anomalib, on the same embeddings and divisions.

    python benchmarks/tissue_peers.py CACHE --half choose [--json FILE]

CACHE is that of ``real_tissue.py embed``. For each slide every method learns from the same normal
fields of the other cases of its organ, and judges the same cells: ``contrast`` and ``both`` of this
program, and PatchCore's memory, PaDiM's Gaussian and DFM by anomalib 2.7's own classes, in an
environment of its own (some GB, made once). anomalib's usual networks and images are not part of
it: the features are those of ``lite0``, pooled over fields of 256 um. Differences are paired by
slide, their intervals from 10,000 resamples of the slides.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import REPOSITORY, finish, parser_of
from peer_programs.environments import PEERS, python_of
from real_tissue import auc, cases, columns, interval, mean_of, read_cache, table

from wsi_anomaly.detectors import DensityConfig
from wsi_anomaly.features import load_features

LAYERS, FIELD_UM = ("b4", "b5", "b6"), 256
PROGRAM = REPOSITORY / "benchmarks" / "peer_programs" / "embedding_ways.py"


def ours(cache: Path, half: str, estimator: str) -> dict[str, dict[str, Any]]:
    """What ``real_tissue.py table`` finds, by slide."""
    config = DensityConfig(layers=LAYERS, estimator=estimator, fields_um=(FIELD_UM,))
    found: Any = table(cache, half, config, False, (0,), load_features("lite0"))
    slides: dict[str, dict[str, Any]] = found["slides"]
    return slides


def theirs(cache: Path, judged: dict[str, dict[str, Any]], python: Path) -> dict[str, list[float]]:
    """ROC AUC of anomalib's ways, slide by slide in the order of `judged`."""
    data, chosen, field = read_cache(cache, cases()), columns(list(LAYERS)), f"um{FIELD_UM}"
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        job, scores = Path(folder, "job.npz"), Path(folder, "scores.npz")
        for case, row in judged.items():
            others = [data[other] for other in row["learned_from"]]
            normal = np.concatenate([d[field][d["label"] == 0][:, chosen] for d in others])
            np.savez(job, normal=normal, asked=data[case][field][:, chosen])
            subprocess.run([python, PROGRAM, job, scores], check=True, capture_output=True)
            with np.load(scores) as file:
                for way in file.files:
                    found.setdefault(way, []).append(auc(file[way], data[case]["label"] == 1))
    return found


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--half", choices=("choose", "untouched"), default="choose")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "wsi-peers")
    args = parser.parse_args()
    python = python_of("anomalib", args.environments)
    judged = ours(args.cache, args.half, "contrast")
    methods = {
        "contrast": [row["roc_auc"] for row in judged.values()],
        "both": [row["roc_auc"] for row in ours(args.cache, args.half, "both").values()],
        **theirs(args.cache, judged, python),
    }
    best = np.array(methods["contrast"])
    differences = {name: (best - np.array(values)).tolist() for name, values in methods.items()}
    result = {
        "half": args.half,
        "peer": PEERS["anomalib"].version,
        "slides": list(judged),
        "roc_auc": methods,
        "mean": {name: mean_of(values) for name, values in methods.items()},
        "contrast_minus": {
            name: {"mean": mean_of(values), "interval": interval(values)}
            for name, values in differences.items()
            if name != "contrast"
        },
    }
    finish(result, args.json)


if __name__ == "__main__":
    main()

"""A slide without a model, compared with what a person marks as normal on it.

    python benchmarks/marks_alone.py CACHE WHOLE --half choose [--json FILE]

CACHE and WHOLE, marks and judged cells are those of ``marks.py table``; nothing is learned from
another slide, but the tissues that `contrast` knows (never the judged slide). Mean ROC AUC over the
kinds of normal tissue: of the score without model and marks (`itself`, from the judged cells), and
of ways to take the marks as the reference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, parser_of
from marks import FIELD_UM, LAYERS, Judged, by_kind, judged_cells, kinds_file, rounds_of
from marks_ways import Array
from numpy.typing import NDArray
from real_tissue import Unseen, cases, interval, mean_of, read_cache, tissues_without

from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.detectors.contrast import Tissues
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.scoring.alone import fit_to_most

Marks = list[NDArray[np.intp]]
Way = Callable[[PerceptualNetwork, Tissues, Judged, Marks], Array]

_DIAGONAL = 0.1


def marked(network: PerceptualNetwork, tissues: Tissues, cells: Judged, marks: Marks) -> Array:
    """As where a model is at hand: learned from all marks, each kind a reference beside it."""
    model = Unseen(network, config_of("contrast"))
    model.known = {FIELD_UM: tissues}
    fields = [{FIELD_UM: torch.from_numpy(cells.embedding[mark])} for mark in marks]
    model.fit_fields({FIELD_UM: torch.cat([kind[FIELD_UM] for kind in fields])})
    found = model.of_slide(fields).score_fields({FIELD_UM: torch.from_numpy(cells.embedding)})
    return np.asarray(found.double().numpy())


def within_known(
    network: PerceptualNetwork, tissues: Tissues, cells: Judged, marks: Marks
) -> Array:
    """Nearest kind along its axes to the known tissues; what varies is that of known tissues."""
    del network
    return nearest(root_of(tissues.within), tissues, cells, marks)


def within_both(network: PerceptualNetwork, tissues: Tissues, cells: Judged, marks: Marks) -> Array:
    """Nearest kind; three tenths of what varies is what varies within the marked kinds."""
    del network
    own = np.mean([np.cov(cells.directions[mark].T) for mark in marks], 0)
    return nearest(root_of(0.7 * tissues.within + 0.3 * own), tissues, cells, marks)


def all_directions(
    network: PerceptualNetwork, tissues: Tissues, cells: Judged, marks: Marks
) -> Array:
    """Nearest kind in all directions, as the program does; what varies is that of known tissues."""
    del network
    root, at = root_of(tissues.within), cells.directions
    found = [np.linalg.norm((at - at[mark].mean(0)) @ root, axis=1) for mark in marks]
    return np.asarray(np.min(found, axis=0))


WAYS: dict[str, Way] = {
    way.__name__: way for way in (marked, within_known, within_both, all_directions)
}


def root_of(within: Array) -> Array:
    """What makes a covariance (D, D) a sphere, a tenth of it drawn to its diagonal."""
    within = within + _DIAGONAL * (np.diag(np.diag(within)) - within)
    spread, vectors = np.linalg.eigh(within)
    return np.asarray(vectors / np.sqrt(np.maximum(spread, 1e-12 * spread.max())))


def nearest(root: Array, tissues: Tissues, cells: Judged, marks: Marks) -> Array:
    """Distance from the nearest kind, along the axes from it to the known tissues."""
    found = []
    for mark in marks:
        middle = cells.directions[mark].mean(0)
        _, size, axes = np.linalg.svd((tissues.centres - middle) @ root, full_matrices=False)
        axes = axes[size > 1e-6 * size.max()] @ root.T
        found.append(np.linalg.norm((cells.directions - middle) @ axes.T, axis=1))
    return np.asarray(np.min(found, axis=0))


def config_of(estimator: str) -> DensityConfig:
    """Of the default, by another estimator."""
    return DensityConfig(layers=LAYERS, estimator=estimator, fields_um=(FIELD_UM,))


def itself(network: PerceptualNetwork, cells: Judged) -> Array:
    """Score the slide by itself, from its judged cells alone."""
    model, shares = Density(network, config_of("both")), torch.from_numpy(cells.share)
    found = {FIELD_UM: torch.from_numpy(cells.embedding)}
    fit_to_most(model, found, shares)
    return np.asarray(model.score_fields(found, shares).double().numpy())


def table(
    cache: Path, whole: Path, half: str, network: PerceptualNetwork, ways: list[str]
) -> dict[str, Any]:
    """ROC AUC by slide and way, and means over the slides of a half."""
    data, slides = read_cache(cache, cases()), dict[str, dict[str, Any]]()
    for line in cases():
        case = line["case"]
        if line["half"] != half or not kinds_file(case).exists():
            continue
        tissues = tissues_without(case, data, {}, config_of("contrast"))[FIELD_UM]
        kept = dict(np.load(whole / f"{case}.npz"))
        cells = judged_cells(case, float(line["mpp"]), kept, tissues)
        alone, found = itself(network, cells), dict[str, list[Array]]()
        for marks, judged in rounds_of(cells):
            scores = {"itself": alone}
            scores |= {name: WAYS[name](network, tissues, cells, marks) for name in ways}
            for name, score in scores.items():
                found.setdefault(name, []).append(by_kind(score, cells, judged))
            for k in range(len(marks)):
                left = marks[:k] + marks[k + 1 :]
                score = WAYS[ways[0]](network, tissues, cells, left)
                found.setdefault("forgotten", []).append(by_kind(score, cells, judged))
        slides[case] = {name: mean_of(list(np.nanmean(v, 0))) for name, v in found.items()}
        slides[case]["kinds"] = dict(
            zip(cells.kinds, np.nanmean(found[ways[0]], 0).round(3).tolist(), strict=True)
        )
        print(case, slides[case], file=sys.stderr, flush=True)
    names = [name for name in next(iter(slides.values())) if name != "kinds"]
    by_way = {name: [row[name] for row in slides.values()] for name in names}
    mean = {name: {"mean": mean_of(v), "interval": interval(v)} for name, v in by_way.items()}
    return {"half": half, "mean": mean, "slides": slides}


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("folders", type=Path, nargs=2, help="CACHE WHOLE")
    parser.add_argument("--half", choices=("choose", "untouched"), default="choose")
    parser.add_argument(
        "--ways", default=",".join(WAYS), help="the first with its kinds, and with one forgotten"
    )
    args = parser.parse_args()
    network = load_features("lite0")
    finish(table(*args.folders, args.half, network, args.ways.split(",")), args.json)


if __name__ == "__main__":
    main()

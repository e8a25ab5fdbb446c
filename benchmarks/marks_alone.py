"""A slide without a model, compared with what a person marks as normal on it.

    python benchmarks/marks_alone.py CACHE WHOLE --half choose [--json FILE]

CACHE and WHOLE, marks and judged cells are those of ``marks.py table``; nothing is learned from
another slide, but the tissues that `contrast` knows (never the judged slide). Mean ROC AUC over the
kinds of normal tissue: of the score without model and marks (`itself`, from the judged cells), and
of ways to take the marks as the reference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, parser_of
from marks import (
    FIELD_UM,
    LAYERS,
    Judged,
    by_kind,
    judged_cells,
    kinds_file,
    rounds_of,
)
from marks_ways import Array
from numpy.typing import NDArray
from real_tissue import Unseen, cases, interval, mean_of, read_cache, tissues_without

from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.detectors.contrast import Tissues
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.scoring.alone import fit_to_most

Marks = list[NDArray[np.intp]]
Known = Mapping[int, Tissues]
Cells = Mapping[int, Judged]  # by size of the field, um
Way = Callable[[PerceptualNetwork, Known, Cells, Marks], Array]

_DIAGONAL = 0.1


def marked(network: PerceptualNetwork, known: Known, cells: Cells, marks: Marks) -> Array:
    """As the program does: learned from all marks, each kind a reference beside it."""
    model = Unseen(network, config_of("contrast", *cells))
    model.known = known
    fields = [
        {um: torch.from_numpy(some.embedding[mark]) for um, some in cells.items()} for mark in marks
    ]
    model.fit_fields({um: torch.cat([kind[um] for kind in fields]) for um in cells})
    found = {um: torch.from_numpy(some.embedding) for um, some in cells.items()}
    return np.asarray(model.of_slide(fields).score_fields(found).double().numpy())


def within_known(network: PerceptualNetwork, known: Known, cells: Cells, marks: Marks) -> Array:
    """Nearest kind along its axes to the known tissues; what varies is that of known tissues."""
    del network
    return nearest(root_of(known[FIELD_UM].within), known[FIELD_UM], cells[FIELD_UM], marks)


def within_both(network: PerceptualNetwork, known: Known, cells: Cells, marks: Marks) -> Array:
    """Nearest kind; three tenths of what varies is what varies within the marked kinds."""
    del network
    own = np.mean([np.cov(cells[FIELD_UM].directions[mark].T) for mark in marks], 0)
    root = root_of(0.7 * known[FIELD_UM].within + 0.3 * own)
    return nearest(root, known[FIELD_UM], cells[FIELD_UM], marks)


def all_directions(network: PerceptualNetwork, known: Known, cells: Cells, marks: Marks) -> Array:
    """Nearest kind in all directions; what varies is that of known tissues."""
    del network
    root, at = root_of(known[FIELD_UM].within), cells[FIELD_UM].directions
    found = [np.linalg.norm((at - at[m].mean(0)) @ root, axis=1) for m in marks]
    return np.asarray(np.min(found, axis=0))


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


WAYS: dict[str, Way] = {
    way.__name__: way for way in (marked, within_known, within_both, all_directions)
}


def config_of(estimator: str, *fields_um: int) -> DensityConfig:
    """Of the default, by another estimator or in other fields."""
    return DensityConfig(layers=LAYERS, estimator=estimator, fields_um=fields_um or (FIELD_UM,))


def itself(network: PerceptualNetwork, cells: Judged) -> Array:
    """Score the slide by itself, from its judged cells alone."""
    model, shares = Density(network, config_of("both")), torch.from_numpy(cells.share)
    found = {FIELD_UM: torch.from_numpy(cells.embedding)}
    fit_to_most(model, found, shares)
    return np.asarray(model.score_fields(found, shares).double().numpy())


def table(
    cache: Path, whole: Path, half: str, network: PerceptualNetwork, ways: list[str],
    fields_um: list[int],
) -> dict[str, Any]:  # fmt: skip
    """ROC AUC by slide and way, and means over the slides of a half."""
    data, slides = read_cache(cache, cases()), dict[str, dict[str, float]]()
    for line in cases():
        case = line["case"]
        if line["half"] != half or not kinds_file(case).exists():
            continue
        known = tissues_without(case, data, {}, config_of("contrast", FIELD_UM, *fields_um))
        kept, mpp = dict(np.load(whole / f"{case}.npz")), float(line["mpp"])
        cells = {um: judged_cells(case, mpp, kept, of, um) for um, of in known.items()}
        first = cells[FIELD_UM]
        alone, found = itself(network, first), dict[str, list[float]]()
        for marks, judged in rounds_of(first):
            scores = {"itself": alone}
            for name in ways:
                seen = {um: cells[um] for um in (fields_um if name == "marked" else (FIELD_UM,))}
                scores[name] = WAYS[name](network, known, seen, marks)
            for name, score in scores.items():
                found.setdefault(name, []).append(float(np.nanmean(by_kind(score, first, judged))))
        slides[case] = {name: mean_of(values) for name, values in found.items()}
        print(case, slides[case], file=sys.stderr, flush=True)
    by_way = {name: [row[name] for row in slides.values()] for name in ("itself", *ways)}
    mean = {name: {"mean": mean_of(v), "interval": interval(v)} for name, v in by_way.items()}
    return {"half": half, "fields_um": fields_um, "mean": mean, "slides": slides}


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("folders", type=Path, nargs=2, help="CACHE WHOLE")
    parser.add_argument("--half", choices=("choose", "untouched"), default="choose")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--fields", default=str(FIELD_UM), help="of the way marked: 128, 256, both")
    args = parser.parse_args()
    network, fields_um = load_features("lite0"), [int(um) for um in args.fields.split(",")]
    found = table(*args.folders, args.half, network, args.ways.split(","), fields_um)
    finish(found, args.json)


if __name__ == "__main__":
    main()

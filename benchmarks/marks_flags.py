"""What is flagged on a slide with and without marks of its normal tissue, as other cases decide.

    python benchmarks/marks_flags.py CACHE WHOLE [--json FILE]

CACHE and WHOLE are those of ``marks.py``. Of an organ with three cases or more each is judged, each
other one in turn says where flags begin (the 0.99 quantile of the scores of all its normal tissue),
and the model learns from the normal outlines of those left, as ``train`` does with its calibration
cases. The judged and the calibrating slide are not among the tissues that ``contrast`` knows. Marks
and judged cells are those of ``marks.py table``. Given are the shares of normal cells (each kind of
the same weight) and of lesion cells that are flagged, and the regions of flagged normal cells a
mm2. Nothing is chosen by it: both halves are read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, parser_of
from marks import (
    CELL_UM,
    FIELD_UM,
    LAYERS,
    LEAST_JUDGED,
    Judged,
    judged_cells,
    kinds_file,
    learned_from,
    rounds_of,
)
from marks_ways import Learned, nearest, today
from numpy.typing import NDArray
from real_tissue import Data, Unseen, cases, columns, interval, mean_of, read_cache, tissues_without
from scipy import ndimage

from wsi_anomaly.detectors import DensityConfig
from wsi_anomaly.features import PerceptualNetwork, load_features

QUANTILE = 0.99
LEAST_CASES = 3
FIGURES = ("normal", "lesion", "regions_mm2")


def flags(cache: Path, whole: Path, network: PerceptualNetwork) -> dict[str, Any]:
    """Shares of normal and lesion cells that are flagged, by slide and in the mean over slides."""
    data = read_cache(cache, cases())
    lines = {c["case"]: c for c in cases() if c["case"] in data and kinds_file(c["case"]).exists()}
    slides = {}
    for case, line in lines.items():
        others = [c for c, o in lines.items() if o["organ"] == line["organ"] and c != case]
        if len(others) + 1 < LEAST_CASES:
            continue
        found = [
            judged_with(case, calibrating, others, data, lines, whole, network)
            for calibrating in others
        ]
        slides[case] = {
            way: {name: mean_of([row[way][name] for row in found]) for name in FIGURES}
            for way in found[0]
        }
        print(case, slides[case], file=sys.stderr, flush=True)
    mean = {
        way: {
            name: {"mean": mean_of(values), "interval": interval(values)}
            for name in FIGURES
            if (values := [row[way][name] for row in slides.values()])
        }
        for way in ("unmarked", "marked", "forgotten")
    }
    return {"quantile": QUANTILE, "mean": mean, "slides": slides}


def judged_with(
    case: str, calibrating: str, others: list[str], data: dict[str, Data],
    lines: dict[str, dict[str, str]], whole: Path, network: PerceptualNetwork,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Figures of a slide where another one says where flags begin."""
    config = DensityConfig(layers=LAYERS, estimator="contrast", fields_um=(FIELD_UM,))
    model = Unseen(network, config)
    left = {c: d for c, d in data.items() if c != calibrating}
    model.known = tissues_without(case, left, {}, config)
    tissues = model.known[FIELD_UM]
    chosen = columns(list(LAYERS))
    normal = [(data[c], data[c]["label"] == 0) for c in others if c != calibrating]
    joined = {
        "um256": np.concatenate([d["um256"][is_normal][:, chosen] for d, is_normal in normal]),
        "share": np.concatenate([d["share"][is_normal] for d, is_normal in normal]),
    }
    learned = learned_from(model, joined, tissues)
    first, cells = (
        judged_cells(c, float(lines[c]["mpp"]), dict(np.load(whole / f"{c}.npz")), tissues)
        for c in (calibrating, case)
    )
    usual = learned.score(today(learned, first.directions, []), first.share)[first.kind >= 0]
    return slide_flags(learned, cells, float(np.quantile(usual, QUANTILE)))


def slide_flags(learned: Learned, cells: Judged, threshold: float) -> dict[str, dict[str, float]]:
    """Figures of a slide's cells above a threshold, means over the places of the marks."""
    found: dict[str, list[tuple[float, ...]]] = {"unmarked": [], "marked": [], "forgotten": []}
    for marks, judged in rounds_of(cells):
        known = [cells.directions[mark] for mark in marks]
        sets = {"unmarked": [[]], "marked": [known]}
        sets["forgotten"] = [known[:k] + known[k + 1 :] for k in range(len(known))]
        for name, references in sets.items():
            for those in references:
                distance = nearest(learned, cells.directions, those)
                flagged = (learned.score(distance, cells.share) > threshold) & judged
                found[name].append(figures_of(cells, judged, flagged))
    return {
        name: dict(zip(FIGURES, np.nanmean(rows, 0).tolist(), strict=True))
        for name, rows in found.items()
    }


def figures_of(
    cells: Judged, judged: NDArray[np.bool_], flagged: NDArray[np.bool_]
) -> tuple[float, ...]:
    """Flagged shares of normal (mean over kinds) and lesion cells; normal regions a mm2."""
    of_kinds = [judged & (cells.kind == k) for k in range(len(cells.kinds))]
    shares = [flagged[of].mean() for of in of_kinds if of.sum() >= LEAST_JUDGED]
    normal = judged & (cells.kind >= 0)
    grid = np.zeros(cells.at.max(0) + 1, bool)
    grid[tuple(cells.at[flagged & normal].T)] = True
    regions = ndimage.label(grid)[1] / (normal.sum() * (CELL_UM / 1000) ** 2)
    return float(np.mean(shares)), float(flagged[judged & (cells.kind < 0)].mean()), float(regions)


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("folders", type=Path, nargs=2, help="CACHE WHOLE")
    args = parser.parse_args()
    finish(flags(*args.folders, load_features("lite0")), args.json)


if __name__ == "__main__":
    main()

"""Lesion against normal tissue on whole slides of the Pathology Atlas, cases apart.

    git clone https://github.com/pathologyatlas/CASE CLONES/CASE   # for each of atlas/cases.csv
    python benchmarks/real_tissue.py embed CLONES CACHE
    python benchmarks/real_tissue.py table CACHE --half choose

`embed` reads the outlined cells of every case (benchmarks/atlas) through the program's own
functions and keeps their embeddings; it computes no score. `table` learns, for each slide, from the
normal outlines of the other cases of its organ and gives the ROC AUC of its lesion cells against
its normal cells, with the controls on the same fields: darkness, share of glass, mean colour,
random features. `--half untouched` is for reading, not for choosing.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import shapely
import torch
from common import REPOSITORY, finish, parser_of
from numpy.typing import NDArray

from wsi_anomaly.annotations import read_outlines
from wsi_anomaly.core.ranking import roc_auc
from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.features import load_features
from wsi_anomaly.features.broad import broad_tiles
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import TileConfig, plan_fields
from wsi_anomaly.tiles.plane import SlidePlane

ATLAS = REPOSITORY / "benchmarks" / "atlas"
LAYERS = {"b3": 40, "b4": 80, "b5": 112, "b6": 192}
SIZES = (64, 128, 256)
MOST_CELLS = 6000  # of a class and slide


def cases() -> list[dict[str, str]]:
    """Lines of cases.csv."""
    with open(ATLAS / "cases.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def labels_of(case: str, centres: NDArray[np.float64]) -> NDArray[np.int8]:
    """1 in a lesion, 0 in normal tissue, -1 elsewhere; centres (N, 2) in level-0 pixels."""
    label = np.full(len(centres), -1, np.int8)
    points = shapely.points(centres)
    for outline in read_outlines(ATLAS / "outlines" / f"{case}.geojson"):
        label[shapely.contains(outline.polygon, points)] = int(outline.label == "Lesion")
    return label


def embed(clones: Path, cache: Path, factor: float, random: bool) -> None:
    """Keep embeddings, colours and labels of the outlined cells of every case."""
    cache.mkdir(parents=True, exist_ok=True)
    network = load_features("lite0", random_seed=0 if random else None)
    if random:
        network.fit_statistics(broad_tiles(), list(LAYERS))
    maps = DenseMaps(network, list(LAYERS))
    preprocessing = TileConfig().preprocessing
    for line in cases():
        case, target = line["case"], cache / f"{line['case']}.npz"
        if target.exists() or not (clones / case / "HE.dzi").exists():
            continue
        with open_slide(clones / case / "HE.dzi", mpp=float(line["mpp"]) * factor) as slide:
            tissue = find_tissue(slide)
            cells = plan_fields(slide, tissue, field_um=64.0, min_tissue=0.1)
            label = labels_of(case, cells.coords + np.array(cells.stride_level0) / 2)
            wanted = np.zeros(len(cells), bool)
            for kind in (0, 1):
                of_kind = np.flatnonzero(label == kind)
                order = np.random.default_rng(0).permutation(len(of_kind))
                wanted[of_kind[order[:MOST_CELLS]]] = True
            plane = SlidePlane(slide, tissue, 10, preprocessing.for_slide(slide, tissue))
            found: dict[int, list[NDArray[np.float32]]] = {um: [] for um in SIZES}
            at, shares = [], []
            for part in embed_cells(plane, cells, maps, SIZES, wanted=wanted):
                at.append(part.indices)
                shares.append(part.shares)
                for um, values in part.embeddings.items():
                    found[um].append(values)
            index = np.concatenate(at)
            colours = np.stack(
                [colour_of(plane, int(cells.row[i]), int(cells.col[i])) for i in index]
            )
        np.savez(
            target, label=label[index], share=np.concatenate(shares), colour=colours,
            **{f"um{um}": np.concatenate(parts) for um, parts in found.items()},
        )  # fmt: skip
        print(
            case, {k: int((label[index] == k).sum()) for k in (0, 1)}, file=sys.stderr, flush=True
        )


def colour_of(plane: SlidePlane, row: int, col: int, um: int = 256) -> NDArray[np.float64]:
    """Mean colour (3,) of the field round a cell, glass included."""
    top, left = row * 64 + 32 - um // 2, col * 64 + 32 - um // 2
    bottom, right = min(top + um, plane.height), min(left + um, plane.width)
    top, left = max(top, 0), max(left, 0)
    return plane.read(left, top, right - left, bottom - top).mean((0, 1))


def columns(layers: list[str]) -> NDArray[np.intp]:
    """Places of these layers in a kept embedding."""
    ends = np.cumsum(list(LAYERS.values()))
    starts = dict(zip(LAYERS, ends - list(LAYERS.values()), strict=True))
    return np.concatenate([np.arange(starts[n], starts[n] + LAYERS[n]) for n in layers])


def learned(embeddings: list[dict[int, NDArray[np.float32]]], config: DensityConfig) -> Density:
    """Learn from the normal cells of several slides."""
    joined = {
        um: torch.from_numpy(np.concatenate([e[um] for e in embeddings])) for um in config.fields_um
    }
    return Density(load_features("lite0"), config).fit_fields(joined)


def table(cache: Path, half: str, config: DensityConfig) -> dict[str, object]:
    """ROC AUC by slide, with its controls; means by slide and by organ."""
    kept = {line["case"]: line for line in cases() if (cache / f"{line['case']}.npz").exists()}
    data = {case: dict(np.load(cache / f"{case}.npz")) for case in kept}
    chosen = columns(list(config.layers))
    rows = {}
    for case, line in kept.items():
        others = [
            c for c, o in kept.items()
            if o["organ"] == line["organ"] and c != case and half in ("untouched", o["half"])
        ]  # fmt: skip
        if line["half"] != half or not others:
            continue
        normal = [{key: v[data[c]["label"] == 0] for key, v in data[c].items()} for c in others]
        model = learned(
            [{um: d[f"um{um}"][:, chosen] for um in config.fields_um} for d in normal], config
        )
        own = data[case]
        score = model.score_fields(
            {um: torch.from_numpy(own[f"um{um}"][:, chosen]) for um in config.fields_um}
        ).numpy()
        lesion = own["label"] == 1
        mean = np.concatenate([d["colour"] for d in normal])
        odd = (((own["colour"] - mean.mean(0)) / mean.std(0)) ** 2).sum(1)
        rows[case] = {
            "organ": line["organ"], "sure": line["sure"], "learned_from": others,
            "normal_cells": int((~lesion).sum()), "lesion_cells": int(lesion.sum()),
            "roc_auc": auc(score, lesion),
            "darkness": auc(-own["colour"].mean(1), lesion),
            "glass": auc(-own["share"], lesion),
            "mean_colour": auc(odd, lesion),
        }  # fmt: skip
    organs: dict[str, list[float]] = {}
    for row in rows.values():
        organs.setdefault(row["organ"], []).append(row["roc_auc"])
    figures = ("roc_auc", "darkness", "glass", "mean_colour")
    return {
        "half": half,
        "config": config.to_dict(),
        "slides": rows,
        "mean": {name: mean_of([row[name] for row in rows.values()]) for name in figures},
        "by_organ": {organ: mean_of(values) for organ, values in organs.items()},
    }


def mean_of(values: list[float]) -> float:
    """To three digits."""
    return round(float(np.mean(values)), 3)


def auc(score: NDArray[np.floating], lesion: NDArray[np.bool_]) -> float:
    """ROC AUC of lesion cells against normal cells."""
    return round(roc_auc(score[~lesion], score[lesion]), 3)


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("what", choices=("embed", "table"))
    parser.add_argument("folders", type=Path, nargs="+", help="CLONES CACHE, or CACHE")
    parser.add_argument(
        "--mpp-factor", type=float, default=1.0, help="0.8, 1.25: other pixel sizes"
    )
    parser.add_argument("--random", action="store_true", help="the network with random weights")
    parser.add_argument("--half", choices=("choose", "untouched"), default="choose")
    parser.add_argument("--layers", default="b4,b5,b6")
    parser.add_argument("--fields", default="256")
    parser.add_argument("--estimator", default="both")
    args = parser.parse_args()
    if args.what == "embed":
        embed(args.folders[0], args.folders[1], args.mpp_factor, args.random)
        return
    config = DensityConfig(
        layers=tuple(args.layers.split(",")),
        estimator=args.estimator,
        fields_um=tuple(int(um) for um in args.fields.split(",")),
    )
    finish(table(args.folders[0], args.half, config), args.json)


if __name__ == "__main__":
    main()

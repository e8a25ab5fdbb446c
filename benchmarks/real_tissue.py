"""Lesion against normal tissue on whole slides of the Pathology Atlas, cases apart.

    git clone https://github.com/pathologyatlas/CASE CLONES/CASE   # for each of atlas/*.csv
    python benchmarks/real_tissue.py embed CLONES CACHE
    python benchmarks/real_tissue.py table CACHE --half choose
    python benchmarks/real_tissue.py tissues CACHE -o models/lite0-tissues.safetensors

`embed` reads the outlined cells of every case (benchmarks/atlas), and some regions of those without
outlines, through the program's own functions and keeps their embeddings; it computes no score.
`table` learns, for each slide, from the normal outlines of the other cases of its organ and gives
the ROC AUC of its lesion cells against its normal cells, with the controls on the same fields:
darkness, share of glass, mean colour, random features. `--half untouched` is for reading, not for
choosing. `tissues` summarises the normal outlines of the half `choose` for the estimator
`contrast`; `table` does the same without the slide that it judges. `--whole` adds the slides
without outlines to both.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from common import REPOSITORY, finish, parser_of
from numpy.typing import NDArray

from wsi_anomaly.annotations import read_outlines
from wsi_anomaly.core.ranking import roc_auc
from wsi_anomaly.core.tensors import save_tensors
from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.detectors.contrast import TENSORS, Tissues, tissues_of, weights_of
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.broad import broad_tiles
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring.alone import fit_to_most
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Fields, Status, TileConfig, plan_fields
from wsi_anomaly.tiles.plane import SlidePlane

ATLAS = REPOSITORY / "benchmarks" / "atlas"
LAYERS = {"b3": 40, "b4": 80, "b5": 112, "b6": 192}
SIZES = (64, 128, 256)
MOST_CELLS = 6000  # of a class and slide
REGION, REGIONS = 16, 8  # cells a side; of a slide without outlines

EXAMPLE = "tubularadenoma-flat"  # no part of what ships: the project's example is cut from it

Data = dict[str, NDArray[Any]]


def cases(name: str = "cases") -> list[dict[str, str]]:
    """Lines of cases.csv, or of without_outlines.csv."""
    with open(ATLAS / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def wanted_cells(case: str, cells: Fields) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Which cells are embedded, and the label of every cell."""
    wanted = np.zeros(len(cells), bool)
    if not (ATLAS / "outlines" / f"{case}.geojson").exists():
        region = cells.row // REGION * 10_000 + cells.col // REGION
        good = cells.status == Status.OK
        names, count = np.unique(region[good], return_counts=True)
        drawn = np.random.default_rng(0).permutation(names[count >= 100])[:REGIONS]
        return np.isin(region, drawn) & good, np.full(len(cells), -1, np.int8)
    label = labels_of(case, cells.coords + np.array(cells.stride_level0) / 2)
    for kind in (0, 1):
        of_kind = np.flatnonzero(label == kind)
        order = np.random.default_rng(0).permutation(len(of_kind))
        wanted[of_kind[order[:MOST_CELLS]]] = True
    return wanted, label


def labels_of(case: str, centres: NDArray[np.float64]) -> NDArray[np.int8]:
    """1 in a lesion, 0 in normal tissue, -1 elsewhere; centres (N, 2) in level-0 pixels."""
    label = np.full(len(centres), -1, np.int8)
    points = shapely.points(centres)
    for outline in read_outlines(ATLAS / "outlines" / f"{case}.geojson"):
        label[shapely.contains(outline.polygon, points)] = int(outline.label == "Lesion")
    return label


def embed(clones: Path, cache: Path, factor: float, network: PerceptualNetwork) -> None:
    """Keep embeddings, colours and labels of the outlined cells of every case."""
    cache.mkdir(parents=True, exist_ok=True)
    maps = DenseMaps(network, list(LAYERS))
    preprocessing = TileConfig().preprocessing
    for line in (*cases(), *cases("without_outlines")):
        case, target = line["case"], cache / f"{line['case']}.npz"
        if target.exists() or not (clones / case / "HE.dzi").exists():
            continue
        with open_slide(clones / case / "HE.dzi", mpp=float(line["mpp"]) * factor) as slide:
            tissue = find_tissue(slide)
            cells = plan_fields(slide, tissue, field_um=64.0, min_tissue=0.1)
            wanted, label = wanted_cells(case, cells)
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


class Unseen(Density):
    """``density`` that knows given tissues, not those that ship."""

    known: Mapping[int, Tissues]

    def tissues(self, um: int) -> Tissues:
        return self.known[um]


def read_cache(cache: Path, lines: list[dict[str, str]]) -> dict[str, Data]:
    """Kept embeddings by case, of those that were embedded."""
    paths = {line["case"]: cache / f"{line['case']}.npz" for line in lines}
    return {case: dict(np.load(path)) for case, path in paths.items() if path.exists()}


def known_cases() -> set[str]:
    """Outlined cases whose normal tissue is known to `contrast`."""
    return {line["case"] for line in cases() if line["half"] == "choose"} - {EXAMPLE}


def tissues_without(
    case: str, data: Mapping[str, Data], others: Mapping[str, Data], config: DensityConfig,
    kinds: tuple[int, ...] = (0,),
) -> dict[int, Tissues]:  # fmt: skip
    """What other slides know of tissues, by size of field: never those of the untouched half.

    `kinds` says whether normal tissue alone (0) is known, or lesions (1) as well, each for itself.
    """
    chosen = columns(list(config.layers))
    known = [d for c, d in data.items() if c in known_cases() - {case}]
    return {
        um: tissues_of(
            [d[f"um{um}"][d["label"] == kind][:, chosen] for kind in kinds for d in known]
            + [d[f"um{um}"][:, chosen] for d in others.values()]
        )
        for um in config.fields_um
    }


def write_tissues(
    cache: Path, config: DensityConfig, whole: bool, kinds: tuple[int, ...], output: Path,
    network: PerceptualNetwork,
) -> dict[str, object]:  # fmt: skip
    """Write what ships of the tissues; says which slides they are."""
    data = read_cache(cache, cases())
    others = read_cache(cache, cases("without_outlines")) if whole else {}
    (um,) = config.fields_um
    found = tissues_without("", data, others, config, kinds)[um]
    slides = [*(case for case in data if case in known_cases()), *others]
    tensors = {name: torch.from_numpy(getattr(found, name)).half() for name in TENSORS}
    made = {
        "network": network.name, "weights": weights_of(network, config.layers),
        "layers": list(config.layers), "field_um": um, "slides": slides,
    }  # fmt: skip
    save_tensors(output, tensors, made)
    return {"output": str(output), "slides": slides}


def table(
    cache: Path, half: str, config: DensityConfig, whole: bool, kinds: tuple[int, ...],
    network: PerceptualNetwork, judge: Path | None = None, alone: bool = False,
) -> dict[str, object]:  # fmt: skip
    """ROC AUC by slide, with its controls; means by slide and by organ."""
    data = read_cache(cache, cases())
    at_hand = data if judge is None else read_cache(judge, cases())
    beside = read_cache(cache, cases("without_outlines")) if whole else {}
    kept = {line["case"]: line for line in cases() if line["case"] in data}
    chosen = columns(list(config.layers))
    rows = {}
    for case, line in kept.items():
        others = [
            c for c, o in kept.items()
            if o["organ"] == line["organ"] and c != case and half in ("untouched", o["half"])
        ]  # fmt: skip
        if line["half"] != half or not others or case not in at_hand:
            continue
        own = at_hand[case]
        normal = [{key: v[data[c]["label"] == 0] for key, v in data[c].items()} for c in others]
        joined = {
            um: torch.from_numpy(np.concatenate([d[f"um{um}"][:, chosen] for d in normal]))
            for um in config.fields_um
        }
        model = Unseen(network, config)
        if "contrast" in config.estimator:
            model.known = tissues_without(case, data, beside, config, kinds)
        if alone:
            fit_to_most(model, fields_of(own, chosen, config), torch.from_numpy(own["share"]))
        else:
            shares = np.concatenate([d["share"] for d in normal])
            model.fit_fields(joined, torch.from_numpy(shares))
        rows[case] = {
            "organ": line["organ"], "sure": line["sure"], "learned_from": others,
            **judged(model, own, chosen, np.concatenate([d["colour"] for d in normal])),
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
        "interval": {name: interval([row[name] for row in rows.values()]) for name in figures},
        "by_organ": {organ: mean_of(values) for organ, values in organs.items()},
    }


def judged(
    model: Density, own: Data, chosen: NDArray[np.intp], colours: NDArray[np.float64]
) -> dict[str, Any]:
    """Figures of a slide; `colours` (n, 3) are those of the normal fields learned from."""
    score = model.score_fields(
        fields_of(own, chosen, model.config), torch.from_numpy(own["share"])
    ).numpy()
    lesion = own["label"] == 1
    odd = (((own["colour"] - colours.mean(0)) / colours.std(0)) ** 2).sum(1)
    return {
        "normal_cells": int((~lesion).sum()),
        "lesion_cells": int(lesion.sum()),
        "roc_auc": auc(score, lesion),
        "darkness": auc(-own["colour"].mean(1), lesion),
        "glass": auc(-own["share"], lesion),
        "mean_colour": auc(odd, lesion),
    }


def fields_of(
    own: Data, chosen: NDArray[np.intp], config: DensityConfig
) -> dict[int, torch.Tensor]:
    """Embeddings of a slide's cells by size of field."""
    return {um: torch.from_numpy(own[f"um{um}"][:, chosen]) for um in config.fields_um}


def interval(values: list[float]) -> list[float]:
    """95% interval of the mean from 10,000 resamples of the slides."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    return [round(float(q), 3) for q in np.quantile(drawn.mean(1), (0.025, 0.975))]


def mean_of(values: list[float]) -> float:
    """To three digits."""
    return round(float(np.mean(values)), 3)


def auc(score: NDArray[np.floating], lesion: NDArray[np.bool_]) -> float:
    """ROC AUC of lesion cells against normal cells."""
    return round(roc_auc(score[~lesion], score[lesion]), 3)


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("what", choices=("embed", "table", "tissues"))
    parser.add_argument("folders", type=Path, nargs="+", help="CLONES CACHE, or CACHE")
    parser.add_argument(
        "--mpp-factor", type=float, default=1.0, help="0.8, 1.25: other pixel sizes"
    )
    parser.add_argument("--feature-weights", type=Path, help="of lite0, in place of the usual ones")
    parser.add_argument("--random", action="store_true", help="the network with random weights")
    parser.add_argument("--half", choices=("choose", "untouched"), default="choose")
    parser.add_argument("--layers", default="b4,b5,b6")
    parser.add_argument("--fields", default="256")
    parser.add_argument("--estimator", default="contrast")
    parser.add_argument("--whole", action="store_true", help="slides without outlines as well")
    parser.add_argument("--judge", type=Path, help="CACHE of the judged slides: other pixel sizes")
    parser.add_argument(
        "--alone", action="store_true", help="each slide's outlined cells are their own reference"
    )
    parser.add_argument("--lesions", action="store_true", help="known tissues: lesions as well")
    parser.add_argument("-o", "--output", type=Path, help="file of tissues to write")
    args = parser.parse_args()
    seed = 0 if args.random else None
    network = load_features("lite0", weights=args.feature_weights, random_seed=seed)
    if args.what == "embed":
        if args.random:
            network.fit_statistics(broad_tiles(), list(LAYERS))
        embed(args.folders[0], args.folders[1], args.mpp_factor, network)
        return
    config = DensityConfig(
        layers=tuple(args.layers.split(",")),
        estimator=args.estimator,
        fields_um=tuple(int(um) for um in args.fields.split(",")),
    )
    kinds = (0, 1) if args.lesions else (0,)
    if args.what == "tissues":
        made = write_tissues(args.folders[0], config, args.whole, kinds, args.output, network)
        finish(made, args.json)
        return
    found = table(
        args.folders[0], args.half, config, args.whole, kinds, network, args.judge, args.alone
    )
    finish(found, args.json)


if __name__ == "__main__":
    main()

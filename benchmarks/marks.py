"""Normal tissue of every kind marked on the slide itself, each kind a reference of its own.

    python benchmarks/marks.py embed CLONES WHOLE
    python benchmarks/marks.py table CACHE WHOLE --half choose [--json FILE]
    python benchmarks/marks.py example SLIDES WHOLE

CACHE is that of ``real_tissue.py embed``, WHOLE keeps the embeddings of the outlined cells of the
slides of ``atlas/kinds``, and of every cell of the example's slides. For each slide the model
learns as in ``real_tissue.py table``. A little of each kind of normal tissue is then marked, PLACES
times at random: `MARKED` cells next to each other in one outline. Judged is the lesion against all
normal tissue that lies a field's width or more from any mark: the mean ROC AUC over the kinds, each
with the same weight. ``forgotten`` leaves the marks of one kind out, each in turn, and judges all
kinds; ``half untouched`` is for reading, not for choosing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from common import finish, parser_of
from marks_ways import WAYS, Array, Learned, Way, today
from numpy.typing import NDArray
from real_tissue import (
    ATLAS,
    EXAMPLE,
    Data,
    Unseen,
    auc,
    cases,
    columns,
    interval,
    labels_of,
    mean_of,
    read_cache,
    tissues_without,
)  # fmt: skip
from shapely import affinity

from wsi_anomaly.annotations import read_outlines
from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.detectors.contrast import Tissues
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import TileConfig, plan_fields
from wsi_anomaly.tiles.plane import SlidePlane

LAYERS, FIELD_UM, CELL_UM = ("b4", "b5", "b6"), 256, 64
MARKED, PLACES = 16, 10  # cells of 64 um: 0.066 mm2
CUT_AT, CUT_MPP = 6144, 0.4  # where the example begins on its slide, px from the left
LEAST_MARKED, LEAST_JUDGED, LEAST_SHARE = 6, 5, 0.1


@dataclass(frozen=True, eq=False)
class Judged:
    """Cells of a slide that are lesion, or normal tissue of some kind.

    Attributes
    ----------
    embedding, directions
        (N, D) as kept, and standardised, of unit length.
    share, place, kind
        (N,) share of tissue, number of the outline, and of its kind; lesion: -1.
    at
        (N, 2) row and column.
    kinds
        Names of the kinds.
    """

    embedding: NDArray[np.float32]
    directions: Array
    share: NDArray[np.floating]
    place: NDArray[np.intp]
    kind: NDArray[np.intp]
    at: NDArray[np.intp]
    kinds: list[str]


def embed(clones: Path, whole: Path, network: PerceptualNetwork) -> None:
    """Keep the embeddings of the outlined cells of the slides whose kinds are outlined."""
    for line in cases():
        if kinds_file(line["case"]).exists():
            path = clones / line["case"] / "HE.dzi"
            embed_slide(
                path, whole / f"{line['case']}.npz", network, float(line["mpp"]), line["case"]
            )


def embed_slide(
    path: Path, target: Path, network: PerceptualNetwork, mpp: float | None = None,
    case: str | None = None,
) -> None:  # fmt: skip
    """Keep embeddings of all cells, or a case's outlined ones, in `target`, unless it exists."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    maps = DenseMaps(network, list(LAYERS))
    with open_slide(path, mpp=mpp) as slide:
        tissue = find_tissue(slide)
        cells = plan_fields(slide, tissue, field_um=float(CELL_UM), min_tissue=LEAST_SHARE)
        preprocess = TileConfig().preprocessing.for_slide(slide, tissue)
        plane = SlidePlane(slide, tissue, 10, preprocess)
        wanted = None
        if case is not None:
            _, kind, lesion = outlined(case, cells.coords + np.array(cells.stride_level0) / 2)
            wanted = (kind >= 0) | lesion
        parts = list(embed_cells(plane, cells, maps, (FIELD_UM,), wanted=wanted))
    index = np.concatenate([part.indices for part in parts])
    np.savez(
        target, row=cells.row[index], col=cells.col[index],
        um256=np.concatenate([p.embeddings[FIELD_UM].astype(np.float16) for p in parts]),
        share=np.concatenate([part.shares for part in parts]),
    )  # fmt: skip
    print(path, len(index), file=sys.stderr, flush=True)


def kinds_file(case: str) -> Path:
    """Outlines of the kinds of normal tissue of a case."""
    return ATLAS / "kinds" / f"{case}.geojson"


def kinds_of(case: str) -> list[str]:
    """Names of the kinds of normal tissue of a case."""
    return list(dict.fromkeys(outline.label for outline in read_outlines(kinds_file(case))))


def outlined(
    case: str, centres: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Number of each cell's outline, and of its kind (-1: none), and whether it is lesion."""
    place, kind = np.full(len(centres), -1, np.intp), np.full(len(centres), -1, np.intp)
    kinds, points = kinds_of(case), shapely.points(centres)
    for i, outline in enumerate(read_outlines(kinds_file(case))):
        inside = shapely.contains(outline.polygon, points)
        place[inside], kind[inside] = i, kinds.index(outline.label)
    return place, kind, labels_of(case, centres) == 1


def judged_cells(case: str, mpp: float, kept: Data, tissues: Tissues) -> Judged:
    """Cells of a slide inside the outlines, with enough tissue."""
    at = np.stack([kept["row"], kept["col"]], 1).astype(np.intp)
    place, kind, lesion = outlined(case, (at[:, ::-1] + 0.5) * CELL_UM / mpp)
    wanted = ((kind >= 0) | lesion) & (kept["share"] >= LEAST_SHARE)
    embedding = kept["um256"][wanted].astype(np.float32)
    directions = tissues.directions(embedding.astype(np.float64))
    return Judged(
        embedding, directions, kept["share"][wanted], place[wanted], kind[wanted], at[wanted],
        kinds_of(case),
    )  # fmt: skip


def learned_from(model: Density, normal: Data, tissues: Tissues) -> Learned:
    """What the model has learned from normal cells, in parts."""
    embeddings = torch.from_numpy(normal["um256"].astype(np.float32))
    model.fit_fields({FIELD_UM: embeddings}, torch.from_numpy(normal["share"]))
    middle = tissues.directions(embeddings.double().numpy()).mean(0)
    root = model.state_["256um.contrast.root"].double().numpy()
    units = model.state_["256um.units"].double().numpy()[:, 0]
    return Learned(middle, root, tissues.centres, units, model.state_.get("usual"))


def marks_of(cells: Judged, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Cells that a person marked, by kind: some next to each other in one outline."""
    found = []
    for kind in range(len(cells.kinds)):
        places = [
            np.flatnonzero(cells.place == p) for p in np.unique(cells.place[cells.kind == kind])
        ]
        places = [p for p in places if len(p) >= LEAST_MARKED]
        inside = places[rng.integers(len(places))]
        apart = np.abs(cells.at[inside] - cells.at[rng.choice(inside)]).max(1)
        found.append(inside[np.argsort(apart, kind="stable")[:MARKED]])
    return found


def far_from(cells: Judged, marked: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which cells' fields share no tissue with those of marked cells."""
    apart = np.abs(cells.at[:, None] - cells.at[marked][None]).max(2).min(1)
    return np.asarray(apart * CELL_UM >= FIELD_UM)


def rounds_of(cells: Judged) -> Iterator[tuple[list[NDArray[np.intp]], NDArray[np.bool_]]]:
    """Give marks by kind, and which cells are judged."""
    rng = np.random.default_rng(0)
    for _ in range(PLACES):
        marks = marks_of(cells, rng)
        yield marks, (cells.kind < 0) | far_from(cells, np.concatenate(marks))


def by_kind(score: Array, cells: Judged, judged: NDArray[np.bool_]) -> Array:
    """ROC AUC (kinds,) of the lesion against each kind; NaN where none of it is judged."""
    lesion = score[judged & (cells.kind < 0)]
    found = []
    for kind in range(len(cells.kinds)):
        normal = score[judged & (cells.kind == kind)]
        of_lesion = np.repeat([False, True], [len(normal), len(lesion)])
        enough = len(normal) >= LEAST_JUDGED
        found.append(auc(np.concatenate([normal, lesion]), of_lesion) if enough else np.nan)
    return np.array(found)


def slide_figures(learned: Learned, cells: Judged, ways: dict[str, Way]) -> dict[str, Any]:
    """ROC AUC by way: the mean over kinds, each kind, and with one kind forgotten."""
    found: dict[str, list[Array]] = {name: [] for name in ways}
    forgotten: dict[str, list[float]] = {name: [] for name in ways}
    for marks, judged in rounds_of(cells):
        by_mark = [cells.directions[mark] for mark in marks]
        for name, way in ways.items():

            def auc_with(known: list[Array], way: Way = way, judged: Any = judged) -> Array:
                distance = way(learned, cells.directions, known)
                return by_kind(learned.score(distance, cells.share), cells, judged)

            found[name].append(auc_with(by_mark))
            for k in range(len(by_mark)) if name != today.__name__ else ():
                forgotten[name].append(float(np.nanmean(auc_with(by_mark[:k] + by_mark[k + 1 :]))))
    rows = {}
    for name in ways:
        kinds = np.nanmean(found[name], 0)
        rows[name] = {
            "all": mean_of(list(kinds)),
            "kinds": dict(zip(cells.kinds, np.round(kinds, 3).tolist(), strict=True)),
            "forgotten": mean_of(forgotten[name]) if forgotten[name] else mean_of(list(kinds)),
        }
    counts = {k: int((cells.kind == i).sum()) for i, k in enumerate(cells.kinds)}
    return {"lesion_cells": int((cells.kind < 0).sum()), "normal_cells": counts, "ways": rows}


def table(
    cache: Path, whole: Path, half: str, network: PerceptualNetwork, ways: dict[str, Way]
) -> dict[str, Any]:
    """Figures by slide, and means over the slides of a half."""
    config = DensityConfig(layers=LAYERS, estimator="contrast", fields_um=(FIELD_UM,))
    data = read_cache(cache, cases())
    lines = {line["case"]: line for line in cases() if line["case"] in data}
    slides = {}
    for case, line in lines.items():
        if line["half"] != half or not kinds_file(case).exists():
            continue
        others = [
            data[c] for c, other in lines.items()
            if other["organ"] == line["organ"] and c != case
            and half in ("untouched", other["half"])
        ]  # fmt: skip
        normal = [{key: d[key][d["label"] == 0] for key in ("um256", "share")} for d in others]
        joined = {key: np.concatenate([d[key] for d in normal]) for key in ("um256", "share")}
        joined["um256"] = joined["um256"][:, columns(list(LAYERS))]
        model = Unseen(network, config)
        model.known = tissues_without(case, data, {}, config)
        tissues = model.known[FIELD_UM]
        learned = learned_from(model, joined, tissues)
        cells = judged_cells(
            case, float(line["mpp"]), dict(np.load(whole / f"{case}.npz")), tissues
        )
        slides[case] = slide_figures(learned, cells, ways)
        print(case, {n: row["all"] for n, row in slides[case]["ways"].items()}, file=sys.stderr)
    means = {
        name: {
            figure: mean_of([row["ways"][name][figure] for row in slides.values()])
            for figure in ("all", "forgotten")
        }
        | {"interval": interval([row["ways"][name]["all"] for row in slides.values()])}
        for name in ways
    }
    return {"half": half, "marked_cells": MARKED, "mean": means, "slides": slides}


def example(
    slides: Path, whole: Path, network: PerceptualNetwork, ways: dict[str, Way]
) -> dict[str, Any]:
    """ROC AUC on ``colon_adenoma.tif``: adenoma against normal mucosa, and all other tissue.

    The model learns from ``colon_normal.tif`` and knows the tissues that ship. The example is cut
    from a slide of the atlas, whose kinds are marked.
    """
    for name in ("colon_adenoma", "colon_normal"):
        embed_slide(slides / f"{name}.tif", whole / f"{name}.npz", network)
    model = Density(
        network, DensityConfig(layers=LAYERS, estimator="contrast", fields_um=(FIELD_UM,))
    )
    tissues = model.tissues(FIELD_UM)
    learned = learned_from(model, dict(np.load(whole / "colon_normal.npz")), tissues)
    kept = dict(np.load(whole / "colon_adenoma.npz"))
    at = np.stack([kept["row"], kept["col"]], 1).astype(np.intp)
    points = shapely.points((at[:, ::-1] + 0.5) * CELL_UM / CUT_MPP)
    drawn = {
        outline.label: shapely.contains(outline.polygon, points)
        for outline in read_outlines(slides.parent / "annotations" / "colon_adenoma.geojson")
    }
    marked = read_outlines(kinds_file(EXAMPLE))
    kinds = list(dict.fromkeys(outline.label for outline in marked))
    place, kind = np.full(len(at), -1, np.intp), np.full(len(at), len(kinds), np.intp)
    for i, outline in enumerate(marked):
        inside = shapely.contains(affinity.translate(outline.polygon, -CUT_AT), points)
        place[inside], kind[inside] = i, kinds.index(outline.label)
    kind[drawn["Adenoma"]] = -1
    enough = kept["share"] >= LEAST_SHARE
    embedding = kept["um256"][enough].astype(np.float32)
    directions = tissues.directions(embedding.astype(np.float64))
    mucosa = drawn["Normal mucosa"][enough]
    cells = Judged(
        embedding, directions, kept["share"][enough], place[enough], kind[enough], at[enough], kinds
    )
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for marks, judged in rounds_of(cells):
        lesion = judged & (cells.kind < 0)
        for name, way in ways.items():
            distance = way(learned, directions, [directions[mark] for mark in marks])
            score = learned.score(distance, cells.share)
            against = (mucosa & judged, judged & ~lesion)
            found[name].append(
                tuple(auc(score[lesion | normal], lesion[lesion | normal]) for normal in against)
            )
    return {
        name: dict(zip(("mucosa", "all_other"), np.mean(rows, 0).round(3).tolist(), strict=True))
        for name, rows in found.items()
    }


def main() -> None:
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("what", choices=("embed", "table", "example"))
    parser.add_argument(
        "folders", type=Path, nargs=2, help="CLONES WHOLE, CACHE WHOLE, or SLIDES WHOLE"
    )
    parser.add_argument("--half", choices=("choose", "untouched"), default="choose")
    parser.add_argument("--ways", default=",".join(WAYS))
    args = parser.parse_args()
    first, whole = args.folders
    network = load_features("lite0")
    if args.what == "embed":
        embed(first, whole, network)
        return
    ways = {name: WAYS[name] for name in args.ways.split(",")}
    if args.what == "example":
        finish(example(first, whole, network, ways), args.json)
        return
    finish(table(first, whole, args.half, network, ways), args.json)


if __name__ == "__main__":
    main()

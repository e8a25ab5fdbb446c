"""How stain, focus and scale change the embeddings of normal tissue: what `contrast` leaves out.

    python benchmarks/tissue_changes.py CLONES CHANGES

For each slide of the half `choose` (CLONES as for real_tissue.py) some hundred normal cells are
embedded as they are and under 13 changes: stronger and weaker hematoxylin and eosin, both together,
three tints, blur, sharpening, contrast of the densities, pixels 0.8 and 1.25 times as large. The
file of a slide in CHANGES holds embeddings (n, D) of `b4` to `b6` in fields of 256 um by change;
`real_tissue.py --changes CHANGES` adds their second moment to what varies within a slide.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import parser_of
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from wsi_anomaly.detectors.contrast import Tissues
from wsi_anomaly.features import load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Fields, TileConfig, plan_fields
from wsi_anomaly.tiles.plane import Plane, SlidePlane

LAYERS, FIELD_UM = ("b4", "b5", "b6"), 256
CELLS, PLACES = 300, 2  # next to each other, and how often in a slide
SCALES = (0.8, 1.25)
PLAIN = "plain"

RGB = NDArray[np.uint8]
Change = Callable[[RGB], RGB]
Normal = Callable[[Fields], NDArray[np.bool_]]
"""Says which cells (N,) are normal tissue."""

# Ruifrok and Johnston (2001): optical density of hematoxylin, eosin and what is left.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)


def _densities(pixels: RGB) -> NDArray[np.float32]:
    found: NDArray[np.float32] = -np.log((pixels.astype(np.float32) + 1) / 256)
    return found


def _pixels(densities: NDArray[np.floating]) -> RGB:
    return np.clip(np.round(256 * np.exp(-densities) - 1), 0, 255).astype(np.uint8)


def stained(hematoxylin: float, eosin: float) -> Change:
    """Multiply the amounts of both stains."""
    matrix = np.linalg.inv(_STAINS) @ np.diag([hematoxylin, eosin, 1.0]) @ _STAINS
    return lambda pixels: _pixels(_densities(pixels) @ matrix.astype(np.float32))


def tinted(*gains: float) -> Change:
    """Multiply the densities of red, green and blue."""
    return lambda pixels: _pixels(_densities(pixels) * np.array(gains, np.float32))


def curved(power: float) -> Change:
    """Raise the densities to a power: more or less contrast."""
    return lambda pixels: _pixels(_densities(pixels) ** power)


def focused(sharpening: float, sigma: float) -> Change:
    """Add what a Gaussian of `sigma` px takes away, so many times; -1: blur."""

    def change(pixels: RGB) -> RGB:
        values = pixels.astype(np.float32)
        blurred = gaussian_filter(values, (sigma, sigma, 0))
        return np.clip(np.round(values + sharpening * (values - blurred)), 0, 255).astype(np.uint8)

    return change


CHANGES: dict[str, Change] = {
    "more hematoxylin": stained(1.25, 0.85),
    "less hematoxylin": stained(0.8, 1.2),
    "more of both": tinted(1.25, 1.25, 1.25),
    "less of both": tinted(0.8, 0.8, 0.8),
    "red": tinted(1.15, 1.0, 0.87),
    "blue": tinted(0.87, 1.0, 1.15),
    "green": tinted(0.93, 1.12, 0.95),
    "blurred": focused(-1.0, 1.2),
    "sharpened": focused(1.0, 1.5),
    "more contrast": curved(1.25),
    "less contrast": curved(0.8),
}


def moment(tissues: Tissues, slides: list[dict[str, NDArray[Any]]]) -> NDArray[np.float64]:
    """Mean second moment (D, D) of what the changes do to directions; slides as in CHANGES."""
    found = []
    for slide in slides:
        plain = tissues.directions(slide[PLAIN].astype(float))
        for name in CHANGES:
            by = tissues.directions(slide[name].astype(float)) - plain
            found.append(by.T @ by / len(by))
        for scale in SCALES:  # other cells: only their mean compares
            mean = tissues.directions(slide[f"pixels x{scale:g}"].astype(float)).mean(0)
            found.append(np.outer(mean - plain.mean(0), mean - plain.mean(0)))
    return np.mean(found, 0)


def some_of(cells: Fields, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells (N,) next to each other at a few places, drawn by no chance."""
    at, rng = np.flatnonzero(wanted), np.random.default_rng(0)
    chosen = np.zeros(len(cells), bool)
    for _ in range(PLACES):
        middle = rng.choice(at)
        away = np.maximum(
            abs(cells.row[at] - cells.row[middle]), abs(cells.col[at] - cells.col[middle])
        )
        chosen[at[np.argsort(away, kind="stable")[:CELLS]]] = True
    return chosen


def embedded(
    plane: Plane, cells: Fields, wanted: NDArray[np.bool_], maps: DenseMaps
) -> dict[int, NDArray[np.float16]]:
    """Embedding (D,) of each wanted cell that can be judged, by its number."""
    found = {}
    for part in embed_cells(plane, cells, maps, (FIELD_UM,), wanted=wanted):
        values = part.embeddings[FIELD_UM].astype(np.float16)
        found |= dict(zip(part.indices.tolist(), values, strict=True))
    return found


def changes_of(
    slide: Path, normal: Normal, mpp: float, maps: DenseMaps, changes: dict[str, Change]
) -> dict[str, NDArray[Any]]:
    """Embeddings of a slide's normal cells as they are, and under each change."""
    with open_slide(slide, mpp=mpp) as opened:
        tissue = find_tissue(opened)
        cells = plan_fields(opened, tissue, field_um=64.0, min_tissue=0.1)
        wanted = some_of(cells, normal(cells))
        preprocess = TileConfig().preprocessing.for_slide(opened, tissue)
        plane = SlidePlane(opened, tissue, 10, preprocess)
        found = {PLAIN: embedded(plane, cells, wanted, maps)}
        read = plane.read
        for name, change in changes.items():
            plane.read = lambda *place, change=change: change(read(*place))  # type: ignore[method-assign]
            found[name] = embedded(plane, cells, wanted, maps)
    kept = sorted(set.intersection(*(set(by_cell) for by_cell in found.values())))
    return {name: np.stack([by_cell[i] for i in kept]) for name, by_cell in found.items()}


def main() -> None:
    from real_tissue import cases, wanted_cells  # which takes `moment` from here

    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("clones", type=Path)
    parser.add_argument("changes", type=Path)
    args = parser.parse_args()
    maps = DenseMaps(load_features("lite0"), list(LAYERS))
    args.changes.mkdir(parents=True, exist_ok=True)
    for line in cases():
        case, target = line["case"], args.changes / f"{line['case']}.npz"
        slide = args.clones / case / "HE.dzi"
        if target.exists() or line["half"] != "choose" or not slide.exists():
            continue

        def normal(cells: Fields, case: str = case) -> NDArray[np.bool_]:
            wanted, label = wanted_cells(case, cells)
            return wanted & (label == 0)

        found = changes_of(slide, normal, float(line["mpp"]), maps, CHANGES)
        for scale in SCALES:
            other = changes_of(slide, normal, float(line["mpp"]) * scale, maps, {})
            found[f"pixels x{scale:g}"] = other[PLAIN]
        np.savez(target, **found)
        print(case, len(found[PLAIN]), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""Which drawn lesions are found, by their size: the default against the former one.

    python benchmarks/lesions.py FOLDER [--normals DEMO/slides/normal] [--slides 6]

Lesions of 0.02, 0.05, 0.2 and 1 mm2 on slides of 3 x 3 mm, medium difficulty; two sets of slides
with other seeds: smoothing is chosen on the first, figures are of the second. The threshold of a
method is the one at which its unseen normal slides show one region each, so the rule of calibration
has no part in the comparison. A lesion counts as found when a flagged cell touches it; Dice is
between all flagged cells and all lesions of a size. Smoothing: each cell's mean with its neighbours
within a square of so many um, 0 is none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import shapely
from common import finish, parser_of
from numpy.typing import NDArray

from wsi_anomaly import api
from wsi_anomaly.annotations import read_geojson
from wsi_anomaly.calibration.regions import region_thresholds, smooth_scores
from wsi_anomaly.demo.slides import SLIDES, slide_path
from wsi_anomaly.demo.slides import make_slides as make_demo_slides
from wsi_anomaly.evaluation.results import ScoredSlide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.training.config import PRESETS, TrainConfig

AREAS_MM2 = (0.02, 0.05, 0.2, 1.0)
SIDE_PX, MPP = 6000, 0.5
SMOOTHING_UM = (0, 192, 320, 448)
NORMALS = 8
MOST_REGIONS = 200


@dataclass(frozen=True)
class Way:
    """How slides are looked at: what is trained, and at which magnification."""

    config: TrainConfig
    magnification: int


DENSITY = replace(PRESETS["fast"], beside=())
WAYS = {
    "lite0 256 um (default)": Way(DENSITY, 10),
    "lite0 256 um, both": Way(replace(DENSITY, density_estimator="both"), 10),
    "compact 64 um (former default)": Way(replace(DENSITY, features="compact"), 20),
}


@dataclass(frozen=True)
class ScoredFields:
    """Scores of a slide's cells and their squares in level-0 pixels."""

    row: NDArray[np.int32]
    col: NDArray[np.int32]
    score: NDArray[np.float32]
    squares: NDArray[np.object_]
    cell_um: float

    def smoothed(self, side_um: float) -> NDArray[np.float32]:
        """Scores, each the mean over a square of `side_um`."""
        radius = int(side_um / self.cell_um) // 2
        return smooth_scores(self.row, self.col, self.score, radius=radius)


def _draw(path: Path, outlines: Path, seed: int, area: float | None) -> None:
    make_slide(
        path,
        seed=seed,
        size_px=(SIDE_PX, SIDE_PX),
        mpp=MPP,
        lesions="medium" if area else None,
        lesion_mm2=area,
        outlines_path=outlines,
    )


def draw(folder: Path, slides: int) -> None:
    """Draw what is not there yet: unseen normal slides, two sets with lesions of each size."""
    wanted = [(f"normal_{i}", 3000 + i, None) for i in range(NORMALS)]
    for name, first in (("choose", 4000), ("report", 5000)):
        wanted += [
            (f"{name}_{area}_{i}", first + 100 * k + i, area)
            for k, area in enumerate(AREAS_MM2)
            for i in range(slides)
        ]
    (folder / "new").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(_draw, folder / "new" / f"{name}.tif", _outlines(folder, name), seed, area)
            for name, seed, area in wanted
            if not _outlines(folder, name).is_file()
        ]
        for job in jobs:
            job.result()


def _outlines(folder: Path, name: str) -> Path:
    return folder / "outlines" / f"{name}.geojson"


def scored(folder: Path, way: str, normals: Path) -> dict[str, ScoredFields]:
    """Tile, train and score by the Python verbs; what is done is kept."""
    chosen = WAYS[way]
    here = folder / way.split(",", maxsplit=1)[0]
    api.tile(normals, here / "tiles", magnifications=(chosen.magnification,))
    if not (here / "model").is_dir():
        api.train(here / "tiles", here / "model", chosen.config, magnification=chosen.magnification)
    api.score(folder / "new", here / "model", here / "results")
    found = {}
    for result in sorted((here / "results").glob("*/scores.zarr")):
        slide = ScoredSlide.read(result.parent)
        (x, y), (width, height) = slide.coords.T, slide.field
        squares = shapely.box(x, y, x + width, y + height)
        found[result.parent.name] = ScoredFields(
            slide.row, slide.col, slide.scores[slide.primary], squares, width * slide.mpp[0]
        )
    return found


def threshold(slides: Sequence[ScoredFields], side_um: float) -> float:
    """The lowest at which the slides show one region each on average."""
    reached = np.concatenate(
        [
            region_thresholds(slide.row, slide.col, slide.smoothed(side_um), MOST_REGIONS)
            for slide in slides
        ]
    )
    return float(np.sort(reached)[::-1][len(slides) - 1])


def figures(
    folder: Path, slides: Mapping[str, ScoredFields], which: str, side_um: float, cut: float
) -> dict[str, Any]:
    """Found and Dice by size of lesion on the slides whose name begins with `which`."""
    by_size: dict[str, Any] = {}
    for area in AREAS_MM2:
        areas, found, both, flagged_area = [], 0, 0.0, 0.0
        for name, slide in slides.items():
            if not name.startswith(f"{which}_{area}_"):
                continue
            lesions = [outline.polygon for outline in read_geojson(_outlines(folder, name))]
            flagged = shapely.union_all(slide.squares[slide.smoothed(side_um) > cut])
            areas += [lesion.area * MPP**2 / 1e6 for lesion in lesions]
            found += sum(bool(flagged.intersects(lesion)) for lesion in lesions)
            both += sum(flagged.intersection(lesion).area for lesion in lesions) * MPP**2 / 1e6
            flagged_area += flagged.area * MPP**2 / 1e6
        by_size[str(area)] = {
            "lesions": len(areas),
            "median_mm2": round(float(np.median(areas)), 3),
            "found": round(found / len(areas), 3),
            "dice": round(2 * both / (sum(areas) + flagged_area), 3),
        }
    return by_size


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--normals", type=Path, help="slides to learn from; else drawn")
    parser.add_argument("--slides", type=int, default=6, help="of each size in each set")
    args = parser.parse_args()
    normals = args.normals
    if normals is None:
        learned = [slide for slide in SLIDES if slide.folder == "normal"]
        list(make_demo_slides(learned, args.folder, workers=2))
        normals = slide_path(args.folder, learned[0]).parent
    draw(args.folder, args.slides)
    ways: dict[str, Any] = {}
    for way in WAYS:
        slides = scored(args.folder, way, normals)
        normal = [slide for name, slide in slides.items() if name.startswith("normal")]
        cuts = {um: threshold(normal, um) for um in SMOOTHING_UM}
        chosen = {um: figures(args.folder, slides, "choose", um, cuts[um]) for um in SMOOTHING_UM}
        means = {
            um: math.fsum(row["found"] + row["dice"] for row in by_size.values())
            for um, by_size in chosen.items()
        }
        best = max(means, key=lambda um: means[um])
        ways[way] = {
            "smoothing_um": best,
            "chosen_on": chosen,
            "report": {
                um: figures(args.folder, slides, "report", um, cuts[um]) for um in SMOOTHING_UM
            },
        }
    finish({"slides_of_each_size": args.slides, "ways": ways}, args.json)


if __name__ == "__main__":
    main()

"""Is the promise kept on whole slides, from drawing to flags, and are small lesions touched?

    python benchmarks/unseen.py FOLDER [--normals 100] [--lesions 30]

The demo's model, learned from 20 drawn normal slides, with the calibration slides that training
kept apart; then the same model calibrated on 16 others. With each, 100 normal slides that nobody
has seen are judged, whole, and 30 with lesions of 0.05 mm2 (medium difficulty). What is done is
kept: a second run goes on. About 40 minutes on one core.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import finish, parser_of
from numpy.typing import NDArray

from wsi_anomaly import api
from wsi_anomaly.annotations import read_geojson
from wsi_anomaly.calibration import (
    Calibration,
    OperatingPoint,
    label_regions,
    location,
    smooth_scores,
)
from wsi_anomaly.demo.run import CONFIG, FEATURES, MAGNIFICATION, what_was_found
from wsi_anomaly.demo.slides import SLIDES, slide_path
from wsi_anomaly.demo.slides import make_slides as make_demo_slides
from wsi_anomaly.detectors import Model
from wsi_anomaly.evaluation import ScoredSlide
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.training.config import PRESETS

LESION_MM2 = 0.05
SMALLEST_MM2 = 0.9 * LESION_MM2  # an outline drawn for 0.05 mm2 is not that to the last digit
CALIBRATION = 16
SIZE_PX, MPP = (3400, 3400), 0.5


def draw(folder: Path, normals: int, lesions: int) -> None:
    """Draw what is not there yet."""
    wanted: list[tuple[str, int, float | None]] = [
        ("calibration", 7000 + i, None) for i in range(CALIBRATION)
    ]
    wanted += [("normal", 8000 + i, None) for i in range(normals)]
    wanted += [("lesion", 9000 + i, LESION_MM2) for i in range(lesions)]
    for kind, seed, area in wanted:
        path = folder / kind / f"{kind}_{seed}.tif"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            make_slide(
                path,
                seed=seed,
                size_px=SIZE_PX,
                mpp=MPP,
                lesions="medium" if area else None,
                lesion_mm2=area,
                folds=seed % 2 if area is None else 0,
                outlines_path=_outlines(folder, path.stem),
            )


def _outlines(folder: Path, name: str) -> Path:
    return folder / "outlines" / f"{name}.geojson"


def models(folder: Path) -> Mapping[str, Path]:
    """Learn as the demo does, and calibrate a copy on further slides."""
    learned = [slide for slide in SLIDES if slide.folder == "normal"]
    list(make_demo_slides(learned, folder, workers=1))
    made = {"as trained": folder / "model", "calibrated": folder / "model_calibrated"}
    if not made["as trained"].is_dir():
        api.tile(
            slide_path(folder, learned[0]).parent, folder / "tiles", magnifications=(MAGNIFICATION,)
        )
        config = replace(PRESETS[CONFIG], features=FEATURES, beside=())
        api.train(folder / "tiles", made["as trained"], config, magnification=MAGNIFICATION)
    if not made["calibrated"].is_dir():
        api.calibrate(folder / "calibration", made["as trained"], made["calibrated"])
    return made


def figures(folder: Path, results: Path, reference: Calibration) -> dict[str, Any]:
    """What a reference flags on unseen normal slides and on lesions, and what it promised."""
    normal, lesion = (
        [ScoredSlide.read(path) for path in sorted(results.glob(f"{kind}_*"))]
        for kind in ("normal", "lesion")
    )
    points = [operating_point(slide, reference) for slide in normal]
    regions = np.array(
        [
            label_regions(s.row, s.col, flagged(s, point))[1]
            for s, point in zip(normal, points, strict=True)
        ]
    )
    capped = np.minimum(regions, [point.cap or np.inf for point in points])
    found = what_was_found(
        [replace(s, flagged=flagged(s, operating_point(s, reference))) for s in lesion],
        [read_geojson(_outlines(folder, s.name)) for s in lesion],
        at_least_mm2=SMALLEST_MM2,
    )
    return {
        "calibration": reference.name,
        "cap": points[0].cap,
        "false_regions": round(float(regions.mean()), 3),
        "capped": round(float(capped.mean()), 3),
        "standard_error": round(float(capped.std(ddof=1) / np.sqrt(len(capped))), 3),
        "said": round(float(np.mean([point.expected for point in points])), 3),
        "any_flag": round(float((regions > 0).mean()), 3),
        "any_flag_said": round(float(np.mean([point.any_flag for point in points])), 3),
        "lesions": found.lesions,
        "touched": found.found,
    }


def operating_point(slide: ScoredSlide, reference: Calibration) -> OperatingPoint:
    """As scoring chooses it."""
    known = slide.scores[slide.primary][slide.assessed]
    return reference.operating_point(1.0, len(known), location=location(known))


def flagged(slide: ScoredSlide, point: OperatingPoint) -> NDArray[np.bool_]:
    """Fields above it."""
    assert point.threshold is not None
    smoothed = smooth_scores(slide.row, slide.col, slide.scores[slide.primary])
    return np.asarray(slide.assessed & (smoothed > point.threshold))


def verdicts(results: Path) -> dict[str, dict[str, int]]:
    """How many slides of each kind got which verdict from the program itself."""
    return {
        kind: dict(
            Counter(
                str((read_summary(path) or {}).get("verdict"))
                for path in sorted(results.glob(f"{kind}_*"))
            )
        )
        for kind in ("normal", "lesion")
    }


def main() -> None:
    """Draw, learn, score and count."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--normals", type=int, default=100)
    parser.add_argument("--lesions", type=int, default=30)
    args = parser.parse_args()
    draw(args.folder, args.normals, args.lesions)
    made = models(args.folder)
    results = args.folder / "results"
    api.score([args.folder / "normal", args.folder / "lesion"], made["as trained"], results)
    rows = {}
    for name, folder in made.items():
        model = Model.load(folder)
        rows[name] = figures(args.folder, results, model.calibration[model.primary])
    finish({"lesion_mm2": LESION_MM2, "verdicts": verdicts(results), "references": rows}, args.json)


if __name__ == "__main__":
    main()

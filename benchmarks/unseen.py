"""Is the promise kept on whole slides, from drawing to flags, and are small lesions touched?

    python benchmarks/unseen.py FOLDER [--normals 100] [--lesions 30]

The demo's model, learned from 20 drawn normal slides, with the calibration slides that training
kept apart; then the same model calibrated on 16 others. With each, 100 normal slides that nobody
has seen are scored, and 30 with lesions of 0.05 mm2 (medium difficulty). What is done is kept:
a second run goes on. About 40 minutes on one core.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import finish, parser_of

from wsi_anomaly import api
from wsi_anomaly.annotations import read_geojson
from wsi_anomaly.demo.run import CONFIG, FEATURES, MAGNIFICATION, what_was_found
from wsi_anomaly.demo.slides import SLIDES, slide_path
from wsi_anomaly.demo.slides import make_slides as make_demo_slides
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
    wanted = [("calibration", 7000 + i, None) for i in range(CALIBRATION)]
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


def figures(folder: Path, results: Path) -> dict[str, Any]:
    """What was flagged on unseen normal slides and on lesions, and what was promised."""
    flagged = {
        kind: [
            read_summary(path.parent) or {}
            for path in sorted(results.glob(f"{kind}_*/summary.json"))
        ]
        for kind in ("normal", "lesion")
    }
    normal = flagged["normal"]
    regions = np.array([entry["flagged"]["regions"] for entry in normal])
    caps = np.array([entry["flagged"]["counted_at_most"] or np.inf for entry in normal], float)
    capped = np.minimum(regions, caps)
    scored = [ScoredSlide.read(path) for path in sorted(results.glob("lesion_*"))]
    found = what_was_found(
        scored,
        [read_geojson(_outlines(folder, slide.name)) for slide in scored],
        at_least_mm2=SMALLEST_MM2,
    )
    return {
        "calibration": normal[0]["calibration"]["name"],
        "normal_slides": len(normal),
        "tissue_mm2": round(float(np.median([entry["tissue_mm2"] for entry in normal])), 2),
        "false_regions": round(float(regions.mean()), 3),
        "capped": round(float(capped.mean()), 3),
        "standard_error": round(float(capped.std(ddof=1) / np.sqrt(len(capped))), 3),
        "said": _mean([e["flagged"]["false_regions_expected"] for e in normal]),
        "any_flag": round(float((regions > 0).mean()), 3),
        "any_flag_said": _mean([e["flagged"]["normal_slides_with_flags"] for e in normal]),
        "verdicts": {
            kind: {v: sum(e["verdict"] == v for e in entries) for v in _verdicts(entries)}
            for kind, entries in flagged.items()
        },
        "lesions": found.lesions,
        "touched": found.found,
    }


def _verdicts(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({str(entry["verdict"]) for entry in entries})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None


def main() -> None:
    """Draw, learn, score and count."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--normals", type=int, default=100)
    parser.add_argument("--lesions", type=int, default=30)
    args = parser.parse_args()
    draw(args.folder, args.normals, args.lesions)
    rows = {}
    for name, model in models(args.folder).items():
        results = args.folder / "results" / model.name
        api.score([args.folder / "normal", args.folder / "lesion"], model, results)
        rows[name] = figures(args.folder, results)
        print(name, rows[name], flush=True)
    finish({"lesion_mm2": LESION_MM2, "references": rows}, args.json)


if __name__ == "__main__":
    main()

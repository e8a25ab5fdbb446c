"""A real model folder, small enough to be made in a test: density over random features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scoring_fakes import make_slide

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.detectors import Density, DensityConfig, Model
from wsi_anomaly.features import load_features
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Preprocessing, plan_fields, read_fields


def save_small_model(folder: Path, work: Path, cases: int = 5) -> Path:
    """Train on one normal slide, calibrate on some others."""
    normal = make_slide(work / "train.tif", seed=100, lesion=False)
    with open_slide(normal) as slide:
        fields = plan_fields(slide, find_tissue(slide), field_um=64.0)
        batches = read_fields(slide, fields, magnification=10, tile_size=64)
        images = np.concatenate([images for _, images, _ in batches])
    detector = Density(load_features("compact", random_seed=0), DensityConfig(("c2",)))
    model = Model(
        name="small",
        magnification=10,
        tile_size=64,
        preprocessing=Preprocessing(stain="none").to_dict(),
        detectors={"density": detector.fit(ArrayTiles(images))},
        primary="density",
        seen={fingerprint(normal): "train"},
        provenance={"trained": "2026-01-01"},
    )
    slides = []
    for i in range(cases):
        path = make_slide(work / f"c{i}.tif", seed=200 + i, lesion=False)
        found = score_slide(path, model)
        good = found.assessed
        slides.append(
            CaseScores(
                f"c{i}", f"c{i}", found.fields.row[good], found.fields.col[good], found.score[good]
            )
        )
    model.with_calibration({"density": Calibration.fit(slides)}, model.seen).save(folder)
    return folder

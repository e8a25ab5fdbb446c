"""A model without a network, and slides small enough to score in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.tiles import Preprocessing


class FakeModel:
    """Darker tiles are more anomalous."""

    name, version, magnification, tile_size = "fake", 1, 10, 64
    primary, methods = "dark", ("dark", "red")
    tile_methods, fields_um = methods, ()
    hash = "feedfacefeedface"

    def __init__(self, cases: int = 6, seen: dict[str, str] | None = None) -> None:
        self.preprocessing = Preprocessing(stain="none").to_dict()
        self.provenance = {"trained": "2026-01-01"}
        self.seen = seen or {}
        self.domain = {}
        self.calibration = {"dark": normal_calibration(cases)} if cases else {}
        self.batches = 0

    def score_tiles(self, images):
        self.batches += 1
        dark = 1 - images.reshape(len(images), -1).mean(1) / 255
        return {"dark": dark.astype(np.float32), "red": images[..., 0].mean((1, 2)) / 255}

    def pixel_maps(self, images):
        return (1 - images.mean(-1) / 255).astype(np.float32)


def normal_calibration(cases: int) -> Calibration:
    rng = np.random.default_rng(0)
    row, col = np.divmod(np.arange(400), 20)
    return Calibration.fit(
        [
            CaseScores(f"c{i}", f"c{i}", row, col, rng.normal(0.32, 0.01, 400).astype(np.float32))
            for i in range(cases)
        ]
    )


def make_slide(path: Path, *, seed: int = 0, lesion: bool = True, mpp: float = 1.0) -> Path:
    """1280 x 1024 um: textured pink tissue in the middle, one dark lesion of 320 um."""
    rng = np.random.default_rng(seed)
    width, height = round(1280 / mpp), round(1024 / mpp)
    image = np.full((height, width, 3), 245, np.uint8)
    k = 1 / mpp
    top, left, bottom, right = (round(v * k) for v in (128, 128, 896, 1152))
    tissue = rng.normal((215, 130, 190), 22, (bottom - top, right - left, 3))
    image[top:bottom, left:right] = np.clip(tissue, 0, 255)
    if lesion:
        y0, x0, y1, x1 = (round(v * k) for v in (384, 512, 704, 832))
        image[y0:y1, x0:x1] = np.clip(rng.normal((110, 60, 130), 22, (y1 - y0, x1 - x0, 3)), 0, 255)
    tifffile.imwrite(
        path, image, tile=(256, 256), photometric="rgb", compression="jpeg",
        resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path

"""Score maps made up in memory, and a small slide file to go with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from shapely.geometry import MultiPolygon, box

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.small_pictures import as_jpeg
from wsi_anomaly.scoring import ScoreMap, SlideFacts, interpret
from wsi_anomaly.scoring.top_fields import BesideNormal, NormalField
from wsi_anomaly.slides import Bounds, Mpp
from wsi_anomaly.tiles import Fields, Status

FIELD_UM = 64.0


def fake_calibration(slides: int = 6, seed: int = 0) -> Calibration:
    rng = np.random.default_rng(seed)
    cases = []
    for i in range(slides):
        row, col = np.divmod(np.arange(400), 20)
        score = (rng.normal(1.0, 0.08, 400) + rng.normal(0, 0.01)).astype(np.float32)
        cases.append(CaseScores(f"case{i}", f"normal{i}", row, col, score))
    return Calibration.fit(cases)


def fake_fields(
    rng, shape=(20, 30), *, mpp=0.5, stride_um=FIELD_UM, origin=(0.0, 0.0), density=0.85
) -> Fields:
    keep = rng.random(shape) < density
    keep.flat[0] = True
    row, col = np.nonzero(keep)
    stride = stride_um / mpp
    coords = np.stack([np.floor(origin[0] + col * stride + 0.5),
                       np.floor(origin[1] + row * stride + 0.5)], 1).astype(np.int64)  # fmt: skip
    return Fields(
        coords, row.astype(np.int32), col.astype(np.int32), shape, origin,
        (FIELD_UM / mpp,) * 2, (stride,) * 2, FIELD_UM,
        rng.uniform(0.1, 1, len(row)).astype(np.float32), np.zeros(len(row), np.uint8),
    )  # fmt: skip


def fake_score_map(
    seed: int = 0,
    *,
    shape=(20, 30),
    mpp: float = 0.5,
    stride_um: float = FIELD_UM,
    origin=(0, 0),
    calibration: Calibration | None = None,
    lesions: int = 2,
    missing: float = 0.05,
    density: float = 0.85,
    seen: str | None = None,
    slide: Path | None = None,
    name: str = "slide",
) -> ScoreMap:
    """A map with `lesions` round lesions; `origin` is that of the scanned area."""
    rng = np.random.default_rng(seed)
    fields = fake_fields(
        rng, shape, mpp=mpp, stride_um=stride_um, origin=tuple(map(float, origin)), density=density
    )
    score = rng.normal(1.0, 0.08, len(fields)).astype(np.float32)
    for _ in range(lesions):
        middle = rng.uniform(0.15, 0.85, 2) * shape
        near = np.hypot(fields.row - middle[0], fields.col - middle[1])
        score += (0.6 * np.exp(-((near / 2.5) ** 4))).astype(np.float32)
    status = fields.status.copy()
    bad = rng.random(len(fields)) < missing
    status[bad] = rng.choice([s for s in Status if s != Status.OK], bad.sum())
    score[status != Status.OK] = np.nan
    width = int(np.ceil((shape[1] - 1) * fields.stride_level0[0] + fields.field_level0[0]))
    height = int(np.ceil((shape[0] - 1) * fields.stride_level0[1] + fields.field_level0[1]))
    bounds = Bounds(origin[0], origin[1], width, height)
    facts = SlideFacts(
        name, str(slide or f"{name}.tif"), fingerprint(slide) if slide else "0123456789abcdef",
        origin[0] + width + 7, origin[1] + height + 5, Mpp(mpp, mpp, "--mpp"), bounds,
        "openslide", 20.0,
    )  # fmt: skip
    return ScoreMap(
        slide=facts,
        fields=fields,
        status=status,
        scores={"dpa": score, "density": (score * 3).astype(np.float32)},
        primary="dpa",
        interpretation=interpret(fields, score, calibration, mpp=(mpp, mpp), seen=seen),
        calibration=calibration,
        seen=seen,
        model={
            "name": "dpa-fast", "version": 1, "hash": "feedfacefeedface", "magnification": 10,
            "tile_size": 64, "methods": ["dpa", "density"], "primary": "dpa",
            "provenance": {"trained": "2026-01-01", "slides": 10},
        },
        settings={"stride_um": stride_um, "min_tissue": 0.1, "mpp": None, "false_regions": 1.0,
                  "fdr": None, "pixel_map": False},
        tissue=MultiPolygon([box(origin[0], origin[1], origin[0] + width, origin[1] + height)]),
        tissue_mm2=width * height * mpp**2 / 1e6,
        timings={"read and score": 1.5, "network": 1.0},
    )  # fmt: skip


def with_normals(score_map: ScoreMap, seed: int = 0) -> ScoreMap:
    """Put normal fields beside its regions, which deviate in one of two directions."""
    regions = score_map.interpretation.regions
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 0.01, (len(regions), 16)).astype(np.float32)
    vectors[np.arange(len(regions)), np.arange(len(regions)) % 2] += 1
    count = len(regions)
    normals = tuple(
        NormalField(
            f"normal {i}", (10.0 * i, 20.0), as_jpeg(np.full((64, 64, 3), 200 + i, np.uint8))
        )
        for i in range(4)
    )
    return replace(
        score_map,
        beside=BesideNormal(
            np.array([region.peak for region in regions]),
            np.arange(1, count + 1),
            vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            tuple(as_jpeg(np.full((64, 64, 3), 90 + i, np.uint8)) for i in range(count)),
            tuple(
                {"parts": [{"um": 256, "distance": "contrast", "units": 7.5}], "methods": []}
                for _ in regions
            ),
            np.tile([2, 0, 3], (count, 1)),
            np.tile(np.float32([1.5, 1.6, 1.7]), (count, 1)),
            np.tile(np.float32([99.84, 100, 100]), (count, 1)),
            normals,
            256,
        ),
    )


def fake_slide(path: Path, *, width: int = 3840, height: int = 2560, mpp: float = 0.5) -> Path:
    """A tiled TIFF with the size of the default map, pink noise on white."""
    rng = np.random.default_rng(0)
    small = rng.integers(150, 230, (height // 32 + 1, width // 32 + 1, 3)).astype(np.uint8)
    small[..., 1] = small[..., 1] // 2 + 40
    image = np.repeat(np.repeat(small, 32, 0), 32, 1)[:height, :width]
    tifffile.imwrite(
        path, image, tile=(256, 256), photometric="rgb", compression="jpeg",
        resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path

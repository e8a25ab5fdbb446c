"""Small images by case, and tile files of drawn slides."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.training.config import PRESETS

# What the network that these tests hand in is chosen for.
COMPACT = replace(PRESETS["fast"], features="compact")
DENSITY = replace(COMPACT, beside=())
TINY = replace(
    COMPACT,
    resolution=16,
    field_um=16,
    latent_resolution=4,
    steps={16: (0, 4)},
    first_resolution=16,
    batch_size=4,
    validate_every=2,
)


@cache
def compact() -> PerceptualNetwork:
    return load_features("compact")


def images(case: int, count: int = 12, side: int = 64, spread: float = 8) -> NDArray[np.uint8]:
    """Tiles of one case: its own blobs and colour, with a little noise on each."""
    rng = np.random.default_rng(case)
    colour = rng.integers(90, 200, 3)
    own = rng.normal(0, 25, (8, 8, 3)).repeat(side // 8, 0).repeat(side // 8, 1)
    tiles = colour + own + rng.normal(0, spread, (count, side, side, 3))
    return tiles.clip(0, 255).astype(np.uint8)


def striped(case: int, count: int = 6, side: int = 64) -> NDArray[np.uint8]:
    """Abnormal tiles: like those of a case, with stripes over them."""
    tiles = images(case, count, side).astype(int)
    tiles[:, :, ::4] += 70
    return tiles.clip(0, 255).astype(np.uint8)


def cohort(cases: int = 6, **how: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Tiles of some normal cases, and the case of each."""
    parts = [images(k, **how) for k in range(cases)]
    return np.concatenate(parts), [f"case {k}" for k, p in enumerate(parts) for _ in p]


def known(groups: int = 2, **how: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Abnormal tiles of some slides, and the slide of each."""
    parts = [striped(100 + k, **how) for k in range(groups)]
    return np.concatenate(parts), [f"slide {k}" for k, p in enumerate(parts) for _ in p]


def make_tiles(folder: Path, normal: int = 7, abnormal: int = 2) -> Path:
    """Tile files: ``tiles/`` of normal slides, ``few/`` cut inside lesions."""
    from wsi_anomaly.synthetic import make_slide
    from wsi_anomaly.tiles import TileConfig, tile_slide
    from wsi_anomaly.tiles.jobs import Job

    config = TileConfig(magnifications=(10, 20))
    (folder / "slides").mkdir(parents=True)
    for k in range(normal):
        slide = folder / "slides" / f"normal {k}.tif"
        make_slide(slide, seed=700 + k, size_px=(640, 640), mpp=0.5)
        tile_slide(slide, folder / "tiles", config)
    for k in range(abnormal):
        slide = folder / "slides" / f"lesion {k}.tif"
        outlines = folder / "outlines" / f"lesion {k}.geojson"
        make_slide(
            slide,
            seed=(800, 802)[k],
            size_px=(900, 900),
            mpp=0.5,
            lesions="easy",
            outlines_path=outlines,
        )
        # Small lesions: fields that overlap.
        tile_slide(Job(slide, annotations=outlines), folder / "few", replace(config, stride=8))
    return folder

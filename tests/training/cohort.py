"""A small cohort of normal slides and its tiles, made once a session."""

from __future__ import annotations

from pathlib import Path

from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, tile_slide

COUNT = 9

TINY = """\
batch_size = 16
validate_every = 4
density_estimator = "knn"
[steps]
16 = [0, 3]
32 = [2, 3]
64 = [2, 8]
"""


def make_cohort(folder: Path, count: int = COUNT) -> Path:
    """Slides in ``slides/``, tiles in ``tiles/``, a tiny configuration in ``tiny.toml``."""
    (folder / "slides").mkdir(parents=True)
    (folder / "tiny.toml").write_text(TINY)
    for i in range(count):
        slide = folder / "slides" / f"normal{i}.tif"
        make_slide(slide, seed=900 + i, size_px=(800, 800), mpp=0.5)
        tile_slide(slide, folder / "tiles", TileConfig(magnifications=(10, 20)))
    return folder

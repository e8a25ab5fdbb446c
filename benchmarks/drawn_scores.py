"""Score maps of drawn normal slides, for the simulation of calibration.py.

    python benchmarks/drawn_scores.py --slides 160

Trains on 10 drawn normal slides and scores others, of 1 mm a side, with the default detector.
Some minutes on two cores. What it writes, benchmarks/drawn_scores.npz, stands in the repository,
so that calibration.py need not draw.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from common import REPOSITORY, parser_of

from wsi_anomaly.detectors import Model
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, tile_slide
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.training.normals import NormalSlide, score_normal_slide
from wsi_anomaly.training.run import train

FILE = REPOSITORY / "benchmarks" / "drawn_scores.npz"
_SIZE_PX, _MPP = (1000, 1000), 1.0
_TRAINING, _FIRST_SEED = 10, 20_000


def draw(folder: Path, seed: int) -> Path:
    """Draw a normal slide."""
    path = folder / f"normal_{seed}.tif"
    make_slide(path, seed=seed, size_px=_SIZE_PX, mpp=_MPP)
    return path


def trained(folder: Path) -> Model:
    """Learn from drawn slides."""
    (folder / "tiles").mkdir()
    for seed in range(_TRAINING):
        tile_slide(draw(folder, seed), folder / "tiles", TileConfig(magnifications=(10,)))
    config = TrainConfig(features="lite0", detector="density", beside=(), steps={64: (0, 1)},
                         first_resolution=64)  # fmt: skip
    return train(folder / "tiles", folder / "model", config)


def main() -> None:
    """Draw, score and keep."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("--slides", type=int, default=160)
    asked = parser.parse_args()
    maps = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = trained(folder)
        for i in range(asked.slides):
            path = draw(folder, _FIRST_SEED + i)
            _, found = score_normal_slide(NormalSlide(path, path.stem), model)
            path.unlink()
            maps.append(found["density"])
            print(f"{i + 1} of {asked.slides}: {len(maps[-1].score)} fields", flush=True)
    side = 1 + max(int(max(m.row.max(), m.col.max())) for m in maps)
    stack = np.full((len(maps), side, side), np.nan, np.float16)
    for plane, scores in zip(stack, maps, strict=True):
        plane[scores.row, scores.col] = scores.score
    np.savez_compressed(FILE, scores=stack)


if __name__ == "__main__":
    main()

"""What the parts of ``gpu.py`` share."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np

Found = dict[str, Any]


def goal(value: float | str | bool, aim: str, *, reached: bool) -> Found:
    """One line of the verdict."""
    return {"value": value, "goal": aim, "reached": bool(reached)}


def made_tiles(count: int, side: int = 64) -> np.ndarray:
    """Tiles of blurred noise in tissue's colours, a tenth of them darker."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.random((count, side // 8, side // 8, 1)), np.ones((1, 8, 8, 1)))
    pixels = (150, 80, 150) + coarse * (90, 120, 80) + rng.normal(0, 6, (count, side, side, 3))
    pixels[: count // 10] *= rng.uniform(0.5, 1, (count // 10, 1, 1, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``wsi-anomaly`` with these words; what it said, and its exit code."""
    program = [sys.executable, "-m", "wsi_anomaly", *words]
    return subprocess.run(program, check=False, capture_output=True, text=True)

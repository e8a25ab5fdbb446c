"""A slide of any size fits a worker: measured on 100,000 x 100,000 pixels, in a process apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if not Path("/proc/self/status").exists():
    pytest.skip("peak memory is read from /proc, which Linux has", allow_module_level=True)

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from wsi_anomaly.slides import TISSUE, find_tissue, open_slide, read_squares

with open_slide(sys.argv[1]) as slide:
    tissue = find_tissue(slide)
    rows = np.arange(0, 40_000, 256)
    coords = np.stack(np.meshgrid(np.arange(0, 100_000, 256), rows[:4]), -1).reshape(-1, 2)
    fractions = tissue.fractions(coords, (256.0, 256.0))
    for size, mpp in ((64, 1.0), (128, 0.5), (256, 0.25)):
        for start in range(0, len(coords), 256):
            read_squares(slide, coords[start : start + 256], size, mpp)
    outline = tissue.polygons()
# Not ru_maxrss: it starts at the size of the process that started this one.
peak = next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l)
print(json.dumps({
    "backend": slide.backend, "share": float((tissue.labels == TISSUE).mean()),
    "pieces": len(outline.geoms), "peak_mb": int(peak.split()[1]) * 1024 / 1e6,
}))
"""


def test_a_worker_stays_below_a_gigabyte(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from common import huge_slide

    path = huge_slide(tmp_path / "huge.tif")
    assert path.stat().st_size < 20_000_000
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True
    )
    result = json.loads(run.stdout)
    assert result["backend"] == "tiff"
    assert result["share"] == pytest.approx(0.5, abs=0.03)
    assert result["pieces"] >= 1
    assert result["peak_mb"] < 1000

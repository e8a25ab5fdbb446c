"""The verbs for programs: the same as on the command line, and free to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wsi_anomaly
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.synthetic import make_slide

CONFIG = """\
detector = "density"
beside = []
"""


def test_importing_costs_nothing():
    script = (
        "import sys, wsi_anomaly\n"
        "heavy = {'torch', 'numpy', 'openslide', 'click', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), wsi_anomaly.__version__)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]", wsi_anomaly.__version__]


def test_an_unknown_verb_is_an_attribute_error():
    with pytest.raises(AttributeError, match="fly"):
        wsi_anomaly.fly  # noqa: B018


def test_slides_become_results(tmp_path: Path):
    for i in range(3):
        make_slide(tmp_path / "slides" / f"s{i}.tif", seed=40 + i, size_px=(700, 700), mpp=0.5)
    (tmp_path / "density.toml").write_text(CONFIG)
    results = wsi_anomaly.tile(tmp_path / "slides", tmp_path / "tiles")
    assert len(results) == 3
    model = wsi_anomaly.train(
        tmp_path / "tiles", tmp_path / "model", str(tmp_path / "density.toml")
    )
    assert model.primary == "density"
    new = make_slide(tmp_path / "new.tif", seed=50, size_px=(700, 700), mpp=0.5).path
    (found,) = wsi_anomaly.score(new, tmp_path / "model", tmp_path / "results", heatmap=True)
    assert found.seen is None
    assert (tmp_path / "results" / "new" / "report.html").exists()
    assert (tmp_path / "results" / "index.html").exists()
    normals = [make_slide(tmp_path / "n" / f"n{i}.tif", seed=60 + i, size_px=(700, 700)).path
               for i in range(2)]  # fmt: skip
    calibrated = wsi_anomaly.calibrate(normals, tmp_path / "model", tmp_path / "calibrated")
    assert calibrated.calibration["density"].n_slides == 2


def test_nothing_to_do_is_an_error(tmp_path: Path):
    with pytest.raises(UsageError):
        wsi_anomaly.tile(tmp_path / "nowhere", tmp_path / "tiles")
    (tmp_path / "bad.tif").write_bytes(b"no slide")
    with pytest.raises(WsiAnomalyError, match=r"bad\.tif"):
        wsi_anomaly.tile(tmp_path / "bad.tif", tmp_path / "tiles")

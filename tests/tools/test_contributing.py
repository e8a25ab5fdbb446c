"""CONTRIBUTING.md can be followed: a detector, a reader and an option, added as it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsi_anomaly.synthetic import make_slide

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLUG_INS = (REPOSITORY / "docs" / "how-to" / "plug-ins.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to build in."""
    folder = tmp_path_factory.mktemp("house")
    without = shutil.ignore_patterns("__pycache__")
    for name in ("wsi_anomaly", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=without)
    for name in ("models", "docs", "README.md", "pyproject.toml"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


def run(house: Path, *words: str, where: str = ".") -> str:
    """Run Python in the copy; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, *words], cwd=house / where, env=environment, text=True, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return " ".join(ran.stdout.split())


def register(house: Path, kind: str, name: str, module: str, base: str) -> None:
    """Put the class of the page of plug-ins into a room, and its line into the list."""
    [code] = re.findall(
        rf"^`{name}\.py`:\n\n```python\n(.*?)^```", PLUG_INS, re.MULTILINE | re.DOTALL
    )
    room = module.rsplit(".", 1)[0]
    code = code.replace(f"from {room} import ", f"from {room} import {kind}, ")
    code = re.sub(
        rf"^(?=class \w+\({base}\):)", f'@{kind}.register("{name}")\n', code, flags=re.MULTILINE
    )
    (house / (module.replace(".", "/") + ".py")).write_text(code, encoding="utf-8")
    plugins = house / "wsi_anomaly" / "core" / "plugins.py"
    text = plugins.read_text(encoding="utf-8")
    found = re.search(rf"^{kind}: .*?\{{\n", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    line = f'        "{name}": "{module}",\n'
    plugins.write_text(text[: found.end()] + line + text[found.end() :], encoding="utf-8")


def test_a_detector_is_a_module_and_a_line(house: Path) -> None:
    assert "Add one line, its name and module, to `core/plugins.py`" in PAGE
    register(house, "DETECTORS", "extremes", "wsi_anomaly.detectors.extremes", "Detector")
    (house / "slides").mkdir()
    for i in range(5):
        make_slide(house / f"slides/normal{i}.tif", seed=900 + i, size_px=(640, 640), mpp=0.5)
    run(house, "-m", "wsi_anomaly", "tile", "slides", "--workers", "1", "--quiet")
    chosen = ("--features", "compact", "--detector", "extremes", "--device", "cpu", "--quiet")
    run(house, "-m", "wsi_anomaly", "train", *chosen)


def test_a_reader_is_a_module_and_a_line(house: Path) -> None:
    register(house, "READERS", "bitmap", "wsi_anomaly.slides.bitmap_backend", "Slide")
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    Image.fromarray(pixels).save(house / "new.bmp", dpi=(25_400 / 0.5, 25_400 / 0.5))
    asked = (
        "from wsi_anomaly.slides import open_slide\n"
        "slide = open_slide('new.bmp', backend='bitmap')\n"
        "print(slide.backend, slide.width, slide.height)\n"
    )
    assert run(house, "-c", asked) == "bitmap 300 200"


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here to apply the page's changes")
def test_an_option_has_four_places(house: Path) -> None:
    [change] = re.findall(r"^```diff\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^\+(?!\+)", change, re.MULTILINE)) == 4
    subprocess.run(
        ["git", "apply", "--unidiff-zero", "-"], cwd=house, input=change, text=True, check=True
    )
    assert "--first" in run(house, "-m", "wsi_anomaly", "score", "--help")
    run(house, "-m", "pytest", "-q", "-n", "0", "tests/test_options.py", "-k", "score")
    asked = (
        "from wsi_anomaly.options import ScoreOptions\n"
        "from wsi_anomaly.screening import ScoreRun\n"
        "run = ScoreRun.plan(['a.tif', 'b.tif'], None, 'out', ScoreOptions(first=1))\n"
        "print(len(run.jobs), 'slide')\n"
    )
    for name in ("a.tif", "b.tif"):
        (house / name).touch()
    assert run(house, "-c", asked) == "1 slide"

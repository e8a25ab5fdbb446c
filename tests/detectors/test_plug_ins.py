"""The package of docs/how-to/plug-ins.md, installed as a stranger's, works from tile to score."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from contract import DetectorContract
from PIL import Image

from wsi_anomaly.slides import open_slide
from wsi_anomaly.synthetic import make_slide

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "how-to" / "plug-ins.md").read_text(encoding="utf-8")
MODULES = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))

[DESCRIBED] = re.findall(r"^```ini\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def install(folder: Path, entries: dict[str, dict[str, str]], name: str, version: str) -> None:
    """Write what an installer writes: the metadata of a package, with its entry points."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(
        "\n".join(
            f"[{group}]\n" + "\n".join(f"{key} = {value}" for key, value in named.items())
            for group, named in entries.items()
        )
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds the page's package as an installer would put it there."""
    folder = tmp_path_factory.mktemp("installed")
    for name, code in MODULES.items():
        (folder / name).write_text(code, encoding="utf-8")
    project = tomllib.loads(DESCRIBED)["project"]
    install(folder, project["entry-points"], project["name"], project["version"])
    return folder


@dataclass(frozen=True)
class World:
    """A folder in which commands run, with packages of others installed or without."""

    folder: Path
    packages: tuple[Path, ...]

    def run(self, *words: str, without: bool = False) -> tuple[int, str]:
        """Run a command as a process of its own; its exit code and all that it printed."""
        found = [REPOSITORY, *(() if without else self.packages)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, found))}
        command = [sys.executable, "-m", "wsi_anomaly", *words]
        ran = subprocess.run(
            command, cwd=self.folder, env=environment, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return ran.returncode, " ".join(ran.stdout.split())


@pytest.fixture(scope="module")
def world(package: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Bitmaps of drawn slides in ``camera``, another one beside it, tiles and a model."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "camera").mkdir()
    for i in range(6):
        make_slide(
            folder / "slide.tif", seed=900 + i, size_px=(640, 640), mpp=0.5,
            lesions=None if i < 5 else "easy",
        )  # fmt: skip
        with open_slide(folder / "slide.tif") as slide:
            pixels = slide.read_level(0, 0, 0, slide.width, slide.height).rgb
        name = f"camera/normal{i}.bmp" if i < 5 else "new.bmp"
        Image.fromarray(pixels).save(folder / name, dpi=(25_400 / 0.5, 25_400 / 0.5))
    world = World(folder, (package,))
    chosen = ("--features", "cosines", "--detector", "extremes", "--device", "cpu")
    for words in (("tile", "camera", "--workers", "1"), ("train", *chosen)):
        code, printed = world.run(*words)
        assert code == 0, printed
    return world


def test_the_package_of_the_page_builds_with_its_modules(package, tmp_path):
    for name in MODULES:
        shutil.copy(package / name, tmp_path)
    (tmp_path / "pyproject.toml").write_text(DESCRIBED, encoding="utf-8")
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    command = [sys.executable, "-c", build]  # as pip does, without a registry
    made = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert set(MODULES) <= set(zipfile.ZipFile(wheel).namelist())


def test_each_is_complete_in_fewer_than_40_lines():
    assert sorted(MODULES) == ["bitmap.py", "cosines.py", "extremes.py"]
    assert all(len(code.splitlines()) < 40 for code in MODULES.values())


def test_a_slide_of_the_reader_is_scored_by_the_network_and_the_detector(world):
    code, printed = world.run("score", "new.bmp", "--device", "cpu", "--workers", "1")
    assert code == 0, printed
    with open(world.folder / "results" / "slides.csv", newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["slide"] == "new"
    model = json.loads((world.folder / "model" / "model.json").read_text(encoding="utf-8"))
    assert list(model["detectors"]) == ["extremes"]
    assert model["detectors"]["extremes"]["layers"] == ["cosines"]
    assert model["packages"] == dict.fromkeys(("cosines", "extremes"), "my-plug-ins 1.0")


def test_info_says_which_reader_read_it(world):
    code, printed = world.run("info", "new.bmp", "--json")
    assert code == 0, printed
    [facts] = json.loads(printed)
    assert (facts["backend"], facts["mpp_source"]) == ("bitmap", "BMP resolution")
    assert facts["mpp"] == pytest.approx([0.5, 0.5], rel=1e-4)


def test_the_reader_can_be_asked_for(world):
    code, printed = world.run(
        "score", "new.bmp", "--backend", "bitmap", "-o", "asked", "--device", "cpu"
    )
    assert code == 0, printed
    code, printed = world.run("score", "slide.tif", "--backend", "bitmap", "-o", "asked")
    assert code == 1
    assert "slide.tif is no bitmap with a resolution; leave it out." in printed


def test_doctor_lists_what_works_and_who_brings_it(world):
    code, printed = world.run("doctor")
    assert code == 0, printed
    for line in ("network cosines", "detector extremes", "reader bitmap"):
        assert f"ok {line} of my-plug-ins 1.0" in re.sub(" +", " ", printed)


def test_without_the_package_its_model_is_refused_by_its_name(world):
    code, printed = world.run("score", "slide.tif", "--device", "cpu", without=True)
    assert code == 1
    assert (
        "The model in model needs the network 'cosines', which is not installed here; install the "
        "package 'my-plug-ins 1.0'." in printed
    )


BROKEN = {
    "cosines.py": ('Stage("averages", nn.AvgPool2d(2))', "Stage(1 / 0)"),
    "extremes.py": ("far = (", "far = (1 / 0) * ("),
    "bitmap.py": ("left, top = max(x, 0), max(y, 0)", "left, top = 1 / 0, 0"),
}


@pytest.mark.parametrize("module", BROKEN)
def test_an_error_in_the_package_is_one_sentence_that_names_it(world, package, tmp_path, module):
    copy = tmp_path / "broken"
    shutil.copytree(package, copy)
    sound = (copy / module).read_text(encoding="utf-8")
    before, after = BROKEN[module]
    assert before in sound
    (copy / module).write_text(sound.replace(before, after), encoding="utf-8")
    broken = World(world.folder, (copy,))
    code, printed = broken.run("score", "new.bmp", "--device", "cpu", "-o", str(tmp_path / "r"))
    assert code == 1
    assert "of the package my-plug-ins 1.0 failed (ZeroDivisionError: " in printed
    assert "Traceback" not in printed


class TestTheDetectorOfThePage(DetectorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, package: Path):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(package))
            from extremes import Extremes, ExtremesConfig
        Extremes.name = "extremes"  # as its registration does
        return lambda features: Extremes(features, ExtremesConfig(layers=("a", "b")))


def test_the_reader_of_the_page_reads_beyond_its_picture(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    from bitmap import Bitmap

    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.bmp", dpi=(50_800, 50_800))
    slide = Bitmap(tmp_path / "a.bmp", mpp=0.3)
    assert (slide.mpp.x, slide.mpp.source) == (0.3, "--mpp")
    region = slide.read_level(0, -2, -1, 20, 3)
    assert np.array_equal(region.rgb[1:, 2:9], picture[:2])
    assert region.coverage.sum() == 2 * 7
    assert (region.rgb[~region.coverage] == 255).all()
    assert not slide.read_level(0, 30, -9, 4, 4).coverage.any()

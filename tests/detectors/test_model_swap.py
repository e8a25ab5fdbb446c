"""A model that was being replaced when its process was killed is still there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.detectors import Model

DIE = """
import os, signal, sys
from wsi_anomaly.core.files import atomic_folder
def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]) == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
with atomic_folder(sys.argv[1]) as partial:
    (partial / "model.json").write_text("{}")
"""


def test_the_former_model_comes_back(tmp_path: Path) -> None:
    shipped = min(file.parent for file in models_folder().glob("*/model.json"))
    folder = tmp_path / "model"
    shutil.copytree(shipped, folder)
    subprocess.run([sys.executable, "-c", DIE, str(folder)], check=False)
    assert not folder.exists()
    assert Model.load(folder).hash == Model.load(shipped).hash
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_where_there_never_was_one_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model"):
        Model.load(tmp_path / "model")

"""A small world, made once: slides, their tiles, a model and its results, undisturbed."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from one_run import often_saved

SLIDES = 7
CONFIG = """\
batch_size = 8
validate_every = 4
density_estimator = "knn"
[steps]
16 = [0, 4]
32 = [3, 3]
64 = [3, 12]
"""
CHECKPOINT_EVERY = 3
TILE = ("tile", "slides", "--magnifications", "10,20", "--workers", "2")
TRAIN = ("train", "tiles", "--config", "train.toml")
SCORE = ("score", "new", "--model", "model", "--heatmap", "--workers", "1")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides in ``slides/``, those to score in ``new/``, ``train.toml``."""
    from wsi_anomaly.synthetic import make_slide

    folder = tmp_path_factory.mktemp("world")
    (folder / "train.toml").write_text(CONFIG)
    for part in ("slides", "new"):
        (folder / part).mkdir()
    for i in range(SLIDES):
        make_slide(folder / "slides" / f"normal{i}.tif", seed=900 + i, size_px=(512, 512), mpp=0.5)
    for i in range(2):
        make_slide(folder / "new" / f"new{i}.tif", seed=950 + i, size_px=(512, 512), mpp=0.5)
    return folder


def command_in_process(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command in this process, which spares an interpreter: exit code, what it printed."""
    from wsi_anomaly.cli.main import main

    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "1000")
        often_saved(CHECKPOINT_EVERY, patch.setattr)
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            code = main([*arguments, "--quiet"])
    return code, text.getvalue()


def _made(folder: Path, *arguments: str) -> None:
    code, printed = command_in_process(folder, *arguments)
    assert code == 0, printed


@pytest.fixture(scope="session")
def tiles(world: Path) -> Path:
    """``world/tiles``, as ``tile`` leaves them."""
    _made(world, *TILE)
    return world / "tiles"


@pytest.fixture(scope="session")
def model(world: Path, tiles: Path) -> Path:
    """``world/model``, as ``train`` leaves it."""
    _made(world, *TRAIN)
    return world / "model"


@pytest.fixture(scope="session")
def results(world: Path, model: Path) -> Path:
    """``world/results``, as ``score`` leaves them."""
    _made(world, *SCORE)
    return world / "results"

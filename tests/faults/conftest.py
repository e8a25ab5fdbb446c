"""A small world, made once: slides, their tiles, a model and its results, undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faults_running import fresh, run
from faults_world import CONFIG, LONG, SCORE, SLIDES, TILE, TRAIN, command_in_process


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


@pytest.fixture(scope="session")
def undisturbed(
    world: Path, results: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """What a long command leaves: its output, or a file of what it has printed."""
    _made(world, "tile", "new/new0.tif", "--magnifications", "10", "-o", "few")
    (world / "labels.csv").write_text("slide,label\nnew0,abnormal\nnew1,normal\n")
    made: dict[str, Path] = {}

    def of(command: str) -> Path:
        work = LONG[command]
        if (world / work.output).exists() and work.output:
            return world / work.output
        if command not in made:
            folder = fresh(world, tmp_path_factory.mktemp("undisturbed") / "run", *work.needs)
            ended = run(folder, *work.arguments)
            assert ended.code == 0, ended.printed
            (folder / "printed").write_text(ended.printed)
            made[command] = folder / (work.output or "printed")
        return made[command]

    return of

"""What several tests of the command line need: a model, a slide, a small demo run once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_running import Ran, run_cli

sys.path.append(str(Path(__file__).parents[1] / "scoring"))

from scoring_fakes import make_slide
from small_model import save_small_model


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """``wsi-anomaly demo`` on small slides with a handful of training steps."""
    from wsi_anomaly.demo import run as demo
    from wsi_anomaly.demo import slides as demo_slides
    from wsi_anomaly.demo.slides import DemoSlide

    size = (640, 640)
    slides = (
        *(DemoSlide("normal", f"normal {i}", 40 + i, size_px=size) for i in range(8)),
        DemoSlide("new", "unseen normal", 60, size_px=size),
        DemoSlide("new", "unseen lesion 1", 61, "easy", size_px=size),
        DemoSlide("new", "unseen lesion 2", 62, "easy", size_px=size),
    )
    folder = tmp_path_factory.mktemp("small demo")
    config = folder / "few steps.json"
    config.write_text(
        json.dumps({"steps": {"16": [0, 2], "32": [1, 2], "64": [1, 4]}, "batch_size": 8})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_slides, "SLIDES", slides)
        patch.setattr(demo, "CONFIG", str(config))
        code, printed = run_cli("demo", "-o", folder / "demo", "--workers", "1")
        yield Ran(folder / "demo", code, printed)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("score")


@pytest.fixture(scope="module")
def model(work):
    """A small trained model, in a folder."""
    (work / "normals").mkdir()
    return save_small_model(work / "model", work / "normals")


@pytest.fixture(scope="module")
def slide(work):
    """A slide with a lesion."""
    (work / "slides").mkdir()
    return make_slide(work / "slides" / "lesion.tif", seed=1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

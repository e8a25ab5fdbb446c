"""The commands of the faults and what they are given."""

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

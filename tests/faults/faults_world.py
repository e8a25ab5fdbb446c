"""The commands of the faults and what they are given."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Work:
    """A command, what it needs, and where its outputs go.

    Attributes
    ----------
    output
        "" for a command that writes nothing: what it prints is its result.
    first
        Appears when the work has begun; "" for a command that writes at its end.
    """

    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    output: str
    first: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    workers: tuple[str, ...] = ()


WORK = {
    "tile": Work(TILE, ("slides",), "tiles", "tiles", workers=("--workers", "2")),
    "train": Work(
        TRAIN,
        ("slides", "tiles", "train.toml"),
        "model",
        ".model.training",
        {"FAULTS_CHECKPOINT_EVERY": str(CHECKPOINT_EVERY)},
    ),
    "score": Work(SCORE, ("new", "model"), "results", "results", workers=("--workers", "2")),
}
LONG = WORK | {
    "calibrate": Work(
        ("calibrate", "new", "--model", "model", "-o", "calibrated"), ("new", "model"), "calibrated"
    ),
    "tune": Work(
        ("tune", "tiles", "--anomalies", "few", "--detector", "density", "--trials", "2"),
        ("tiles", "few"),
        "tuned",
    ),
    "evaluate": Work(
        ("evaluate", "results", "--labels", "labels.csv"),
        ("new", "results", "labels.csv"),
        "evaluation",
    ),
    "check": Work(("check", "new", "--model", "model"), ("new", "model"), ""),
    "preview": Work(("preview", "new", "-o", "sheets"), ("new",), "sheets"),
}
"""All that run for long. Those that write as they go are killed at more moments."""


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

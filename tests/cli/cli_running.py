"""Run a command in this process, as a user would type it."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    """What a command left: its folder, exit code and everything that it printed."""

    folder: Path
    code: int
    printed: str


def run_cli(*arguments: str | Path) -> tuple[int, str]:
    """Run a command in this process; its exit code, and what it printed."""
    from wsi_anomaly.cli.main import main

    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main([str(argument) for argument in arguments])
    return code, text.getvalue()

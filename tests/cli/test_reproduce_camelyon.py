"""``reproduce camelyon16``: from the challenge's folders to the table in one command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cli_running import run_cli

from wsi_anomaly.detectors import Dpa

sys.path.append(str(Path(__file__).parents[1] / "reproduce"))
from tiny_sets import make_camelyon


def test_one_command_goes_the_whole_path_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes is said first; a second call, after Ctrl-C in a training, ends it."""
    download = make_camelyon(tmp_path / "challenge")
    asked = (
        "reproduce", "camelyon16", download, "-o", tmp_path, "--features", "compact", "--rows",
        "dpa,mean-colour", "--steps", "12", "--batch-size", "4", "--seeds", "1", "--workers", "1",
    )  # fmt: skip
    real = Dpa.fit

    def interrupted(detector, tiles, validation=None, fitting=None):
        def stop(report):
            if report.step >= 6:
                raise KeyboardInterrupt

        fitting.progress = stop
        return real(detector, tiles, validation, fitting)

    monkeypatch.setattr(Dpa, "fit", interrupted)
    code, printed = run_cli(*asked)
    assert code == 130, printed
    words = " ".join(printed.split())
    assert "Tiles of 5 slides: at most 0.0 GB in" in words
    files = sorted((tmp_path / "camelyon16" / "tiles").rglob("*.h5"))
    stamps = [file.stat().st_mtime_ns for file in files]
    left = list((tmp_path / "camelyon16" / "cells").rglob("*.safetensors"))
    assert left  # from which the training goes on
    monkeypatch.undo()
    code, printed = run_cli(*asked)
    assert code == 0, printed
    assert [file.stat().st_mtime_ns for file in files] == stamps
    table = json.loads((tmp_path / "camelyon16" / "table.json").read_text())
    assert {row["row"] for row in table["rows"]} == {"dpa", "mean-colour"}
    assert all(row["cells"] == [1, 1] for row in table["rows"])

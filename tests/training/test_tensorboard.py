"""TensorBoard reads what training writes; without it training goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wsi_anomaly.autoencoder.loop import Report
from wsi_anomaly.training.tensorboard import TensorBoardLog

LINE = Report(50, 200, "train at 16 px", 1.0, 0.5, None, None, 100.0)


def scalars(folder: Path, name: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), purge_orphaned_data=True)
    found.Reload()
    return {event.step: round(event.value, 6) for event in found.Scalars(name)}


def test_tensorboard_shows_the_curves_and_a_resumed_run_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path)
    for step, loss in ((50, 0.5), (100, 0.4), (150, 0.3)):
        log.report(replace(LINE, step=step, loss=loss))
    # Visible while training still runs.
    assert scalars(tmp_path, "loss") == {50: 0.5, 100: 0.4, 150: 0.3}
    log.files()
    # Killed, and resumed from a checkpoint at step 50.
    again = TensorBoardLog(tmp_path)
    for step, loss in ((100, 0.45), (150, 0.35)):
        again.report(replace(LINE, step=step, loss=loss, validation=loss + 1))
    files = again.files()
    assert scalars(tmp_path, "loss") == {50: 0.5, 100: 0.45, 150: 0.35}
    assert scalars(tmp_path, "validation") == {100: 1.45, 150: 1.35}
    assert list(files) == ["events.out.tfevents.0", "events.out.tfevents.1"]
    copies = tmp_path / "model"
    copies.mkdir()
    for name, content in files.items():
        (copies / name).write_bytes(content)
    assert scalars(copies, "loss") == {50: 0.5, 100: 0.45, 150: 0.35}


def test_without_tensorboard_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log = TensorBoardLog(tmp_path / "log")
    log.report(LINE)
    assert log.files() == {}

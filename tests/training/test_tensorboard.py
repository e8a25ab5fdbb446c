"""TensorBoard reads what training writes; without it training goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wsi_anomaly.learning.loop import Report
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
        log.report("dpa", replace(LINE, step=step, loss=loss))
    # Visible while training still runs.
    assert scalars(tmp_path / "dpa", "loss") == {50: 0.5, 100: 0.4, 150: 0.3}
    log.files()
    # Killed, and resumed from a checkpoint at step 50.
    again = TensorBoardLog(tmp_path)
    for step, loss in ((100, 0.45), (150, 0.35)):
        again.report("dpa", replace(LINE, step=step, loss=loss, validation=loss + 1))
    files = again.files()
    assert scalars(tmp_path / "dpa", "loss") == {50: 0.5, 100: 0.45, 150: 0.35}
    assert scalars(tmp_path / "dpa", "validation") == {100: 1.45, 150: 1.35}
    folder = "tensorboard/dpa/events.out.tfevents"
    assert list(files) == [f"{folder}.0", f"{folder}.1"]
    for name, content in files.items():
        place = tmp_path / "model" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    copies = tmp_path / "model" / "tensorboard" / "dpa"
    assert scalars(copies, "loss") == {50: 0.5, 100: 0.45, 150: 0.35}


def test_a_second_method_leaves_the_curves_of_the_first(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path)
    for method, loss in (("dpa", 0.5), ("ganomaly", 2.0)):
        for step in (50, 100):
            log.report(method, replace(LINE, step=step, loss=loss))
    assert len(log.files()) == 2
    assert scalars(tmp_path / "dpa", "loss") == {50: 0.5, 100: 0.5}
    assert scalars(tmp_path / "ganomaly", "loss") == {50: 2.0, 100: 2.0}


def test_without_tensorboard_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log = TensorBoardLog(tmp_path / "log")
    log.report("dpa", LINE)
    assert log.files() == {}

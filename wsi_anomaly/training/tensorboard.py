"""A log for TensorBoard, where that is installed (the extra ``tensorboard``).

While ``train`` runs it lies in its working folder, ``.<model>.training/tensorboard``; a finished
model holds it too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsi_anomaly.learning.loop import Report

_FOLDER = "tensorboard"  # of a model
_NAME = "events.out.tfevents"  # by which TensorBoard knows them; the time follows


class TensorBoardLog:
    """Writes each report as scalars; does nothing without TensorBoard.

    Every method is a run of its own, as TensorBoard calls it: each counts its steps from 0.

    Parameters
    ----------
    folder : Path
        Of the runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def report(self, method: str, report: Report) -> None:
        """Add one line of a training's log; what a resumed run repeats is replaced."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        if method not in self._writers:
            self._writers[method] = SummaryWriter(
                str(self._folder / method), purge_step=report.step
            )
        writer = self._writers[method]
        for name in ("loss", "validation", "critic", "alpha", "tiles_per_second"):
            value = getattr(report, name)
            if value is not None:
                writer.add_scalar(name, value, report.step)
        writer.flush()

    def files(self) -> dict[str, bytes]:
        """Return the event files, numbered (their own names tell the machine's); closes the log."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        return {
            f"{_FOLDER}/{run.name}/{_NAME}.{i}": file.read_bytes()
            for run in sorted(self._folder.glob("*/"))
            for i, file in enumerate(sorted(run.glob(f"{_NAME}.*")))
        }

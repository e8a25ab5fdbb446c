"""A log for TensorBoard, where that is installed (the extra ``tensorboard``).

While ``train`` runs it lies in its working folder, ``.<model>.training/tensorboard``; a finished
model holds it too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsi_anomaly.autoencoder.loop import Report

_NAME = "events.out.tfevents"  # by which TensorBoard knows them; the time follows


class TensorBoardLog:
    """Writes each report as scalars; does nothing without TensorBoard.

    Parameters
    ----------
    folder : Path
        Of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def report(self, report: Report) -> None:
        """Add one line of the training's log; what a resumed run repeats is replaced."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=report.step)
        for name in ("loss", "validation", "critic", "alpha", "tiles_per_second"):
            value = getattr(report, name)
            if value is not None:
                self._writer.add_scalar(name, value, report.step)
        self._writer.flush()

    def files(self) -> dict[str, bytes]:
        """Return the event files, numbered (their own names tell the machine's); closes the log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        files = sorted(self._folder.glob(f"{_NAME}.*"))
        return {f"{_NAME}.{i}": file.read_bytes() for i, file in enumerate(files)}

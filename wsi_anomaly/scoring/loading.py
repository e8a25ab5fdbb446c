"""The model that slides are scored with, loaded once in a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from wsi_anomaly.core.devices import choose_device
from wsi_anomaly.scoring.model import ScoringModel


def load_model(folder: Path | None, device: str, threads: int | None = None) -> ScoringModel:
    """Load a model, once in a process; None: the one that learns from each slide itself.

    It is loaded again when its folder has been written anew.
    """
    if folder is None:
        return _load(None, None, (), device, threads)
    place = folder.absolute()  # the same words mean another folder elsewhere
    written = tuple(map(_stamp, sorted(folder.glob("model.*"))))
    return _load(folder, place, written, device, threads)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        now = path.stat()
    except OSError:
        return ()
    return now.st_mtime_ns, now.st_size, now.st_ino


@lru_cache(maxsize=2)
def _load(
    folder: Path | None,
    _place: Path | None,
    _written: tuple[tuple[int, ...], ...],
    device: str,
    threads: int | None,
) -> ScoringModel:
    import torch

    from wsi_anomaly.detectors import Model

    device = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if folder is None:
        from wsi_anomaly.scoring.alone import SlideAlone

        return SlideAlone(device)
    return Model.load(folder, device=device)

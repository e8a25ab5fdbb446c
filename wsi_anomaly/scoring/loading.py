"""The model that slides are scored with, loaded once in a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from wsi_anomaly.core.devices import choose_device
from wsi_anomaly.scoring.model import ScoringModel


@lru_cache(maxsize=2)
def load_model(folder: Path | None, device: str, threads: int | None = None) -> ScoringModel:
    """Load a model, once in a process; None: the one that learns from each slide itself."""
    import torch

    from wsi_anomaly.detectors import Model

    device = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if folder is None:
        from wsi_anomaly.scoring.alone import SlideAlone

        return SlideAlone(device)
    return Model.load(folder, device=device)

"""What scoring needs of a model, and the options that decide a result."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.scoring.controls import Controls


class ScoringModel(Protocol):
    """What scoring needs of a model (``wsi_anomaly.detectors.Model`` is one)."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def magnification(self) -> int:
        """10, 20 or 40: what it looks at."""

    @property
    def tile_size(self) -> int:
        """Side of a tile, pixels at that magnification."""

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How pixels become tiles (``tiles.Preprocessing.to_dict()``)."""

    @property
    def primary(self) -> str:
        """The method that ranks."""

    @property
    def calibration(self) -> Mapping[str, Calibration]:
        """Normal reference of each method; empty without one."""

    @property
    def seen(self) -> Mapping[str, str]:
        """Fingerprints of slides it has seen, to "train", "validation" or "calibration"."""

    @property
    def domain(self) -> Mapping[str, Any]:
        """What the training slides are like, see ``domain_warnings``."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Short facts for people."""

    @property
    def version(self) -> Any:
        """Version of the model folder's format or of the model."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, each with a raw score."""

    @property
    def hash(self) -> str:
        """Identity of the model by content."""

    def score_tiles(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.floating]]:
        """Raw scores (N,) per method of tiles (N, S, S, 3)."""

    def pixel_maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Error maps (N, S, S) of tiles; None if no method makes such."""


def scoring_settings(
    model: ScoringModel,
    *,
    stride_um: float | None = None,
    min_tissue: float = 0.1,
    mpp: float | None = None,
    false_regions: float = 1.0,
    fdr: float | None = None,
    pixel_map: bool = False,
    tissue_mask: Path | None = None,
    controls: Controls | None = None,
) -> dict[str, float | str | None]:
    """Options that decide a result, with their defaults filled in; see ``score_slide``."""
    field_um = model.tile_size * mpp_of(model.magnification)
    settings = {
        "stride_um": field_um if stride_um is None else stride_um,
        "min_tissue": min_tissue,
        "mpp": mpp,
        "false_regions": false_regions,
        "fdr": fdr,
        "pixel_map": pixel_map,
        "tissue_mask": None if tissue_mask is None else fingerprint(tissue_mask),
    }
    return settings if controls is None else settings | {"controls": controls.identity}


@lru_cache(maxsize=2)
def load_model(folder: Path, device: str, threads: int | None = None) -> ScoringModel:
    """Load a model, once in a process."""
    import torch

    from wsi_anomaly.detectors import Model

    if threads is not None:
        torch.set_num_threads(threads)
    return Model.load(folder, device=device)

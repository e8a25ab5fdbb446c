"""What scoring needs of a model, and the options that decide a result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.scoring.controls import Controls
from wsi_anomaly.tiles.inputs import file_for, find_file, identity

if TYPE_CHECKING:
    from wsi_anomaly.features import PerceptualNetwork
    from wsi_anomaly.features.dense import DenseMaps


ALONE = "this slide alone"
"""Name of the model, and of the reference, of a slide that is compared with itself."""

LEAST_CELLS = 12  # 0.05 mm2 where cells are 64 um wide
"""Cells of a kind of tissue that have to be marked as normal on a slide, if any are."""

MARKED = "marks on this slide"
"""The same of a slide that is compared with what a person has marked as normal on it."""

LIMITS = {
    ALONE: "No normal slides were at hand: the slide was compared with itself. High scores are "
    "unlike the rest of this slide, nothing is flagged, and scores do not compare with those of "
    "other slides. Where most of the tissue is lesion, it is the normal part that stands out. "
    "Train a model on normal slides (wsi-anomaly tile, wsi-anomaly train) for more.",
    MARKED: "No normal slides were at hand: the slide was compared with what is marked as normal "
    "on it. High scores are unlike every kind of tissue that is marked, normal tissue of other "
    "kinds too; nothing is flagged, and scores do not compare with those of other slides. Train a "
    "model on normal slides (wsi-anomaly tile, wsi-anomaly train) for more.",
}
"""What to say of scores that compare with no other slide's, by the model's name."""


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
    def tile_methods(self) -> tuple[str, ...]:
        """Those that judge tiles, each by itself."""

    @property
    def fields_um(self) -> tuple[int, ...]:
        """Sides of the fields round a cell that the other methods judge; none: there are none."""

    @property
    def hash(self) -> str:
        """Identity of the model by content."""

    def score_tiles(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.floating]]:
        """Raw scores (N,) of tiles (N, S, S, 3) per method that judges tiles."""

    @property
    def features(self) -> PerceptualNetwork:
        """The network, on its device."""

    def dense_maps(self) -> DenseMaps:
        """Give the network with the layers that fields are pooled from."""

    def score_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]], shares: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.floating]]:
        """Raw scores (N,) per method that judges fields.

        Of embeddings by size in um (N, D), and the least share (N,) of tissue in the fields.
        """

    def place_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]]
    ) -> NDArray[np.floating] | None:
        """Where fields lie in a space of few axes, (N, k), for comparing slides; None: nowhere."""

    def pixel_maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Error maps (N, S, S) of tiles; None if no method makes such."""


class Grid(TypedDict):
    """Side of a field in the results, and from one to the next, um."""

    field_um: float
    stride_um: float


def grid_of(model: ScoringModel, stride_um: float | None) -> Grid:
    """Lay the grid of a slide's results.

    Where fields are judged round a cell, results are of cells, one step wide; else of tiles.

    Raises
    ------
    UsageError
        Cells would be no whole number of pixels wide: their fields are pooled from a map of pixels,
        and a rounded step would leave the cells behind, the farther the more.
    """
    mpp = mpp_of(model.magnification)
    tile_um = model.tile_size * mpp
    step = tile_um if stride_um is None else stride_um
    if model.fields_um and not (step / mpp).is_integer():
        raise UsageError(
            f"A stride of {step:g} um is no whole number of pixels at {model.magnification}x "
            f"({mpp:g} um), which this model needs; give {max(1, round(step / mpp)) * mpp:g}, say."
        )
    return {"field_um": step if model.fields_um else tile_um, "stride_um": step}


def facts_of(model: ScoringModel) -> dict[str, Any]:
    """Say which model this is, for the results."""
    return {
        "name": model.name,
        "version": model.version,
        "hash": model.hash,
        "magnification": model.magnification,
        "tile_size": model.tile_size,
        "methods": list(model.methods),
        "fields_um": list(model.fields_um),
        "primary": model.primary,
        "provenance": dict(model.provenance),
        "takes_marks": takes_marks(model),
    }


def takes_marks(model: ScoringModel) -> bool:
    """Whether a model can refer to normal tissue that is marked on the slide itself."""
    if model.name in LIMITS:
        return True
    detector = getattr(model, "detectors", {}).get(model.primary)
    return bool(getattr(detector, "takes_own", False))


def scoring_settings(
    path: Path, model: ScoringModel, options: ScoreOptions, controls: Controls | None = None
) -> dict[str, float | str | None]:
    """Options that decide the result of a slide, with their defaults filled in.

    Raises
    ------
    AnnotationError
        Its tissue mask is missing, or cannot be read, or its marked normal tissue cannot.
    """
    mask = mask_of(path, options)
    settings = {
        "stride_um": grid_of(model, options.stride_um)["stride_um"],
        "min_tissue": options.min_tissue,
        "mpp": options.mpp,
        "false_regions": options.false_regions,
        "fdr": options.fdr,
        "pixel_map": options.pixel_map,
        "tissue_mask": None if mask is None else identity(mask, options.origin),
    }
    if options.all_flags:
        settings["all_flags"] = True
    if options.scene is not None:
        settings["scene"] = options.scene
    if (normal := normal_of(path, options)) is not None:
        settings["normal"] = identity(normal, options.origin)
    return settings if controls is None else settings | {"controls": controls.identity}


def mask_of(path: Path, options: ScoreOptions) -> Path | None:
    """File that says where the tissue of a slide is; None: it is to be found.

    Raises
    ------
    AnnotationError
        The folder of tissue masks has none for the slide.
    """
    return None if options.tissue_mask is None else file_for(Path(options.tissue_mask), path)


def normal_of(path: Path, options: ScoreOptions) -> Path | None:
    """File that marks normal tissue of a slide; None: nobody has marked any."""
    return None if options.normal is None else find_file(Path(options.normal), path)

"""No normal slides at hand: a slide is its own reference, "unlike the rest of this slide".

The density of the slide's own fields is learned, the most unlike third is left out and it is
learned again, twice: what is rare on the slide then stands out, what most of it consists of does
not, normal or not. What is usual at its edges of tissue is taken off, or they would stand out. Such
scores flag nothing and compare with no other slide.

Where a person has marked kinds of normal tissue on it, these are the reference instead: "unlike
what is marked".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly import __version__
from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.errors import NoTissueError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.detectors import Density, DensityConfig
from wsi_anomaly.detectors.edges import usual_by_share
from wsi_anomaly.features import PerceptualNetwork, load_features, network_spec
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.scoring.model import ALONE, MARKED
from wsi_anomaly.tiles import Fields, Preprocessing, Status
from wsi_anomaly.tiles.plane import Plane

_NETWORK = "lite0"
_MOST_CELLS = 20_000
_KEPT, _ROUNDS = 2 / 3, 2


@dataclass(frozen=True)
class SlideAlone:
    """A :class:`~wsi_anomaly.scoring.ScoringModel` that learns from each slide itself.

    Attributes
    ----------
    device
        Where it computes.
    density
        What was learned from the slide at hand; None before.
    name
        ``ALONE``, or ``MARKED`` where it was learned from marks.
    """

    device: str = "cpu"
    density: Density | None = None
    name: str = ALONE
    magnification: int = 10
    tile_size: int = 64
    primary: str = "density"
    methods: tuple[str, ...] = ("density",)
    tile_methods: tuple[str, ...] = ()
    version: int = 1

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The usual stains."""
        return Preprocessing().to_dict()

    @property
    def fields_um(self) -> tuple[int, ...]:
        """Sides of the fields that are judged."""
        return self._config.fields_um

    @property
    def calibration(self) -> Mapping[str, Calibration]:
        """None: there is no normal slide."""
        return {}

    @property
    def seen(self) -> Mapping[str, str]:
        """No slide was learned from before."""
        return {}

    @property
    def domain(self) -> Mapping[str, Any]:
        """Every slide is its own kind."""
        return {}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Short facts for people."""
        return {"learned_from": self.name, "program": f"wsi-anomaly {__version__}"}

    @property
    def hash(self) -> str:
        """Identity of the procedure, not of what it learned."""
        return config_hash(
            {"alone": self._config.to_dict(), "kept": _KEPT, "rounds": _ROUNDS, "of": _NETWORK}
            | {"edges": "of all fields"}
        )

    @property
    def _config(self) -> DensityConfig:
        spec = network_spec(_NETWORK)
        assert spec is not None
        return DensityConfig(spec.pooled_layers, "both", fields_um=spec.fields_um)

    @property
    def features(self) -> PerceptualNetwork:
        """The network that it looks with."""
        return _network(self.device)

    def learned(self, plane: Plane, cells: Fields, min_tissue: float) -> SlideAlone:
        """Learn from a slide.

        Parameters
        ----------
        plane, cells
            Its pixels and its grid of cells.
        min_tissue
            Least share of tissue of a field.

        Raises
        ------
        NoTissueError
            There is too little tissue to compare anything with.
        """
        density = Density(self.features, self._config)
        drawn: dict[int, list[NDArray[np.float32]]] = {um: [] for um in self.fields_um}
        drawn_shares: list[NDArray[np.float32]] = []
        rng = np.random.default_rng(0)
        share = min(1.0, _MOST_CELLS / max(1, len(cells)))
        for part in embed_cells(plane, cells, self.dense_maps(), self.fields_um):
            kept = (part.shares >= min_tissue) & (rng.random(len(part.indices)) < share)
            drawn_shares.append(part.shares[kept])
            for um, values in part.embeddings.items():
                drawn[um].append(values[kept])
        found = {um: torch.from_numpy(np.concatenate(v)) for um, v in drawn.items() if v}
        count = len(next(iter(found.values()))) if found else 0
        if count < 4 * density.config.neighbours:
            soft = int(np.count_nonzero(plane.status_of(cells) == Status.BLURRED))
            raise NoTissueError(
                f"{count} fields of tissue are too few to compare a slide with itself"
                + (f" ({soft} more are out of focus)" if soft else "")
                + "; give a model with --model."
            )
        shares = torch.from_numpy(np.concatenate(drawn_shares))
        fit_to_most(density, found, shares)
        return replace(self, density=density.to(self.device))

    def learned_from_marks(self, kinds: Sequence[Mapping[int, Tensor]]) -> SlideAlone:
        """Learn from kinds of the slide's normal fields, by size in um (n, D) each.

        A field's distance is that from the nearest kind
        (:func:`wsi_anomaly.detectors.contrast.learn_marked`).
        """
        density = Density(self.features, replace(self._config, estimator="contrast"))
        return replace(self, density=density.fit_marked(kinds).to(self.device), name=MARKED)

    def dense_maps(self) -> DenseMaps:
        """Give the network with the layers that fields are pooled from."""
        return DenseMaps(self.features, self._config.layers)

    def score_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]], shares: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.floating]]:
        """Raw scores (N,) of fields, by size in um (N, D), with their shares (N,) of tissue."""
        assert self.density is not None
        found = {um: torch.from_numpy(v).to(self.device) for um, v in embeddings.items()}
        tissue = torch.from_numpy(shares).to(self.device)
        return {"density": self.density.score_fields(found, tissue).cpu().numpy()}

    def place_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]]
    ) -> NDArray[np.floating] | None:
        """Nowhere, not at (N, k): every slide has axes of its own."""
        return None

    def score_tiles(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.floating]]:
        """No method judges tiles (N, S, S, 3)."""
        return {}

    def pixel_maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """No method has maps (N, S, S)."""
        return None


def fit_to_most(density: Density, found: Mapping[int, Tensor], shares: Tensor) -> None:
    """Learn from fields of one slide, by size in um (N, D), without the most unlike third.

    What is usual at its edges, by shares (N,) of tissue, is learned of all fields: those that a
    fit leaves out would be too few.
    """
    typical = torch.ones(len(shares), dtype=torch.bool)
    for _ in range(1 + _ROUNDS):
        density.fit_fields({um: v[typical] for um, v in found.items()})
        usual = usual_by_share(density.score_fields(found).numpy(), shares.numpy())
        if usual is not None:
            density.state_["usual"] = torch.from_numpy(usual)
        score = density.score_fields(found, shares)
        typical = score <= score.quantile(_KEPT)


@lru_cache(maxsize=1)
def _network(device: str) -> PerceptualNetwork:
    return load_features(_NETWORK).to(device)

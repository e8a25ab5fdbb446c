"""``density``: how far a tile's features lie from those of normal tiles.

One embedding a tile: each layer's normalised activations, averaged over positions, standardised
and brought to length one. The length is left out because it says mostly how much tissue a tile
holds: with it, tiles at the tissue's edge are the farthest from the mean of all.

Two distances: Mahalanobis after PCA to 99% of the variance, with Ledoit and Wolf's shrinkage
(2004), which asks whether the combination of features is usual; and the mean cosine distance to
the k nearest normal tiles, which asks whether anything like it was seen. Neither wins everywhere,
so the score is the mean of both, each in robust units of the normal tiles (``docs/results.md``).

Neighbours: ``dpa`` rebuilds the tile and compares position by position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.autoencoder.batches import Tiles, to_images
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors.base import (
    Detector,
    Fitting,
    State,
    batches,
    device_of,
    fit_missing_statistics,
    sample_images,
)
from wsi_anomaly.features import PerceptualNetwork

ESTIMATORS = ("mahalanobis", "knn", "both")
_MAD_TO_SD = 1.4826
_LEAST_SCALE = 0.1  # of the median deviation
_TENSORS = ("mean", "scale", "components", "centre", "precision_root", "references", "units")


@dataclass(frozen=True)
class DensityConfig:
    """Everything that decides what ``density`` learns.

    Attributes
    ----------
    layers
        Layers of the perceptual network whose averages make the embedding.
    estimator
        "mahalanobis", "knn", or "both": the mean of the two in robust units.
    variance
        Share of the variance that PCA keeps.
    neighbours
        k of the nearest neighbours.
    references
        At most so many normal embeddings are kept for the neighbours.
    most_tiles
        At most so many tiles are looked at.
    seed
        Draws them.
    """

    layers: tuple[str, ...]
    estimator: str = "both"
    variance: float = 0.99
    neighbours: int = 5
    references: int = 8192
    most_tiles: int = 50_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("density needs at least one layer of the perceptual network.")
        if self.estimator not in ESTIMATORS:
            raise UsageError(
                f"The estimators of density are {', '.join(ESTIMATORS)}, not {self.estimator!r}."
            )
        if not 0 < self.variance <= 1 or self.neighbours < 1 or self.references < 1:
            raise UsageError("variance lies in (0, 1]; neighbours and references are at least 1.")


class Density(Detector):
    """Distance of pooled features from normal ones.

    Parameters
    ----------
    features : PerceptualNetwork
    config : DensityConfig

    Attributes
    ----------
    state_ : dict of Tensor
        ``mean``, ``scale`` (D,) standardise an embedding; ``components`` (k, D) and ``centre``
        (k,) project its direction; ``precision_root`` (k, k) turns Mahalanobis into a Euclidean
        length; ``references`` (m, D) are directions of normal tiles; ``units`` (2, 2) median and
        robust deviation of both distances over normal tiles.
    """

    name = "density"

    def __init__(self, features: PerceptualNetwork, config: DensityConfig) -> None:
        super().__init__(features)
        self.config = config
        features.check_layers(config.layers)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that make the embedding."""
        return self.config.layers

    def embed(self, truth: Mapping[str, Tensor]) -> Tensor:
        """Average normalised activations over positions: (N, D)."""
        return torch.cat([truth[name].mean((2, 3)) for name in self.layers], 1)

    @torch.no_grad()
    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Learn the distribution of normal embeddings; see :meth:`Detector.fit`."""
        del validation
        device = fitting.device if fitting else device_of(self.features)
        fit_missing_statistics(self.features, tiles, self.layers)
        images = sample_images(tiles, self.config.most_tiles, self.config.seed)
        found = torch.cat(
            [
                self.embed(self.features(to_images(b, device), self.layers)).float().cpu()
                for b in batches(images)
            ]
        ).numpy()
        if len(found) < 2 * self.config.neighbours + 2:
            raise ModelError(
                f"{len(found)} tiles are too few to learn a density from; give at least "
                f"{2 * self.config.neighbours + 2}."
            )
        self.state_ = _learn(found.astype(np.float64), self.config)
        self.to(device)
        # The units come from tiles that are not among the references: a tile is its own nearest.
        half = torch.as_tensor(found[1::2]).to(device)
        kept = self.state_["references"]
        self.state_["references"] = self._direction(torch.as_tensor(found[::2]).to(device))
        distances = torch.stack(self._distances(half), 1)
        self.state_["references"] = kept
        middle = distances.median(0).values
        spread = _MAD_TO_SD * (distances - middle).abs().median(0).values
        self.state_["units"] = torch.stack((middle, spread.clamp_min(1e-6)))
        return self

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Distance from normal tiles, in robust units of theirs."""
        del images
        units = self.state_["units"]
        mahalanobis, knn = (
            (distance - units[0, k]) / units[1, k]
            for k, distance in enumerate(self._distances(self.embed(truth)))
        )
        both: Tensor = {
            "mahalanobis": mahalanobis,
            "knn": knn,
            "both": (mahalanobis + knn) / 2,
        }[self.config.estimator]
        return both

    def _direction(self, embedding: Tensor) -> Tensor:
        return _unit((embedding.float() - self.state_["mean"]) / self.state_["scale"])

    def _distances(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Mahalanobis distance and mean cosine distance to the nearest, each (N,)."""
        s = self.state_
        u = self._direction(embedding)
        whitened = (u @ s["components"].T - s["centre"]) @ s["precision_root"]
        similar = u @ s["references"].T
        k = min(self.config.neighbours, similar.shape[1])
        return torch.linalg.vector_norm(whitened, dim=1), 1 - similar.topk(k, 1).values.mean(1)

    def to(self, device: torch.device | str) -> Self:
        """Move what has been learned."""
        self.state_ = {name: t.to(device) for name, t in self.state_.items()}
        return self

    def to_state(self) -> State:
        """Tensors of ``state_``, and the configuration."""
        config = asdict(self.config)
        config["layers"] = list(self.config.layers)
        return {name: t.detach().cpu().contiguous() for name, t in self.state_.items()}, config

    @classmethod
    def from_state(
        cls,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        features: PerceptualNetwork,
        others: Mapping[str, Detector],
    ) -> Self:
        """Rebuild the detector; see :meth:`Detector.from_state`."""
        values = {**config, "layers": tuple(str(name) for name in config["layers"])}
        detector = cls(features, DensityConfig(**values))
        state = {name: tensors[name].float() for name in _TENSORS}
        width, kept = state["mean"].shape[0], state["centre"].shape[0]
        expected = {
            "mean": (width,), "scale": (width,), "components": (kept, width), "centre": (kept,),
            "precision_root": (kept, kept), "units": (2, 2),
            "references": (state["references"].shape[0], width),
        }  # fmt: skip
        for name, shape in expected.items():
            if state[name].shape != shape or not torch.isfinite(state[name]).all():
                raise ValueError(f"density/{name} is not as it should be")
        detector.state_ = state
        return detector


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def _learn(found: NDArray[np.float64], config: DensityConfig) -> dict[str, Tensor]:
    """Standardise, project, shrink, keep references; all but the units."""
    from sklearn.covariance import ledoit_wolf

    mean, scale = found.mean(0), found.std(0)
    # A filter that is nearly dead on normal tiles must not rule on others.
    scale = np.maximum(scale, max(_LEAST_SCALE * float(np.median(scale)), 1e-9))
    z = (found - mean) / scale
    u = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    _, singular, axes = np.linalg.svd(u - u.mean(0), full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    count = int(np.searchsorted(share, config.variance - 1e-12)) + 1
    components = axes[:count]
    projected = u @ components.T
    centre = projected.mean(0)
    covariance, _ = ledoit_wolf(projected)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors / np.sqrt(np.maximum(values, 1e-12 * max(values.max(), 1e-12)))
    rng = np.random.default_rng(config.seed)
    chosen = rng.choice(len(u), min(len(u), config.references), replace=False)
    learned = {
        "mean": mean, "scale": scale, "components": components, "centre": centre,
        "precision_root": root, "references": u[np.sort(chosen)],
    }  # fmt: skip
    state = {name: torch.from_numpy(np.ascontiguousarray(v)).float() for name, v in learned.items()}
    state["units"] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    return state

"""``density``: how far a tile's features lie from those of normal tiles.

One embedding a tile: each layer's normalised activations, averaged over positions and
standardised. Three distances:

- ``mahalanobis``: after PCA to 99% of the variance, with Ledoit and Wolf's shrinkage (2004). Is
  the combination of features usual?
- ``directional``: the same of the embedding brought to length one. On tissue the length says mostly
  how much of it a tile holds, and tiles at the edge are the farthest from the mean of all.
- ``knn``: mean cosine distance to the k nearest normal tiles. Was anything like it seen?

``both``, the default, is the mean of the first two, each in robust units of the normal tiles: on
tissue the second is the better one, on radiographs the first (``docs/results.md``).

Neighbours: ``dpa`` rebuilds the tile and compares position by position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.autoencoder.batches import Tiles
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors.base import DETECTORS, Detector, Fitting, device_of, robust_units
from wsi_anomaly.detectors.settings import Settings
from wsi_anomaly.features import PerceptualNetwork

ESTIMATORS = ("mahalanobis", "directional", "knn", "both")
_PARTS = {"both": ("mahalanobis", "directional")}
_LEAST_SCALE = 0.1  # of the median deviation


@dataclass(frozen=True)
class DensityConfig(Settings):
    """Everything that decides what ``density`` learns.

    Attributes
    ----------
    layers
        Layers of the perceptual network whose averages make the embedding.
    estimator
        "mahalanobis", "directional", "knn", or "both": the mean of the first two in robust units.
    variance
        Share of the variance that PCA keeps.
    neighbours
        k of the nearest neighbours.
    references
        At most so many normal embeddings are kept for the neighbours.
    most_tiles
        At most so many tiles are looked at; the seed draws them.
    """

    layers: tuple[str, ...]
    estimator: str = "both"
    variance: float = 0.99
    neighbours: int = 5
    references: int = 8192
    most_tiles: int = 50_000

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("density needs at least one layer of the perceptual network.")
        if self.estimator not in ESTIMATORS:
            raise UsageError(
                f"The estimators of density are {', '.join(ESTIMATORS)}, not {self.estimator!r}."
            )
        if not 0 < self.variance <= 1 or self.neighbours < 1 or self.references < 1:
            raise UsageError("variance lies in (0, 1]; neighbours and references are at least 1.")


@DETECTORS.register("density")
class Density(Detector):
    """Distance of pooled features from normal ones.

    Parameters
    ----------
    features : PerceptualNetwork
    config : DensityConfig

    Attributes
    ----------
    state_ : dict of Tensor
        ``mean``, ``scale`` (D,) standardise an embedding. For each of ``mahalanobis`` and
        ``directional`` that is used, ``.components`` (k, D) and ``.centre`` (k,) project it and
        ``.root`` (k, k) turns Mahalanobis into a Euclidean length; for ``knn``,
        ``knn.references`` (m, D) are directions of normal tiles. ``units`` (2, n): median and
        robust deviation of each distance over normal tiles.
    """

    config_type = DensityConfig
    config: DensityConfig

    def __init__(self, features: PerceptualNetwork, config: DensityConfig) -> None:
        super().__init__(features, config)
        self._parts = _PARTS.get(config.estimator, (config.estimator,))

    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Learn the distribution of normal embeddings; see :meth:`Detector.fit`."""
        del validation
        device = fitting.device if fitting else device_of(self.features)
        found = self.embed_tiles(tiles, self.config.most_tiles, self.config.seed)
        return self.fit_embeddings(found).to(device)

    def fit_embeddings(self, found: Tensor) -> Self:
        """Learn from embeddings (N, D) on the CPU, as :meth:`embed` makes them of normal tiles."""
        if len(found) < 2 * self.config.neighbours + 2:
            raise ModelError(
                f"{len(found)} tiles are too few to learn a density from; give at least "
                f"{2 * self.config.neighbours + 2}."
            )
        # The units come from tiles that were left out of a first fit: a tile that was learned from
        # is too near, and its own nearest neighbour.
        self.state_ = self._learn(found[::2])
        distances = self._distances(found[1::2])
        self.state_ = self._learn(found)
        self.state_["units"] = robust_units(distances)
        return self

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Distance from normal tiles, in robust units of theirs."""
        del images
        return self.score_embeddings(self.embed(truth))

    def score_embeddings(self, embedding: Tensor) -> Tensor:
        """Raw scores (N,) of embeddings (N, D)."""
        middle, spread = self.state_["units"]
        score: Tensor = ((self._distances(embedding) - middle) / spread).mean(1)
        return score

    def _distances(self, embedding: Tensor) -> Tensor:
        """Each distance that is used, (N, n)."""
        s = self.state_
        z = (embedding.float() - s["mean"]) / s["scale"]
        found = []
        for part in self._parts:
            if part == "knn":
                similar = _unit(z) @ s["knn.references"].T
                k = min(self.config.neighbours, similar.shape[1])
                found.append(1 - similar.topk(k, 1).values.mean(1))
                continue
            projected = (z if part == "mahalanobis" else _unit(z)) @ s[f"{part}.components"].T
            whitened = (projected - s[f"{part}.centre"]) @ s[f"{part}.root"]
            found.append(torch.linalg.vector_norm(whitened, dim=1))
        return torch.stack(found, 1)

    def _learn(self, found: Tensor) -> dict[str, Tensor]:
        """All of the state but the units."""
        embedding = found.double().numpy()
        mean, scale = embedding.mean(0), embedding.std(0)
        # A filter that is nearly dead on normal tiles must not rule on others.
        scale = np.maximum(scale, max(_LEAST_SCALE * float(np.median(scale)), 1e-9))
        z = (embedding - mean) / scale
        unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        learned = {"mean": mean, "scale": scale}
        for part in self._parts:
            if part == "knn":
                rng = np.random.default_rng(self.config.seed)
                most = min(len(unit), self.config.references)
                learned["knn.references"] = unit[np.sort(rng.permutation(len(unit))[:most])]
            else:
                gaussian = _gaussian(z if part == "mahalanobis" else unit, self.config.variance)
                learned |= {f"{part}.{key}": value for key, value in gaussian.items()}
        return {
            name: torch.from_numpy(np.ascontiguousarray(value)).float()
            for name, value in learned.items()
        }

    def state_shapes(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """Shapes that follow from the width of the embedding and what was kept of it."""
        width = tensors["mean"].shape[0]
        expected: dict[str, tuple[int, ...]] = {
            "mean": (width,), "scale": (width,), "units": (2, len(self._parts)),
        }  # fmt: skip
        for part in self._parts:
            if part == "knn":
                expected["knn.references"] = (tensors["knn.references"].shape[0], width)
            else:
                kept = tensors[f"{part}.centre"].shape[0]
                expected |= {
                    f"{part}.components": (kept, width),
                    f"{part}.centre": (kept,),
                    f"{part}.root": (kept, kept),
                }
        return expected


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def _gaussian(values: NDArray[np.float64], variance: float) -> dict[str, NDArray[np.float64]]:
    """PCA to a share of the variance, and the whitening of Ledoit and Wolf's covariance."""
    from sklearn.covariance import ledoit_wolf

    _, singular, axes = np.linalg.svd(values - values.mean(0), full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    components = axes[: int(np.searchsorted(share, variance - 1e-12)) + 1]
    projected = values @ components.T
    covariance, _ = ledoit_wolf(projected)
    spread, vectors = np.linalg.eigh(covariance)
    root = vectors / np.sqrt(np.maximum(spread, 1e-12 * max(spread.max(), 1e-12)))
    return {"components": components, "centre": projected.mean(0), "root": root}

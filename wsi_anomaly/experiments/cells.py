"""One cell of the results: a method on one division of a set, beside its three controls.

Controls: mean colour alone; the same method on the same network with random weights; and a
supervised upper bound, logistic regression on the same pooled features, cross-validated by group.
A network without per-filter statistics gets those of the set's images, without their labels (of
its training images, where the set has such): a scaling, not knowledge.

Every cell resamples the same groups (patients, slides; images where nothing more is known) in the
same draws, so the draws of several cells can be averaged one by one, and the interval of a mean
over divisions is one over groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.autoencoder import Architecture, GrowthConfig
from wsi_anomaly.autoencoder.batches import ArrayTiles, to_images
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors import Density, DensityConfig, Dpa, DpaConfig, growing_stages
from wsi_anomaly.detectors.base import batches
from wsi_anomaly.evaluation import ColourControl, mean_colours
from wsi_anomaly.experiments.divisions import Division
from wsi_anomaly.experiments.image_sets import ImageSet
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.precision import fast_precision

METHODS = ("density", "dpa")
COLUMNS = ("method", "mean colour", "random features", "supervised")
DRAWS = 200

_STATISTICS_TILES = 2048
_FOLDS = 5


@dataclass(frozen=True)
class Settings:
    """Everything beside the division that decides a figure.

    Attributes
    ----------
    data
        Name of the set.
    size
        Side of the tiles, px.
    method
        "density" or "dpa".
    features
        Perceptual network.
    weights
        Fingerprint of its weights' file; empty for those that come with the program.
    layers
        Layers of the density's embedding, which the supervised bound uses too.
    estimator
        Of ``density``.
    steps, batch_size, learning_rate, latent_channels, width, loss_layer
        Of ``dpa``, which trains at the full size from the start, with a latent vector.
    """

    data: str
    size: int
    method: str
    features: str
    weights: str
    layers: tuple[str, ...]
    estimator: str = "both"
    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 3e-3
    latent_channels: int = 8
    width: int = 8
    loss_layer: str = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"The methods are {', '.join(METHODS)}, not {self.method!r}.")
        if self.steps < 1:
            raise UsageError("dpa needs at least one step.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values: those that the method uses."""
        value = asdict(self) | {"layers": list(self.layers)}
        other = {
            "density": [
                "steps", "batch_size", "learning_rate", "latent_channels", "width", "loss_layer",
            ],
            "dpa": ["estimator"],
        }  # fmt: skip
        return {k: v for k, v in value.items() if k not in other[self.method]}

    def density(self) -> DensityConfig:
        """Configure ``density``."""
        return DensityConfig(self.layers, estimator=self.estimator)

    def dpa(self, seed: int) -> DpaConfig:
        """Configure ``dpa``: no growing, a latent vector."""
        architecture = Architecture(
            resolution=self.size,
            first_resolution=self.size,
            latent_resolution=1,
            latent_channels=self.latent_channels,
            widths=(self.width,),
        )
        growth = GrowthConfig(
            layers={self.size: {self.loss_layer: 1.0}}, learning_rate=self.learning_rate
        )
        stages = growing_stages(architecture, {self.size: (0, self.steps)})
        return DpaConfig(architecture, growth, stages, self.batch_size, seed)


class Bench:
    """A set and a network, with what several cells share.

    Parameters
    ----------
    images : ImageSet
    settings : Settings
    features : PerceptualNetwork
    """

    def __init__(self, images: ImageSet, settings: Settings, features: PerceptualNetwork) -> None:
        self.images, self.settings = images, settings
        self.colours = images.mean_over_images(mean_colours(images.tiles))
        self._trained = self._prepare(features)
        self._random = cache(
            lambda seed: self._prepare(load_features(settings.features, random_seed=seed))
        )

    def run(self, division: Division) -> dict[str, Any]:
        """Measure one division: see :func:`measure`; JSON-ready."""
        colour = ColourControl().fit(self.colours[division.learn])
        scores = {
            "method": self._scores(division, *self._trained),
            "mean colour": colour.score_samples(self.colours),
            "random features": self._scores(division, *self._random(division.seed)),
            "supervised": self._supervised(division),
        }
        return measure(scores, division, self.images.group) | {
            "division": division.name,
            "row": division.row,
            "learned from": len(division.learn),
            "normal": int((~division.abnormal[division.judge]).sum()),
            "abnormal": int(division.abnormal[division.judge].sum()),
        }

    def _prepare(self, network: PerceptualNetwork) -> tuple[Density, Tensor]:
        """Scale the network's filters, and embed every tile, (N, D)."""
        network.set_precision(fast_precision("cpu"))
        settings, tiles = self.settings, self.images.tiles
        used = {*settings.layers, *([settings.loss_layer] if settings.method == "dpa" else [])}
        missing = sorted(layer for layer in used if not network.has_statistics(layer))
        if missing:
            own = np.flatnonzero(self.images.part[self.images.image] == 0)
            chosen = np.random.default_rng(0).permutation(own)[:_STATISTICS_TILES]
            network.fit_statistics((to_images(b) for b in batches(tiles[chosen])), missing)
        density = Density(network, settings.density())
        with torch.inference_mode():
            parts = [
                density.embed(network(to_images(b), density.layers)).float() for b in batches(tiles)
            ]
        return density, torch.cat(parts)

    def _scores(
        self, division: Division, density: Density, embedding: Tensor
    ) -> NDArray[np.float64]:
        """Score every image, (M,): the mean over its tiles."""
        tiles, mine = self.images.tiles, np.isin(self.images.image, division.learn)
        if self.settings.method == "dpa":
            dpa = Dpa(density.features, self.settings.dpa(division.seed))
            scores = dpa.fit(ArrayTiles(tiles[mine])).score_samples(tiles)
        else:
            density.fit_embeddings(embedding[torch.from_numpy(mine)])
            scores = density.score_embeddings(embedding).numpy()
        return self.images.mean_over_images(scores)

    def _supervised(self, division: Division) -> NDArray[np.float64]:
        """Scores (M,) of a classifier that saw neither the image nor its group; NaN elsewhere."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        known = division.known
        labels, groups = division.abnormal[known], division.group[known]
        x = self.images.mean_over_images(self._trained[1].numpy())[known]
        scores = np.full(self.images.count, np.nan)
        folds = StratifiedGroupKFold(
            min(_FOLDS, len(np.unique(groups))), shuffle=True, random_state=division.seed
        )
        for fit, held_out in folds.split(x, labels, groups):
            if len(np.unique(labels[fit])) == 2:
                model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
                scores[known[held_out]] = model.fit(x[fit], labels[fit]).decision_function(
                    x[held_out]
                )
        return scores


def measure(
    scores: Mapping[str, NDArray[np.floating]], division: Division, group: NDArray[np.intp]
) -> dict[str, dict[str, Any]]:
    """ROC AUC of each score (M,) over the judged images, and the same in each draw of groups.

    Images without a score (NaN) are left out; a draw without both classes gives None. `group` (M,)
    is what is drawn, with replacement.
    """
    found: dict[str, Any] = {"auc": {}, "draws": {}}
    drawn = _draws(int(group.max()) + 1)
    for column, values in scores.items():
        judged = division.judge[np.isfinite(values[division.judge])]
        weights = np.vstack((np.ones(len(judged)), drawn[:, group[judged]]))
        aucs = weighted_aucs(division.abnormal[judged], values[judged], weights)
        draws = [None if np.isnan(auc) else round(float(auc), 3) for auc in aucs[1:]]
        found["auc"][column] = None if np.isnan(aucs[0]) else round(float(aucs[0]), 4)
        found["draws"][column] = draws
    return found


def weighted_aucs(
    labels: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """ROC AUC for each row of `weights` (draws, N), all at once; NaN without both classes.

    scikit-learn's ``roc_auc_score(labels, scores, sample_weight=row)``, which takes a thousand
    times as long for hundreds of rows.
    """
    _, place = np.unique(scores, return_inverse=True)
    order = np.argsort(place, kind="stable")
    # Equal scores are one step of the curve.
    first = np.flatnonzero(np.diff(place[order], prepend=-1))
    normal = np.add.reduceat(np.where(labels, 0, weights)[:, order], first, axis=1)
    abnormal = np.add.reduceat(np.where(labels, weights, 0)[:, order], first, axis=1)
    below = np.cumsum(normal, 1) - normal / 2
    pairs = normal.sum(1) * abnormal.sum(1)
    with np.errstate(invalid="ignore"):
        aucs: NDArray[np.float64] = (abnormal * below).sum(1) / pairs
    return aucs


def _draws(groups: int) -> NDArray[np.float64]:
    """How often each group is drawn, (draws, groups)."""
    rng = np.random.default_rng(0)
    rows = [np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(DRAWS)]
    return np.array(rows, np.float64)

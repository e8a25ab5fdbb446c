"""An isolation forest as plain arrays: grown by scikit-learn, stored and asked without pickle.

Liu, Ting and Zhou, "Isolation Forest", ICDM 2008. A tree cuts the feature space at random until
every sample stands alone; what few cuts isolate is unusual.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NAMES = ("feature", "threshold", "left", "right", "length")


class IsolationTrees:
    """The trees of an isolation forest.

    Parameters
    ----------
    arrays : mapping of str to Tensor (T, M)
        One row a tree, one column a node, the root first. ``feature`` (int64) and ``threshold``
        (float64) cut, samples at or below the threshold go to ``left`` (int64), others to
        ``right``; a leaf points to itself, and its ``length`` (float64) is the path to it with
        what is expected below.
    samples : int
        Number of samples that each tree was grown on.

    Raises
    ------
    ValueError
        The arrays do not describe trees.
    """

    def __init__(self, arrays: Mapping[str, Tensor], samples: int) -> None:
        self.arrays = {name: arrays[name] for name in _NAMES}
        self.samples = samples
        shape = self.arrays["feature"].shape
        if len(shape) != 2 or any(a.shape != shape for a in self.arrays.values()) or samples < 2:
            raise ValueError("the trees of the isolation forest are not as they should be")
        if any(self.arrays[n].dtype != torch.int64 for n in ("feature", "left", "right")):
            raise ValueError("the nodes of the isolation forest are no whole numbers")
        own = torch.arange(shape[1]).expand(shape)
        children = (self.arrays["left"], self.arrays["right"])
        # A child comes after its parent, so that every path ends.
        forward = all(((c >= own) & (c < shape[1])).all() for c in children)
        leaf = (children[0] == own) == (children[1] == own)
        finite = torch.isfinite(self.arrays["threshold"]) & torch.isfinite(self.arrays["length"])
        if not forward or not leaf.all() or not finite.all() or self.arrays["feature"].min() < 0:
            raise ValueError("the nodes of the isolation forest do not form trees")
        self._depth = max(1, math.ceil(math.log2(samples)))

    @classmethod
    def grow(cls, embedding: NDArray[np.float32], trees: int, samples: int, seed: int) -> Self:
        """Grow a forest on embeddings (N, D); `samples` of them, at most, for each tree."""
        from sklearn.ensemble import IsolationForest

        forest = IsolationForest(n_estimators=trees, max_samples=samples, random_state=seed)
        return cls.exported(forest.fit(embedding))

    @classmethod
    def exported(cls, forest: Any) -> Self:
        """Take over the trees of a fitted ``sklearn.ensemble.IsolationForest``."""
        most = max(tree.tree_.node_count for tree in forest.estimators_)
        rows: dict[str, list[NDArray[Any]]] = {name: [] for name in _NAMES}
        for estimator, features in zip(
            forest.estimators_, forest.estimators_features_, strict=True
        ):
            tree, own = estimator.tree_, np.arange(estimator.tree_.node_count)
            leaf = tree.children_left < 0
            depth = np.zeros(len(own))
            for node in own[~leaf]:
                depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1
            row = {
                "feature": features[np.where(leaf, 0, tree.feature)],
                "threshold": np.where(leaf, 0.0, tree.threshold),
                "left": np.where(leaf, own, tree.children_left),
                "right": np.where(leaf, own, tree.children_right),
                "length": depth + expected_length(tree.n_node_samples),
            }
            for name, values in row.items():
                spare = np.arange(len(own), most) if name in ("left", "right") else 0
                padded = np.zeros(most, np.float64 if name in ("threshold", "length") else np.int64)
                padded[: len(own)], padded[len(own) :] = values, spare
                rows[name].append(padded)
        arrays = {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}
        return cls(arrays, int(forest.max_samples_))

    def score(self, embedding: Tensor) -> Tensor:
        """Anomaly scores (N,) float32 of embeddings (N, D): 2^(-mean path / expected path).

        Raises
        ------
        ValueError
            The trees ask for features that the embeddings do not have.
        """
        feature, threshold = self.arrays["feature"], self.arrays["threshold"]
        if int(feature.max()) >= embedding.shape[1]:
            raise ValueError("the isolation forest belongs to other features")
        trees = torch.arange(len(feature), device=embedding.device)
        node = torch.zeros(len(embedding), len(feature), dtype=torch.int64, device=embedding.device)
        for _ in range(self._depth):
            value = embedding.gather(1, feature[trees, node]).double()
            below = value <= threshold[trees, node]
            node = torch.where(
                below, self.arrays["left"][trees, node], self.arrays["right"][trees, node]
            )
        path = self.arrays["length"][trees, node].mean(1)
        usual = float(expected_length(np.array([self.samples]))[0])
        return torch.exp2(-path / usual).float()

    def to(self, device: torch.device | str) -> None:
        """Move the arrays."""
        self.arrays = {name: a.to(device) for name, a in self.arrays.items()}


def expected_length(samples: NDArray[np.integer]) -> NDArray[np.float64]:
    """Path length, on average, of an unsuccessful search in a binary tree of `samples` (n,).

    c(n) = 2 H(n - 1) - 2 (n - 1) / n with H(i) = ln(i) + Euler's constant; c(2) = 1, c(1) = 0.
    """
    n = np.asarray(samples, np.float64)
    many = np.maximum(n, 3)
    length = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    found: NDArray[np.float64] = np.where(n > 2, length, np.where(n == 2, 1.0, 0.0))
    return found

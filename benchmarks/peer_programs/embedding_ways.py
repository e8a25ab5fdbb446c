"""How anomalib's estimators judge embeddings that are not its own.

    python embedding_ways.py JOB.npz SCORES.npz

Runs in anomalib's environment. JOB holds ``normal`` (n, D) and ``asked`` (m, D) float32; SCORES
gets the scores (m,) of each way, higher is less normal. Every part is the package's own, with its
defaults; only its feature extractor is left out.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.dfm.torch_model import DFMModel
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import Tensor

_UNUSED = {"backbone": "resnet18", "pre_trained": False}  # the extractor that nothing runs through
_CORESET = 0.1


def patchcore(normal: Tensor, asked: Tensor) -> Tensor:
    """Distance to the nearest of a coreset (k-center greedy) of a tenth."""
    model = PatchcoreModel(layers=["layer1"], **_UNUSED)
    model.embedding_store = [normal]
    model.subsample_embedding(_CORESET)
    return model.nearest_neighbors(asked, n_neighbors=1)[0]


def padim(normal: Tensor, asked: Tensor) -> Tensor:
    """Mahalanobis distance; a pooled field has one position."""
    statistics = MultiVariateGaussian().fit(normal[:, :, None, None])
    distance = AnomalyMapGenerator.compute_distance(asked[:, :, None, None], statistics)
    return distance.flatten()


def dfm(normal: Tensor, asked: Tensor) -> Tensor:
    """Error of reconstruction from the components that hold 97% of the variance.

    Its other form, the likelihood, ends in an error in anomalib 2.7.0 with PyTorch 2.11.
    """
    model = DFMModel(layer="layer1", **_UNUSED)
    model.memory_bank = [normal]
    model.fit()
    return model.score(asked, (*asked.shape, 1, 1))[0]


WAYS = (patchcore, padim, dfm)


def main() -> None:
    job, output = sys.argv[1:]
    with np.load(job) as file:
        normal, asked = (torch.from_numpy(file[name]) for name in ("normal", "asked"))
    scores = {}
    for way in WAYS:
        torch.manual_seed(0)
        with torch.no_grad():
            scores[way.__name__] = way(normal, asked).numpy()
    np.savez(output, **scores)


if __name__ == "__main__":
    main()

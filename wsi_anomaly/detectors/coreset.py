"""What it costs that the neighbours of ``density`` are looked for among some of the embeddings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wsi_anomaly.detectors.density import Density

_LOOKED_AT = 1000
_AT_ONCE = 8192


def coreset_loss(density: Density, found: Tensor) -> str | None:
    """Say how many embeddings are kept for the neighbours, and how much farther those lie.

    Parameters
    ----------
    density
        It has learned from fields of one size.
    found
        (N, D), what it has learned from: some of them are asked, each without itself.

    Returns
    -------
    A phrase; None where the estimator has no neighbours.
    """
    um = density.fields_um[0]
    kept = density.state_.get(f"{um}um.knn.references")
    if kept is None:
        return None
    mean, scale = (density.state_[f"{um}um.{name}"].cpu() for name in ("mean", "scale"))

    def unit(values: Tensor) -> Tensor:
        return torch.nn.functional.normalize((values - mean) / scale, dim=1)

    rng = np.random.default_rng(density.config.seed)
    drawn = rng.choice(len(found), min(_LOOKED_AT, len(found)), replace=False)
    asked, k = unit(found[torch.from_numpy(drawn)]), density.config.neighbours
    near = asked.new_full((len(asked), k), -1.0), asked.new_full((len(asked), k), -1.0)
    distance = []
    for nearest, references, ready in ((near[0], kept.cpu(), True), (near[1], found, False)):
        for start in range(0, len(references), _AT_ONCE):
            part = references[start : start + _AT_ONCE]
            similar = asked @ (part if ready else unit(part)).T
            similar[similar > 1 - 1e-6] = -1.0  # itself
            nearest = torch.cat((nearest, similar), 1).topk(k, 1).values  # noqa: PLW2901
        distance.append(1 - nearest.mean(1))
    farther = float((distance[0] / distance[1].clamp_min(1e-9)).mean()) - 1
    return (
        f"{len(kept)} of {len(found)} embeddings kept; of normal fields they lie {farther:.1%} "
        "farther"
    )

"""Distances of embeddings from normal ones: what ``density`` learns and measures.

Arrays in, arrays out. A *state* is a dictionary of tensors: ``mean``, ``scale`` (D,) standardise an
embedding; for each of ``mahalanobis`` and ``directional``, ``.components`` (k, D) and ``.centre``
(k,) project it and ``.root`` (k, k) turns Mahalanobis into a Euclidean length; for ``knn``,
``knn.references`` (m, D) are directions of normal embeddings; for ``contrast``, ``.mean`` and so
on are those of :func:`wsi_anomaly.detectors.contrast.learn_contrast`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.prefixes import below, prefixed
from wsi_anomaly.detectors.contrast import Tissues, contrast, learn_contrast

_LEAST_SCALE = 0.1  # of the median deviation
_AXES = 8  # in which slides are compared as wholes: there are few slides


def learn_distances(
    found: Tensor,
    parts: Sequence[str],
    *,
    variance: float,
    references: int,
    seed: int,
    tissues: Tissues | None = None,
) -> dict[str, Tensor]:
    """Learn what :func:`distances` needs from normal embeddings.

    Parameters
    ----------
    found : Tensor (N, D)
    parts : sequence of str
        Some of "mahalanobis", "directional", "knn" and "contrast".
    variance
        Share of the variance that PCA keeps.
    references, seed
        At most so many embeddings are kept for the neighbours, drawn by the seed.
    tissues
        Other tissues, for "contrast".
    """
    embedding = found.double().numpy()
    mean, scale = embedding.mean(0), embedding.std(0)
    # A filter that is nearly dead on normal tissue must not rule on others.
    scale = np.maximum(scale, max(_LEAST_SCALE * float(np.median(scale)), 1e-9))
    z = (embedding - mean) / scale
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    learned: dict[str, NDArray[np.float64] | Tensor] = {"mean": mean, "scale": scale}
    for part in parts:
        if part == "knn":
            order = np.random.default_rng(seed).permutation(len(unit))
            learned["knn.references"] = unit[np.sort(order[:references])]
        elif part == "contrast":
            assert tissues is not None
            learned |= prefixed("contrast.", learn_contrast(found, tissues))
        else:
            gaussian = _gaussian(z if part == "mahalanobis" else unit, variance)
            learned |= {f"{part}.{key}": value for key, value in gaussian.items()}
    return {
        name: torch.as_tensor(np.ascontiguousarray(value)).float()
        for name, value in learned.items()
    }


def distances(
    state: Mapping[str, Tensor], embedding: Tensor, parts: Sequence[str], neighbours: int
) -> Tensor:
    """Distances (N, len(parts)) of embeddings (N, D), float32."""
    # Embeddings are wide and many: what divides them is put into the few axes instead.
    centred, inverse = embedding.float() - state["mean"], 1 / state["scale"]
    length: Tensor | None = None
    if {"directional", "knn"} & set(parts):
        length = (centred.square() @ inverse.square()).sqrt().clamp_min(1e-12)[:, None]
    found = []
    for part in parts:
        if part == "contrast":
            found.append(contrast(below("contrast.", state), embedding))
            continue
        axes = state["knn.references" if part == "knn" else f"{part}.components"]
        projected = centred @ (axes * inverse).T
        if length is not None and part != "mahalanobis":
            projected = projected / length
        if part == "knn":
            k = min(neighbours, projected.shape[1])
            found.append(1 - projected.topk(k, 1).values.mean(1))
            continue
        whitened = (projected - state[f"{part}.centre"]) @ state[f"{part}.root"]
        found.append(torch.linalg.vector_norm(whitened, dim=1))
    return torch.stack(found, 1)


def places(state: Mapping[str, Tensor], embedding: Tensor) -> Tensor | None:
    """Where embeddings (N, D) lie along the first axes that were learned, (N, k); None: no axes."""
    if "contrast.axes" in state:
        z = (embedding.float() - state["contrast.mean"]) / state["contrast.scale"]
        return _unit(z) @ state["contrast.axes"][:_AXES].T
    z = (embedding.float() - state["mean"]) / state["scale"]
    for part, values in (("directional", _unit(z)), ("mahalanobis", z)):
        if f"{part}.components" in state:
            return values @ state[f"{part}.components"][:_AXES].T
    return None


def distance_shapes(
    tensors: Mapping[str, Tensor], parts: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Shapes of a state that follow from the width of the embedding and what was kept of it."""
    width = tensors["mean"].shape[0]
    expected: dict[str, tuple[int, ...]] = {"mean": (width,), "scale": (width,)}
    for part in parts:
        if part == "knn":
            expected["knn.references"] = (tensors["knn.references"].shape[0], width)
        elif part == "contrast":
            axes = tensors["contrast.centre"].shape[0]
            expected |= {"contrast.mean": (width,), "contrast.scale": (width,)}
            expected |= {"contrast.axes": (axes, width), "contrast.centre": (axes,)}
            if "contrast.root" in tensors:  # models of before 29 November 2026 have none
                others = tensors["contrast.tissues"].shape[0]
                expected |= {"contrast.root": (width, width), "contrast.tissues": (others, width)}
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
    centred = values - values.mean(0)
    if len(values) > values.shape[1]:  # the axes of the covariance: quicker by far, and as exact
        squares, vectors = np.linalg.eigh(centred.T @ centred)
        squares, axes = squares[::-1].clip(0), vectors.T[::-1]
    else:
        _, singular, axes = np.linalg.svd(centred, full_matrices=False)
        squares = singular**2
    share = np.cumsum(squares) / max(float(squares.sum()), 1e-12)
    components = axes[: int(np.searchsorted(share, variance - 1e-12)) + 1]
    projected = values @ components.T
    spread, vectors = np.linalg.eigh(shrunk_covariance(projected))
    root = vectors / np.sqrt(np.maximum(spread, 1e-12 * max(spread.max(), 1e-12)))
    return {"components": components, "centre": projected.mean(0), "root": root}


def shrunk_covariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of rows (N, D), shrunk towards a sphere as Ledoit and Wolf (2004) do: (D, D).

    scikit-learn's, to rounding; importing that for this takes longer than scoring a small slide.
    """
    n, width = values.shape
    centred = values - values.mean(0)
    covariance = centred.T @ centred / n
    mean = covariance.trace() / width
    squared = float(np.square(covariance).sum())
    distance = squared - width * mean**2  # from the sphere
    fourth = float(np.square(np.square(centred).sum(1)).sum())
    noise = min(max(fourth / n - squared, 0.0) / n, distance)
    share = noise / distance if noise > 0 and width > 1 else 0.0
    shrunk: NDArray[np.float64] = (1 - share) * covariance
    shrunk.flat[:: width + 1] += share * mean
    return shrunk

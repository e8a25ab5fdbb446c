"""Axes along which tissues differ: what ``density`` leaves out stain and scanner with.

Two slides of one tissue differ in stain, scanner and scale, and a distance from the normal tissue
of a few slides measures that as well. Other tissues show which differences matter: the axes from
the normal reference to each of them (Fisher's discriminants), where the unit is what varies within
a slide. The distance from normal is measured along these axes alone. The other tissues are those of
the Pathology Atlas; what is known of them ships as a mean for each slide and one covariance
(``models/lite0-tissues.md``). Compare outlier exposure (Hendrycks et al. 2019; on histology Dippel
et al. 2024).

Normal fields of the slide itself, where a person has marked some of each kind of its tissue, are
references too, each kind by itself (:func:`own_references`): they have its stain and come from its
scanner. The distance is then that from the nearest reference: what is like one of them is usual,
and nothing becomes more unusual by them. Where nothing was learned from other slides, they are the
only references (:func:`learn_marked`), and the distance is that in all directions: neither stain
nor scanner differ within a slide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.prefixes import below, prefixed
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.features.weights import digest_of

MOST_OF_A_SLIDE = 600
TENSORS = ("mean", "scale", "centres", "within")
_REFERENCE_SHARE, _DIAGONAL_SHARE = 0.3, 0.1
_LEAST_SCALE = 0.1  # of the median deviation

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tissues:
    """What is known of other tissues, for embeddings of D numbers.

    Attributes
    ----------
    mean, scale
        (D,) standardise an embedding, which is then brought to length one.
    centres
        (K, D) mean of each slide's directions.
    within
        (D, D) mean covariance of directions within a slide.
    """

    mean: Array
    scale: Array
    centres: Array
    within: Array

    def directions(self, embedding: Array) -> Array:
        """Standardise embeddings (N, D) and bring them to length one."""
        z = (embedding - self.mean) / self.scale
        unit: Array = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        return unit


def tissues_of(slides: Sequence[NDArray[np.floating]]) -> Tissues:
    """Summarise embeddings (n, D) of each of several slides; each slide has the same weight."""
    rng = [np.random.default_rng(0).permutation(len(slide)) for slide in slides]
    drawn = [
        slide[order[:MOST_OF_A_SLIDE]].astype(np.float64)
        for slide, order in zip(slides, rng, strict=True)
    ]
    joined = np.concatenate(drawn)
    mean, scale = joined.mean(0), joined.std(0)
    scale = np.maximum(scale, max(_LEAST_SCALE * float(np.median(scale)), 1e-9))
    found = Tissues(mean, scale, np.empty((0, len(mean))), np.empty((0, 0)))
    units = [found.directions(slide) for slide in drawn]
    return Tissues(
        mean,
        scale,
        np.stack([unit.mean(0) for unit in units]),
        np.mean([np.cov(unit.T) for unit in units], 0),
    )


def known_tissues(features: PerceptualNetwork, layers: Sequence[str], field_um: int) -> Tissues:
    """Tissues that ship for these pooled layers of a network, in fields of `field_um` at 10x.

    Raises
    ------
    ModelError
        None ship for this network, its weights, these layers or this size.
    """
    path = models_folder() / f"{features.name}-tissues.safetensors"
    tensors, config = load_tensors(path) if path.is_file() else ({}, {})
    if (config.get("layers"), config.get("field_um")) != (list(layers), field_um) or (
        config["weights"] != weights_of(features, layers)
    ):
        raise ModelError(
            f"The estimator contrast knows no tissues in fields of {field_um} um by the layers "
            f"{', '.join(layers)} of this {features.name}; take lite0 as it is published, with its "
            'usual layers and fields, or set density_estimator = "both".'
        )
    return Tissues(*(tensors[name].double().numpy() for name in TENSORS))


def weights_of(features: PerceptualNetwork, layers: Sequence[str]) -> str:
    """Fingerprint of a network's weights in these layers."""
    return digest_of(
        {f"{n}.{k}": v for n in layers for k, v in features.stages[n].state_dict().items()}
    )


def learn_contrast(found: Tensor, tissues: Tissues) -> dict[str, Tensor]:
    """Learn the axes from normal embeddings (N, D) to other tissues.

    Returns
    -------
    ``mean``, ``scale`` (D,), ``axes`` (q, D) and ``centre`` (q,): the distance of an embedding is
    that of ``axes @ direction`` from ``centre``. Also ``root`` (D, D), which makes what varies
    within a slide a sphere, and ``tissues`` (K, D), the others there: for :func:`own_references`.
    """
    own = tissues.directions(found.double().numpy())
    middle = own.mean(0)
    root = _root((1 - _REFERENCE_SHARE) * tissues.within + _REFERENCE_SHARE * np.cov(own.T))
    others = tissues.centres @ root
    learned = {
        "mean": tissues.mean, "scale": tissues.scale, **_axes(middle, root, others), "root": root,
        "tissues": others,
    }  # fmt: skip
    return _tensors(learned)


def learn_marked(kinds: Sequence[Tensor], tissues: Tissues) -> dict[str, Tensor]:
    """Learn to measure from the middle of each kind of a slide's normal fields, (n, D) each.

    Returns
    -------
    What :func:`contrast` needs; the unit is what varies within the slides that are known.
    """
    root = _root(tissues.within)
    learned = _tensors({"mean": tissues.mean, "scale": tissues.scale})
    for number, embedding in enumerate(kinds):
        middle = tissues.directions(embedding.double().cpu().numpy()).mean(0)
        reference = _tensors({"axes": root.T, "centre": middle @ root})
        learned |= prefixed(f"own{number - 1}." if number else "", reference)
    return learned


def own_references(state: Mapping[str, Tensor], kinds: Sequence[Tensor]) -> dict[str, Tensor]:
    """Learn the axes anew from the middle of each kind of a slide's own normal fields, (n, D) each.

    Returns
    -------
    ``own0.axes`` (q, D) and ``own0.centre`` (q,) of the first kind and so on, with which
    :func:`contrast` measures further distances, on the device of `state`.
    """
    root, others = (state[name].double().cpu().numpy() for name in ("root", "tissues"))
    learned: dict[str, Tensor] = {}
    for number, embedding in enumerate(kinds):
        middle = _directions(state, embedding).double().mean(0).cpu().numpy()
        learned |= prefixed(f"own{number}.", _tensors(_axes(middle, root, others)))
    return {name: value.to(state["mean"].device) for name, value in learned.items()}


def contrast(state: Mapping[str, Tensor], embedding: Tensor) -> Tensor:
    """Distances (N,) of embeddings (N, D) from normal ones, float32.

    With :func:`own_references`, from the nearest one of these and the slide's own.
    """
    directions = _directions(state, embedding)
    distance, number = _distance(directions, state["axes"], state["centre"]), 0
    while f"own{number}.axes" in state:
        own = below(f"own{number}.", state)
        distance = torch.minimum(distance, _distance(directions, own["axes"], own["centre"]))
        number += 1
    return distance


def _root(within: Array) -> Array:
    """Find what makes a covariance (D, D), drawn a little to its diagonal, a sphere."""
    within = within + _DIAGONAL_SHARE * (np.diag(np.diag(within)) - within)
    spread, vectors = np.linalg.eigh(within)
    root: Array = vectors / np.sqrt(np.maximum(spread, 1e-12 * max(spread.max(), 1e-12)))
    return root


def _axes(middle: Array, root: Array, others: Array) -> dict[str, Array]:
    """Axes from `middle` (D,) to the other tissues (K, D), which `root` (D, D) has whitened."""
    _, size, axes = np.linalg.svd(others - middle @ root, full_matrices=False)
    axes = axes[size > 1e-6 * max(size.max(), 1e-12)] @ root.T
    return {"axes": axes, "centre": axes @ middle}


def _directions(state: Mapping[str, Tensor], embedding: Tensor) -> Tensor:
    z = (embedding.float() - state["mean"]) / state["scale"]
    return torch.nn.functional.normalize(z, dim=1)


def _distance(directions: Tensor, axes: Tensor, centre: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(directions @ axes.T - centre, dim=1)
    return found


def _tensors(learned: Mapping[str, Array]) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)).float()
        for name, value in learned.items()
    }

"""``density``: how far a tile's features lie from those of normal tiles.

One embedding a tile: each layer's normalised activations, averaged over positions and
standardised. Four distances:

- ``mahalanobis``: after PCA to 99% of the variance, with Ledoit and Wolf's shrinkage (2004). Is
  the combination of features usual?
- ``directional``: the same of the embedding brought to length one. On tissue the length says mostly
  how much of it a tile holds, and tiles at the edge are the farthest from the mean of all.
- ``knn``: mean cosine distance to the k nearest normal tiles. Was anything like it seen?
- ``contrast``: distance of directions along the axes from normal to other tissues
  (:mod:`wsi_anomaly.detectors.contrast`). Differences of stain and scanner count little, and less
  where normal fields of the slide itself are known (:meth:`Density.of_slide`).

``both``, the default, is the mean of the first two, each in robust units of the normal tiles: on
tissue the second is the better one, on radiographs the first (``docs/results.md``). ``by-layer``
takes ``mahalanobis`` and ``knn`` of each layer by itself and their mean in robust units: which
layer tells most differs from one kind of image to the next.

Neighbours: ``dpa`` rebuilds the tile and compares position by position.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.prefixes import below, prefixed
from wsi_anomaly.detectors.base import DETECTORS, Detector, Fitting, device_of, robust_units
from wsi_anomaly.detectors.contrast import Tissues, known_tissues, learn_marked, own_references
from wsi_anomaly.detectors.distances import distance_shapes, distances, learn_distances, places
from wsi_anomaly.detectors.edges import MOST_KNOTS, above_usual, usual_by_share
from wsi_anomaly.detectors.settings import Settings
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.features.external import LAYER
from wsi_anomaly.learning.batches import Tiles

ESTIMATORS = (
    "mahalanobis", "directional", "knn", "both", "by-layer", "contrast", "contrast+directional",
)  # fmt: skip
_PARTS = {
    "both": ("mahalanobis", "directional"),
    "by-layer": ("mahalanobis", "knn"),
    "contrast+directional": ("contrast", "directional"),
}
_STRETCHES = 16
_SMALLEST_FIELD = 16
LARGEST_FIELD_UM = 256
"""What lies in a tile file round the cells that are learned from reaches no further."""
_LARGEST_EMBEDDED_UM = 2048


@dataclass(frozen=True)
class DensityConfig(Settings):
    """Everything that decides what ``density`` learns.

    Attributes
    ----------
    layers
        Layers of the perceptual network whose averages make the embedding.
    estimator
        "mahalanobis", "directional", "knn", "both": the mean of the first two in robust units;
        "by-layer": that of "mahalanobis" and "knn" of each layer by itself.
    variance
        Share of the variance that PCA keeps.
    neighbours
        k of the nearest neighbours.
    references
        At most so many normal embeddings are kept for the neighbours.
    most_tiles
        At most so many tiles, or cells, are looked at; the seed draws them.
    fields_um
        Sides of the fields, um, in whose middle a cell lies; each size is learned by itself and the
        score is the mean. None: tiles are judged, each by itself.
    """

    layers: tuple[str, ...]
    estimator: str = "both"
    variance: float = 0.99
    neighbours: int = 5
    references: int = 8192
    most_tiles: int = 50_000
    fields_um: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("density needs at least one layer of the perceptual network.")
        if self.estimator not in ESTIMATORS:
            raise UsageError(
                f"The estimators of density are {', '.join(ESTIMATORS)}, not {self.estimator!r}."
            )
        if not 0 < self.variance <= 1 or self.neighbours < 1 or self.references < 1:
            raise UsageError("variance lies in (0, 1]; neighbours and references are at least 1.")
        largest = _LARGEST_EMBEDDED_UM if self.layers == (LAYER,) else LARGEST_FIELD_UM
        if any(not _SMALLEST_FIELD <= um <= largest for um in self.fields_um):
            raise UsageError(
                f"Fields of density are {_SMALLEST_FIELD} to {largest} um wide, not "
                f"{', '.join(map(str, self.fields_um))}."
            )
        if "contrast" in self.estimator and not self.fields_um:
            raise UsageError(
                "The estimator contrast judges fields, not tiles; give density fields of 256 um, "
                "or take the estimator both."
            )


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
        As in :mod:`wsi_anomaly.detectors.distances`, and ``units`` (2, n): median and robust
        deviation of each distance over normal embeddings. By layer, the former once for each layer:
        ``b4.mean`` and so on. With fields, all of it once for each
        size: ``256um.mean`` and so on, and ``usual`` (2, K), what is usual by share of tissue (see
        :mod:`wsi_anomaly.detectors.edges`); without it scores are raw distances.
    """

    config_type = DensityConfig
    config: DensityConfig

    def __init__(self, features: PerceptualNetwork, config: DensityConfig) -> None:
        super().__init__(features, config)
        self._parts = _PARTS.get(config.estimator, (config.estimator,))

    @property
    def fields_um(self) -> tuple[int, ...]:
        """Sides of the fields round a cell; none: it judges tiles."""
        return self.config.fields_um

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
        # A tile that was learned from is too near, and its own nearest neighbour: every second one
        # is left out of a first fit.
        self.state_, _ = self._learn(found, torch.arange(len(found)) % 2 == 1)
        return self

    def fit_fields(self, embeddings: Mapping[int, Tensor], shares: Tensor | None = None) -> Self:
        """Learn from fields by size in um, (N, D) each; see :meth:`Detector.fit_fields`."""
        self.state_, scores = {}, []
        for um in self.fields_um:
            found = embeddings[um]
            # Neighbours overlap: whole stretches are left out of the first fit.
            left_out = torch.arange(len(found)) * _STRETCHES // max(len(found), 1) % 2 == 1
            tissues = self.tissues(um) if "contrast" in self._parts else None
            learned, unseen = self._learn(found, left_out, tissues)
            self.state_ |= prefixed(_prefix(um), learned)
            scores.append(unseen)
        if shares is not None:
            score, share = torch.stack(scores).mean(0), shares.cpu()[left_out]
            usual = usual_by_share(score.numpy(), share.numpy())
            if usual is not None:
                self.state_["usual"] = torch.from_numpy(usual)
        return self

    def tissues(self, um: int) -> Tissues:
        """Other tissues in fields of this size, for ``contrast``: those that ship."""
        return known_tissues(self.features, self.config.layers, um)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Distance (N,) from normal tiles, in robust units of theirs."""
        del images
        return self.score_embeddings(self.embed(truth))

    def score_embeddings(self, embedding: Tensor) -> Tensor:
        """Raw scores (N,) of embeddings (N, D)."""
        return self._score(self.state_, embedding)

    def score_fields(
        self, embeddings: Mapping[int, Tensor], shares: Tensor | None = None
    ) -> Tensor:
        """Mean (N,) over the sizes; see :meth:`Detector.score_fields`."""
        scores = [
            self._score(below(_prefix(um), self.state_), embeddings[um]) for um in self.fields_um
        ]
        score, usual = torch.stack(scores).mean(0), self.state_.get("usual")
        return score if usual is None or shares is None else above_usual(score, shares, usual)

    @property
    def takes_own(self) -> bool:
        """Whether the estimator is ``contrast``, learned since it has :meth:`of_slide`."""
        return any(name.endswith("contrast.root") for name in self.state_)

    def of_slide(self, kinds: Sequence[Mapping[int, Tensor]]) -> Self:
        """Refer to kinds of its normal fields, (n, D) each; see :meth:`Detector.of_slide`."""
        own = copy.copy(self)
        own.state_ = dict(self.state_)
        for um in self.fields_um:
            prefix = f"{_prefix(um)}contrast."
            learned = own_references(below(prefix, self.state_), [kind[um] for kind in kinds])
            own.state_ |= prefixed(prefix, learned)
        return own

    def fit_marked(self, kinds: Sequence[Mapping[int, Tensor]]) -> Self:
        """Learn ``contrast`` from kinds of one slide's normal fields alone, by size (n, D) each."""
        self.state_ = {}
        for um in self.fields_um:
            found = [kind[um] for kind in kinds]
            learned = prefixed("contrast.", learn_marked(found, self.tissues(um)))
            learned |= {name: learned[f"contrast.{name}"] for name in ("mean", "scale")}
            learned["units"] = robust_units(distances(learned, torch.cat(found), self._parts, 0))
            self.state_ |= prefixed(_prefix(um), learned)
        return self

    def place_fields(self, embeddings: Mapping[int, Tensor]) -> Tensor | None:
        """Place (N, k) along the first axes of the largest; see :meth:`Detector.place_fields`."""
        um = max(self.fields_um)
        return places(below(_prefix(um), self.state_), embeddings[um])

    def spoken(self, embeddings: Mapping[int, Tensor]) -> dict[tuple[int, str], Tensor]:
        """Give each distance (N,) in robust units of normal tissue; see :meth:`Detector.spoken`."""
        names = [prefix + part for prefix in self._pieces() for part in self._parts]
        found: dict[tuple[int, str], Tensor] = {}
        for um in self.fields_um:
            state = below(_prefix(um), self.state_)
            units = (self._measure(state, embeddings[um]) - state["units"][0]) / state["units"][1]
            found |= {(um, name): units[:, i] for i, name in enumerate(names)}
        return found

    def _score(self, state: Mapping[str, Tensor], embedding: Tensor) -> Tensor:
        middle, spread = state["units"]
        found = self._measure(state, embedding)
        score: Tensor = ((found - middle) / spread).mean(1)
        return score

    def _measure(self, state: Mapping[str, Tensor], embedding: Tensor) -> Tensor:
        """Distances (N, n) of embeddings (N, D): the parts, of each layer if judged by layer."""
        k = self.config.neighbours
        found = [
            distances(below(prefix, state), embedding[:, place], self._parts, k)
            for prefix, place in self._pieces().items()
        ]
        return torch.cat(found, 1)

    def _pieces(self) -> dict[str, slice]:
        """Columns of an embedding that are judged together, by the prefix of their state."""
        if self.config.estimator != "by-layer":
            return {"": slice(None)}
        pieces, start = {}, 0
        for layer in self.config.layers:
            end = start + len(self.features.statistics(layer)[0])
            pieces[f"{layer}."], start = slice(start, end), end
        return pieces

    def _learn(
        self, found: Tensor, left_out: Tensor, tissues: Tissues | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Learn all distances; their units come from embeddings left out of a first fit.

        Returns
        -------
        What was learned, and scores by the first fit of what was left out of it.
        """
        config = self.config
        if len(found) < 2 * config.neighbours + 2:
            raise ModelError(
                f"{len(found)} tiles are too few to learn a density from; give at least "
                f"{2 * config.neighbours + 2}."
            )

        def learn(part: Tensor) -> dict[str, Tensor]:
            learned: dict[str, Tensor] = {}
            for prefix, place in self._pieces().items():
                learned |= prefixed(prefix, learn_distances(
                    part[:, place], self._parts, variance=config.variance,
                    references=config.references, seed=config.seed, tissues=tissues,
                ))  # fmt: skip
            return learned

        measured = self._measure(learn(found[~left_out]), found[left_out])
        units = robust_units(measured)
        unseen = ((measured - units[0]) / units[1]).mean(1)
        return learn(found) | {"units": units}, unseen

    def state_shapes(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """Shapes that follow from the width of the embedding and what was kept of it."""
        expected: dict[str, tuple[int, ...]] = {}
        for size in [_prefix(um) for um in self.fields_um] or [""]:
            pieces = self._pieces()
            for piece in pieces:
                shapes = distance_shapes(below(size + piece, tensors), self._parts)
                expected |= prefixed(size + piece, shapes)
            expected[f"{size}units"] = (2, len(self._parts) * len(pieces))
        if "usual" in tensors:
            expected["usual"] = (2, min(max(tensors["usual"].shape[-1], 1), MOST_KNOTS))
        return expected


def _prefix(um: int) -> str:
    """Begin the names of the state of one size of field."""
    return f"{um}um."

"""``fusion``: several detectors as one, as far as known anomalies support it.

Fusing a chance-level score with a good one does harm. So a member gets weight only when it tells
a few known abnormal tiles from normal ones of other cases: weight = 2 AUC - 1, none below an AUC
of 0.55. Without known anomalies nothing supports any weighting, and the first member stands
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from wsi_anomaly.core.ranking import roc_auc
from wsi_anomaly.detectors.base import DETECTORS, Detector, Fitting, robust_units, sample_images
from wsi_anomaly.detectors.settings import Settings
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.learning.batches import Tiles

SUPPORTED_FROM = 0.55
"""Least ROC AUC on known anomalies at which a member takes part."""

_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class FusionConfig(Settings):
    """Which detectors are fused.

    Attributes
    ----------
    members
        Their names.
    """

    members: tuple[str, ...] = ("dpa", "density")


@DETECTORS.register("fusion")
class Fusion(Detector):
    """A weighted mean of other detectors' scores, each in robust units of normal tiles.

    Parameters
    ----------
    members : sequence of Detector
        Already fitted; the first is the one that stands alone when nothing supports more.

    Attributes
    ----------
    weights_ : Tensor (m,)
        Sum to one.
    units_ : Tensor (2, m)
        Median and robust deviation of each member on normal tiles.
    support_ : list of float
        ROC AUC of each member on the known anomalies; empty without them.
    """

    config_type = FusionConfig
    facts = ("support",)

    def __init__(self, members: Sequence[Detector]) -> None:
        if not members:
            raise ValueError("a fusion has at least one member")
        self.members = tuple(members)
        config = FusionConfig(members=tuple(m.name for m in members))
        super().__init__(members[0].features, config)

    @classmethod
    def make(
        cls, features: PerceptualNetwork, config: FusionConfig, others: Mapping[str, Detector]
    ) -> Self:
        """Fuse those of `others` that the configuration names."""
        del features
        return cls([others[name] for name in config.members])

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that any member wants."""
        return tuple(dict.fromkeys(layer for m in self.members for layer in m.layers))

    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Choose the weights; the members stay as they are. See :meth:`Detector.fit`.

        Normal scores come from `validation` where there is some: scores of tiles that a member
        was trained on are too low.
        """
        normal_tiles = validation if validation is not None and len(validation) else tiles
        normal = self._member_scores(normal_tiles)
        known = normal[:0]
        if fitting is not None and fitting.anomalies is not None and len(fitting.anomalies):
            known = self._member_scores(fitting.anomalies)
        self.weights_, self.units_, self.support_ = supported_weights(normal, known)
        return self

    def _member_scores(self, tiles: Tiles) -> Tensor:
        images = sample_images(tiles, _MOST)
        return torch.stack([torch.from_numpy(m.score_samples(images)) for m in self.members], 1)

    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Weighted mean (N,) of the members' scores in robust units."""
        used = torch.nonzero(self.weights_).flatten().tolist()
        total = torch.zeros(len(images), device=images.device)
        for k in used:
            score = self.members[k].score_batch(images, truth)
            middle, spread = (float(unit) for unit in self.units_[:, k])
            total += float(self.weights_[k]) * (score - middle) / spread
        return total

    def map_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor | None:
        """Map (N, S, S) of the member with the largest weight that has one."""
        for k in torch.argsort(self.weights_, descending=True).tolist():
            found: Tensor | None = self.members[k].map_batch(images, truth)
            if found is not None:
                return found
        return None

    def to(self, device: torch.device | str) -> Self:
        """Return itself: members move by themselves, and the few weights stay on the CPU."""
        return self

    def learned(self) -> Mapping[str, Tensor]:
        """Weights and units; the members are stored beside it under their own names."""
        return {"weights": self.weights_, "units": self.units_}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take weights and units; see :meth:`Detector.restore`."""
        weights, units = tensors["weights"].float(), tensors["units"].float()
        count = len(self.members)
        if weights.shape != (count,) or units.shape != (2, count) or not (units[1] > 0).all():
            raise ValueError("the weights of the fusion are not as they should be")
        self.weights_, self.units_ = weights, units
        self.support_ = [float(a) for a in self.support_]


def supported_weights(normal: Tensor, known: Tensor) -> tuple[Tensor, Tensor, list[float]]:
    """Weigh members by what their scores of known anomalies support; see the module's docstring.

    Parameters
    ----------
    normal
        (n, m) scores of normal tiles that no member was trained on.
    known
        (k, m) scores of known abnormal tiles; k may be 0.

    Returns
    -------
    weights, units, support
        As :class:`Fusion` keeps them: (m,), (2, m) and m values of ROC AUC.
    """
    members = normal.shape[1]
    units = robust_units(normal)
    support: list[float] = []
    weights = torch.zeros(members)
    weights[0] = 1.0
    if len(known):
        support = [roc_auc(normal[:, k].numpy(), known[:, k].numpy()) for k in range(members)]
        supported = torch.tensor([2 * a - 1 if a >= SUPPORTED_FROM else 0.0 for a in support])
        if supported.sum() > 0:
            weights = supported / supported.sum()
    return weights, units, support

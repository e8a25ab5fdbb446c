"""How good a configuration is on one fold: learn from some cases, judge others and the anomalies.

The anomalies are judged in every fold, all of them. They are never learned from, so nothing leaks,
and a part of a handful would only make each fold's figure noisier.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.files import config_hash, make_folder, write_json
from wsi_anomaly.core.ranking import ordered_pairs
from wsi_anomaly.detectors import Density, DensityConfig, Detector, Dpa, Fitting
from wsi_anomaly.detectors.base import BATCH, fit_missing_statistics
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.learning.batches import Tiles, to_images
from wsi_anomaly.learning.loop import Report
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.tuning.search_data import Fold, Part, SearchData

_READ_AT_ONCE = 4 * BATCH
_Embedded = tuple[dict[int, Tensor], Tensor]


@dataclass(frozen=True)
class FoldResult:
    """What one fold said.

    Attributes
    ----------
    value
        ROC AUC of the judged normal tiles against all anomalies; for the criterion reconstruction
        the mean loss of the judged tiles.
    sums
        (cases, groups): of each judged case (sorted by name) and each group of anomalies, how many
        pairs of tiles are in the right order (ties count half). For reconstruction one column with
        the sum of each case's losses. `value` is their sum over the number of pairs.
    steps
        Steps that were trained; 0 for a method without a loop.
    """

    value: float
    sums: list[list[float]]
    steps: int


class FoldScorer:
    """Judges configurations on the same folds; what they share is computed once.

    Parameters
    ----------
    data
    folds
    networks
        Perceptual networks by name, on their device. Layers of an encoder of tissue get statistics
        of the normal tiles: two numbers a filter, the same for every fold.
    criterion
        "roc-auc" or "reconstruction".
    working
        Folder for checkpoints and finished folds; None: nothing is kept.
    identity
        What the search is made of.
    """

    def __init__(
        self,
        data: SearchData,
        folds: Sequence[Fold],
        networks: Mapping[str, PerceptualNetwork],
        criterion: str = "roc-auc",
        *,
        working: Path | None = None,
        identity: Mapping[str, object] | None = None,
    ) -> None:
        self.data, self.folds, self.criterion = data, list(folds), criterion
        self._networks = dict(networks)
        self._working, self._identity = working, dict(identity or {})
        self._pooled: dict[tuple[str, str, str], dict[str, Tensor]] = {}
        self._embedded: dict[tuple[object, ...], list[_Embedded]] = {}

    def pairs(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count judged tiles of each case (n,) of fold k, and anomalies of each group (g,)."""
        cases = np.unique(self.data.cases[self.folds[k].judged], return_counts=True)[1]
        if self.criterion == "reconstruction":
            return cases, np.ones(1, np.int64)
        return cases, np.unique(self.data.groups, return_counts=True)[1]

    def fold(
        self, config: TrainConfig, view: str, k: int, progress: Callable[[Report], None]
    ) -> FoldResult:
        """Judge a configuration on fold k; a fold that was finished before is only read.

        Raises
        ------
        ModelError
            It cannot be learned, or its scores are no numbers.
        """
        place = None
        if self._working is not None:
            run = {"config": config.to_dict(), "view": view, **self._identity}
            place = self._working / config_hash(run) / f"fold_{k + 1}"
            with contextlib.suppress(OSError, ValueError, TypeError):
                return FoldResult(**json.loads(place.with_suffix(".json").read_text("utf-8")))
        if config.detector == "density":
            normal, abnormal = self._density(config, view, k)
            steps = 0
        else:
            normal, abnormal, steps = self._dpa(config, view, k, progress, place)
        result = self._result(normal, abnormal, k, steps)
        if place is not None:
            write_json(place.with_suffix(".json"), asdict(result))
            shutil.rmtree(place, ignore_errors=True)
        return result

    def _dpa(
        self,
        config: TrainConfig,
        view: str,
        k: int,
        progress: Callable[[Report], None],
        place: Path | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        fold, tiles = self.folds[k], self.data.normal[view]
        network = self._networks[config.features]
        settings = config.dpa(network.default_layer)
        used = {name for layers in settings.growth.layers.values() for name in layers}
        network = self._measured(config.features, view, sorted(used))
        fitting = Fitting(
            device=next(network.parameters()).device,
            checkpoint=None if place is None else make_folder(place),
            progress=progress,
        )
        detector = Dpa(network, settings).fit(
            Part(tiles, fold.train), Part(tiles, fold.validation), fitting
        )
        normal = _scores(detector, Part(tiles, fold.judged))
        abnormal = np.empty(0)
        if self.criterion == "roc-auc":
            abnormal = _scores(detector, self.data.abnormal[view])
        return normal, abnormal, int(detector.log_[-1]["step"])

    def _density(
        self, config: TrainConfig, view: str, k: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        fold = self.folds[k]
        network = self._networks[config.features]
        settings = config.density(network.default_layer)
        detector = Density(network, settings)
        learn = torch.as_tensor(np.concatenate((fold.train, fold.validation)))
        judge = torch.as_tensor(fold.judged)
        if settings.fields_um:
            (fields, share), (odd, odd_share) = self._fields(config, settings, view)
            detector.fit_fields({um: found[learn] for um, found in fields.items()}, share[learn])
            own = {um: found[judge] for um, found in fields.items()}
            judged = detector.score_fields(own, share[judge])
            abnormal = detector.score_fields(odd, odd_share)
            return judged.double().numpy(), abnormal.double().numpy()

        def embedded(side: str) -> Tensor:
            pooled = self._pool(config.features, view, side)
            return torch.cat([pooled[name] for name in settings.layers], 1)

        normal = embedded("normal")
        detector.fit_embeddings(normal[learn])
        scores = [
            detector.score_embeddings(tiles).double().numpy()
            for tiles in (normal[judge], embedded("abnormal"))
        ]
        return scores[0], scores[1]

    def _fields(self, config: TrainConfig, settings: DensityConfig, view: str) -> list[_Embedded]:
        """Fields round the cells of all normal tiles, and of the anomalies; embedded once."""
        key = (config.features, view, settings.layers, settings.fields_um)
        if key not in self._embedded:
            network = self._measured(config.features, view, settings.layers)
            places = self.data.normal_places, self.data.abnormal_places
            self._embedded[key] = [
                of.embed(network, settings.layers, config.magnification, settings.fields_um)
                for of in places
                if of is not None
            ]
        return self._embedded[key]

    @torch.inference_mode()
    def _pool(self, name: str, view: str, side: str) -> dict[str, Tensor]:
        """Activations of all tiles averaged over positions, by layer; computed once."""
        key = (name, view, side)
        if key not in self._pooled:
            network = self._measured(name, view, self._networks[name].layers)
            device = next(network.parameters()).device
            tiles = (self.data.normal if side == "normal" else self.data.abnormal)[view]
            parts: dict[str, list[Tensor]] = {layer: [] for layer in network.layers}
            for i in range(0, len(tiles), BATCH):
                chosen = np.arange(i, min(i + BATCH, len(tiles)))
                found = network(to_images(tiles.batch(chosen), device), network.layers)
                for layer, values in found.items():
                    parts[layer].append(values.mean((2, 3)).cpu())
            self._pooled[key] = {layer: torch.cat(values) for layer, values in parts.items()}
        return self._pooled[key]

    def _measured(self, name: str, view: str, layers: Sequence[str]) -> PerceptualNetwork:
        """Return a network with statistics; of this view's tiles where they must be of tissue."""
        network = self._networks[name]
        if not network.of_tissue:
            fit_missing_statistics(network, self.data.normal[view], layers)
            return network
        key = f"{name} for {view}"
        if key not in self._networks:
            self._networks[key] = copy.deepcopy(network)
        fit_missing_statistics(self._networks[key], self.data.normal[view], layers)
        return self._networks[key]

    def _result(
        self, normal: NDArray[np.float64], abnormal: NDArray[np.float64], k: int, steps: int
    ) -> FoldResult:
        if not np.isfinite(normal).all() or not np.isfinite(abnormal).all():
            raise ModelError("The scores are no numbers.")
        cases = self.data.cases[self.folds[k].judged]
        own = [normal[cases == case] for case in np.unique(cases)]
        if self.criterion == "reconstruction":
            sums = np.array([[scores.sum()] for scores in own])
        else:
            groups = [abnormal[self.data.groups == g] for g in np.unique(self.data.groups)]
            sums = np.array([[ordered_pairs(n, a) for a in groups] for n in own])
        count, of = self.pairs(k)
        value = float(sums.sum() / (count.sum() * of.sum()))
        return FoldResult(value, sums.tolist(), steps)


def _scores(detector: Detector, tiles: Tiles) -> NDArray[np.float64]:
    parts = [
        detector.score_samples(tiles.batch(np.arange(i, min(i + _READ_AT_ONCE, len(tiles)))))
        for i in range(0, len(tiles), _READ_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)

"""A search on images that lie in memory: radiographs, natural images, tiles of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.options import TuneOptions
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.tuning.fold_scores import FoldScorer
from wsi_anomaly.tuning.records import Found, Watch
from wsi_anomaly.tuning.search_data import SearchData, grouped_folds
from wsi_anomaly.tuning.space import Space
from wsi_anomaly.tuning.study import open_study
from wsi_anomaly.tuning.trials import Search

Images = NDArray[np.uint8] | Mapping[str, NDArray[np.uint8]]


class SearchKeywords(TypedDict, total=False):
    """Those fields of :class:`TuneOptions` that serve images in memory."""

    trials: int
    folds: int
    criterion: str
    detectors: Sequence[str]
    storage: str | None


def search_arrays(
    normal: Images,
    normal_groups: Sequence[str],
    abnormal: Images,
    abnormal_groups: Sequence[str],
    base: TrainConfig,
    networks: Mapping[str, PerceptualNetwork],
    *,
    space: Space | None = None,
    working: Path | None = None,
    watch: Watch | None = None,
    **options: Unpack[SearchKeywords],
) -> Found:
    """Choose a configuration for images that lie in memory.

    Parameters
    ----------
    normal
        (N, S, S, 3) uint8; or a name to such an array for each preprocessing to choose among (of
        another crop, size or equalisation), all of the same N images.
    normal_groups
        (N,) case of each: cases are never split.
    abnormal, abnormal_groups
        The same of the few known anomalies, (M, ...) and (M,). Never learned from.
    base
        What the choices are put into. Its tile size becomes that of the images.
    networks
        Perceptual networks to choose among, by name, on the device to compute on.
    space
        What may be chosen; :meth:`Space.around` of the base by default.
    working
        Folder for checkpoints and finished folds; None: nothing is kept.
    watch
        Who is told what.
    options
        As for :func:`wsi_anomaly.tuning.tune`; a study without a `storage` lies in memory.

    Returns
    -------
    What was chosen; its preprocessing is ``best.choices["preprocessing"]``.

    Raises
    ------
    UsageError
        There are too few groups, or the space does not suit the images.
    ModelError
        Not one trial could be completed.
    """
    asked = TuneOptions(**options)
    views = {name: ArrayTiles(images) for name, images in _named(normal).items()}
    strange = {name: ArrayTiles(images) for name, images in _named(abnormal).items()}
    sides = {name: (10, tiles.tile_size) for name, tiles in views.items()}
    magnification, field_um = next(iter(sides.values()))
    base = replace(base, magnification=magnification, field_um=field_um)
    space = space or Space.around(base, sides, networks, asked.detectors, "preprocessing")
    if asked.criterion == "reconstruction":
        space = space.for_reconstruction(base)
    cases, groups = np.asarray(normal_groups, np.str_), np.asarray(abnormal_groups, np.str_)
    data = SearchData(views, cases, strange, groups)
    identity = {
        "search space": space.to_dict(),
        "starting configuration": base.to_dict(),
        "images": [len(cases), len(groups)],
        "folds": asked.folds,
        "criterion": asked.criterion,
    }
    scorer = FoldScorer(
        data,
        grouped_folds(cases, asked.folds, base.seed),
        networks,
        asked.criterion,
        working=working,
        identity=identity,
    )
    maximize = asked.criterion == "roc-auc"
    study = open_study(asked.storage, identity, maximize=maximize, seed=base.seed)
    search = Search(scorer, space, base, study, asked.storage, watch or Watch())
    return search.run(asked.trials)


def _named(images: Images) -> Mapping[str, NDArray[np.uint8]]:
    if isinstance(images, Mapping):
        return images
    return {f"{images.shape[1]} px": images}

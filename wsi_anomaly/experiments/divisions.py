"""Which images are learned from and which are judged; no group is on both sides.

============  =====================================================================================
chest         patients of both classes, five folds a seed (stratified, shuffled by the seed)
oral          six clusters of like mean colour (k-means, the seed its own); three to learn from,
              three to judge: all 20 ways, those that a former seed gave already left out
glas          two of the four healthy patients to learn from, the others to judge: all 6 ways;
              malignant images of all patients but those learned from
cifar10       each class in turn is the normal one; the set's own training and test images
synthetic     the demo's normal slides against its unseen ones, one division a difficulty
============  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.experiments.image_sets import ImageSet

FOLDS = 5
CLUSTERS = 6


@dataclass(frozen=True)
class Division:
    """One way to divide a set.

    Attributes
    ----------
    name
        Unique within the set.
    row
        Divisions of one row are averaged: a class, a difficulty; empty when there is one row.
    seed
        Of the division and of what is random in the methods.
    learn
        Positions of the normal images to learn from.
    judge
        Positions of the images to judge.
    known
        Positions of the images that a supervised classifier may be cross-validated on, `judge`
        among them.
    abnormal
        (M,) which images of the whole set count as abnormal.
    group
        (M,) what must not be on both sides.
    """

    name: str
    row: str
    seed: int
    learn: NDArray[np.intp]
    judge: NDArray[np.intp]
    known: NDArray[np.intp]
    abnormal: NDArray[np.bool_]
    group: NDArray[np.intp]

    def __post_init__(self) -> None:
        if np.isin(self.group[self.judge], self.group[self.learn]).any():
            raise ValueError(f"{self.name}: a group is on both sides")
        if self.abnormal[self.learn].any():
            raise ValueError(f"{self.name}: an abnormal image is learned from")


def divide(images: ImageSet, seeds: int) -> list[Division]:
    """All divisions of a set, for seeds 0, 1, ...

    Raises
    ------
    UsageError
        The set is too small to be divided.
    """
    found: list[Division] = []
    seen: set[tuple[bytes, bytes]] = set()
    for seed in range(seeds):
        for division in _DIVIDERS[images.name](images, seed):
            sides = (division.learn.tobytes(), division.judge.tobytes())
            # Equal sides tell nothing new where the seed only makes the division.
            if images.name == "oral" and sides in seen:
                continue
            seen.add(sides)
            found.append(division)
    if not found:
        raise UsageError(f"The set {images.name} is too small to be divided.")
    return found


def colour_clusters(images: ImageSet, seed: int) -> NDArray[np.intp]:
    """Cluster (M,) of each image by its mean colour, over all images."""
    from sklearn.cluster import KMeans

    colours = images.mean_over_images(images.tiles.mean((1, 2)))
    means = KMeans(CLUSTERS, n_init=10, random_state=seed).fit(colours)
    labels: NDArray[np.intp] = means.labels_.astype(np.intp)
    return labels


def _two_classes(images: ImageSet, group: NDArray[np.intp]) -> Callable[..., Division]:
    abnormal = images.kind > 0
    everything = np.arange(images.count)

    def make(name: str, seed: int, learn: NDArray[np.bool_], judge: NDArray[np.bool_]) -> Division:
        return Division(
            name,
            "",
            seed,
            np.flatnonzero(learn & ~abnormal),
            np.flatnonzero(judge),
            everything,
            abnormal,
            group,
        )

    return make


def _chest(images: ImageSet, seed: int) -> Iterator[Division]:
    from sklearn.model_selection import StratifiedGroupKFold

    make = _two_classes(images, images.group)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for k, (_, judge) in enumerate(folds.split(images.kind, images.kind, images.group)):
        judged = np.isin(np.arange(images.count), judge)
        yield make(f"seed {seed} fold {k}", seed, ~judged, judged)


def _oral(images: ImageSet, seed: int) -> Iterator[Division]:
    cluster = colour_clusters(images, seed)
    make = _two_classes(images, cluster)
    for chosen in combinations(range(CLUSTERS), CLUSTERS // 2):
        learn = np.isin(cluster, chosen)
        yield make(f"seed {seed} clusters {''.join(map(str, chosen))}", seed, learn, ~learn)


def _glas(images: ImageSet, seed: int) -> Iterator[Division]:
    make = _two_classes(images, images.group)
    healthy = np.unique(images.group[images.kind == 0])
    for chosen in combinations(range(len(healthy)), 2):
        learn = np.isin(images.group, healthy[list(chosen)])
        name = f"seed {seed} patients {'-'.join(map(str, chosen))}"
        yield make(name, seed, learn, ~learn)


def _cifar10(images: ImageSet, seed: int) -> Iterator[Division]:
    for kind, name in enumerate(images.kinds):
        abnormal = images.kind != kind
        learn = np.flatnonzero((images.part == 0) & ~abnormal)
        judge = np.flatnonzero(images.part == 1)
        known = np.concatenate((learn, judge))
        yield Division(
            f"seed {seed} {name}", name, seed, learn, judge, known, abnormal, images.group
        )


def _synthetic(images: ImageSet, seed: int) -> Iterator[Division]:
    learn = np.flatnonzero(images.part == 0)
    for i, difficulty in enumerate(images.kinds[1:]):
        judge = np.flatnonzero((images.part == 1) | (images.part == 2 + i))
        known = np.concatenate((learn, judge))
        yield Division(
            f"seed {seed} {difficulty}",
            difficulty,
            seed,
            learn,
            judge,
            known,
            images.kind > 0,
            images.group,
        )


_DIVIDERS: dict[str, Callable[[ImageSet, int], Iterator[Division]]] = {
    "chest": _chest,
    "oral": _oral,
    "glas": _glas,
    "cifar10": _cifar10,
    "synthetic": _synthetic,
}

"""Sets of labelled images with divisions of their own, on which the detectors are judged.

Images are cut into tiles at their own scale (radiographs are brought to the size of a tile whole).
No group is on both sides:

============  =====================================================================================
chest         patients of both classes, five folds a seed (stratified, shuffled by the seed)
oral          six clusters of like mean colour (k-means, the seed its own); three to learn from,
              three to judge: all 20 ways
glas          two of the four healthy patients to learn from, the others to judge: all 6 ways;
              malignant images of all patients but those learned from
synthetic     drawn normal slides against the demo's unseen ones, one division a difficulty
============  =====================================================================================
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reproduce.problems import (
    Labelled,
    Problem,
    draw,
    judged,
    mean_of_images,
)
from wsi_anomaly.reproduce.sources.drawn import DIFFICULTIES, drawn_tiles
from wsi_anomaly.reproduce.sources.files import files_below
from wsi_anomaly.reproduce.sources.folders import read_image

_FOLDS = 5
_CLUSTERS = 6
_SUFFIXES = {".png", ".jpg", ".jpeg"}
_HALVES = tuple("".join(map(str, chosen)) for chosen in combinations(range(_CLUSTERS), 3))
_PAIRS = tuple("".join(map(str, chosen)) for chosen in combinations(range(4), 2))

_TITLES = {
    "chest": "Chest X-rays",
    "oral": "Oral mucosa at 400x",
    "glas": "GlaS",
    "synthetic": "Synthetic slides",
}
_DIVISIONS = {
    "chest": tuple(f"fold-{k}" for k in range(_FOLDS)),
    "oral": tuple(f"clusters-{half}" for half in _HALVES),
    "glas": tuple(f"patients-{pair}" for pair in _PAIRS),
    "synthetic": DIFFICULTIES,
}
_NOTES = {
    "chest": "Whole images; five folds by patient for each seed, the other folds' normal images "
    "are learned from.",
    "oral": "Nothing says which images come from one patient: six clusters of like mean colour, "
    "three to learn from and three to judge, all 20 ways. Intervals are over images.",
    "glas": "Two healthy patients to learn from, the other two to judge, all 6 ways; adenomas are "
    "left out. Four healthy patients are too few for a figure.",
    "synthetic": "Drawn slides; tiles on the border of a lesion are left out. Intervals are over "
    "slides.",
}
LABELLED = tuple(_TITLES)
"""Keys of the sets."""


@dataclass(frozen=True)
class _Images:
    """Images cut into tiles: (N, s, s, 3), the image of each; by image: abnormal, group, part.

    `part` says where the set itself divides: 0 to learn from, above 0 to judge.
    """

    tiles: NDArray[np.uint8]
    image: NDArray[np.intp]
    abnormal: NDArray[np.bool_]
    group: NDArray[np.intp]
    part: NDArray[np.intp]

    def of(self, chosen: NDArray[np.intp]) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """Tiles of some images, and the number of each one's image."""
        mine = np.isin(self.image, chosen)
        return self.tiles[mine], self.image[mine]


class LabelledImages:
    """One of the sets in memory.

    Parameters
    ----------
    key
        One of :data:`LABELLED`.
    data
        Its folder; of ``synthetic`` that of ``wsi-anomaly demo``, whose missing slides are drawn.
    learn, judge
        Limits, see :class:`~wsi_anomaly.reproduce.plan.Plan`.
    """

    errors: tuple[str, ...] = ()
    divided_by_seed = True

    def __init__(
        self, key: str, data: Path, *, learn: int | None = None, judge: int | None = None
    ) -> None:
        self.key, self.title, self.classes = key, _TITLES[key], _DIVISIONS[key]
        self.notes: tuple[str, ...] = (_NOTES[key],)
        self._most = (learn, judge)
        self._images = cache(lambda size: _read(key, data, size))

    def problem(self, name: str, *, size: int, equalise: bool, seed: int) -> Problem:
        """Give one division.

        Raises
        ------
        UsageError
            Images are missing or damaged, or smaller than `size`.
        """
        del equalise
        images = self._images(size)
        left, judge, apart = self._divide(images, self.classes.index(name), seed)
        most_learn, most_judge = self._most
        learn = draw(left[~images.abnormal[left]], most_learn)
        judge = judged(images.abnormal, judge, most_judge)
        learn_tiles, learn_image = images.of(learn)
        judge_tiles, judge_image = images.of(judge)
        left_tiles, left_image = images.of(left)
        kind = np.where(images.abnormal, "abnormal", "normal")
        return Problem(
            name,
            learn_tiles,
            images.group[learn_image],
            judge_tiles,
            images.abnormal[judge],
            images.group[judge],
            kind[judge],
            images.tiles[:0],
            "",
            learn_image,
            judge_image,
            Labelled(left_tiles, left_image, images.abnormal[left], apart[left], apart[judge]),
        )

    def _divide(
        self, images: _Images, number: int, seed: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Images of the side to learn from, images to judge, and what is never on both sides."""
        everything, apart = np.arange(len(images.group)), images.group
        if self.key == "chest":
            from sklearn.model_selection import StratifiedGroupKFold

            folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
            left, judge = list(folds.split(everything, images.abnormal, images.group))[number]
            return left, judge, apart
        if self.key == "synthetic":
            judge = np.flatnonzero((images.part == 1) | (images.part == 2 + number))
            return np.flatnonzero(images.part == 0), judge, apart
        if self.key == "oral":
            from sklearn.cluster import KMeans

            colours = mean_of_images(images.tiles.mean((1, 2)), images.image)
            clusters = KMeans(_CLUSTERS, n_init=10, random_state=seed).fit(colours)
            apart = clusters.labels_.astype(np.intp)
            mine = np.isin(apart, [int(c) for c in _HALVES[number]])
        else:
            healthy = np.unique(images.group[~images.abnormal])
            mine = np.isin(images.group, healthy[[int(p) for p in _PAIRS[number]]])
        return everything[mine], everything[~mine], apart


def _read(key: str, data: Path, size: int) -> _Images:
    """Read a set and cut it."""
    if key == "synthetic":
        tiles, abnormal, group, part = drawn_tiles(data, size)
        return _Images(tiles, np.arange(len(tiles)), abnormal, group, part)
    files = {"chest": _chest, "oral": _oral, "glas": _glas}[key](data)
    cuts = [
        read_image(path, size)[None] if key == "chest" else cut(read_image(path), size, path)
        for path, _, _ in files
    ]
    _, group = np.unique([name for _, _, name in files], return_inverse=True)
    return _Images(
        np.concatenate(cuts),
        np.repeat(np.arange(len(cuts)), [len(tiles) for tiles in cuts]),
        np.array([abnormal for _, abnormal, _ in files]),
        group.astype(np.intp),
        np.zeros(len(cuts), np.intp),
    )


def cut(pixels: NDArray[np.uint8], size: int, path: Path) -> NDArray[np.uint8]:
    """Cut square tiles that cover an image, evenly placed, as few as it takes: (n, size, size, 3).

    Raises
    ------
    UsageError
        The image is smaller than a tile.
    """
    if min(pixels.shape[:2]) < size:
        raise UsageError(f"{path} is smaller than {size} px; give a smaller --size.")
    rows, columns = (
        np.linspace(0, length - size, -(-length // size)).round().astype(int)
        for length in pixels.shape[:2]
    )
    return np.stack([pixels[y : y + size, x : x + size] for y in rows for x in columns])


_Files = list[tuple[Path, bool, str]]  # with whether it is abnormal, and its group


def _chest(data: Path) -> _Files:
    """List radiographs; a group is a patient, whose number begins the file name."""
    return [
        (path, abnormal, path.name.split("_")[0])
        for path, abnormal in _two_folders(data, "no_finding", "pneumonia")
    ]


def _oral(data: Path) -> _Files:
    """List mucosa at 400x; nothing says what belongs together: every image is a group."""
    return [
        (path, abnormal, path.name)
        for path, abnormal in _two_folders(data, "normal", "carcinoma")
        if "_400x_" in path.name
    ]


def _two_folders(data: Path, normal: str, abnormal: str) -> list[tuple[Path, bool]]:
    found = [
        (path, name == abnormal)
        for name in (normal, abnormal)
        for path in files_below(data / name, _SUFFIXES)
    ]
    if {is_abnormal for _, is_abnormal in found} != {False, True}:
        raise UsageError(f"{data} needs folders {normal}/ and {abnormal}/ with images.")
    return found


def _glas(data: Path) -> _Files:
    """List healthy and malignant glands; a group is a patient."""
    table = data / "labels.csv"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            (data / "images" / row["png"], not healthy, row["patient"])
            for row in rows
            if (healthy := row["grade_sirinukunwattana"] == "healthy")
            or row["grade_glas"] == "malignant"
        ]
    except (OSError, KeyError) as error:
        raise UsageError(f"{table} is missing or damaged; copy it again.") from error

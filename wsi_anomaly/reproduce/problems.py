"""What a detector is asked: normal images to learn from, images to judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_anomaly.core.errors import UsageError

KNOWN = 50
"""At most so many known anomalies, of one type, serve to choose by; none of them is judged."""

_MOST_HELD_OUT = 200


@dataclass(frozen=True)
class Labelled:
    """The side that is learned from, abnormal images too: what the supervised control may see.

    Attributes
    ----------
    tiles, image
        (N, s, s, 3) uint8, and (N,) the image that each was cut from.
    abnormal
        (K,) which images are abnormal.
    group, judge_group
        (K,) and, of the judged images, (M,): what is never on both sides of its folds.
    """

    tiles: NDArray[np.uint8]
    image: NDArray[np.intp]
    abnormal: NDArray[np.bool_]
    group: NDArray[np.intp]
    judge_group: NDArray[np.intp]

    def __post_init__(self) -> None:
        if np.isin(self.judge_group, self.group).any():
            raise ValueError("a group is on both sides")


@dataclass(frozen=True)
class Problem:
    """One normal class, and everything that is held against it.

    Attributes
    ----------
    name
        The normal class.
    learn
        (N, S, S, 3) uint8, normal images (or tiles of them) to learn from; larger than the judged
        ones where they are cut at random in training.
    learn_group
        (N,) what they come from (patient, slide); never on both sides.
    judge
        (T, s, s, 3) uint8, images (or tiles of them) to judge.
    abnormal
        (M,) which of the judged images are abnormal.
    judge_group
        (M,) what they come from; numbers are those of the whole source, so that equal ones mean
        the same in every problem.
    kind
        (M,) what each shows: types of anomaly.
    known, known_kind
        (K, s, s, 3) uint8, a few known anomalies to choose by, and their one type.
    learn_image, judge_image
        (N,) and (T,) the image that each tile was cut from, 0 to M - 1 of the judged ones; None:
        each is an image. The score of an image is the mean over its tiles.
    labelled
        For the supervised control; None: it sees the judged images, and those that are learned from
        where none of these is set aside.
    """

    name: str
    learn: NDArray[np.uint8]
    learn_group: NDArray[np.intp]
    judge: NDArray[np.uint8]
    abnormal: NDArray[np.bool_]
    judge_group: NDArray[np.intp]
    kind: NDArray[np.str_]
    known: NDArray[np.uint8]
    known_kind: str
    learn_image: NDArray[np.intp] | None = None
    judge_image: NDArray[np.intp] | None = None
    labelled: Labelled | None = None

    def __post_init__(self) -> None:
        if np.isin(self.judge_group, self.learn_group).any():
            raise ValueError(f"{self.name}: a group is on both sides")
        if not self.abnormal.any() or self.abnormal.all():
            raise UsageError(
                f"{self.name}: there are no {'abnormal' if not self.abnormal.any() else 'normal'} "
                "images to judge; a figure needs both."
            )

    def hold_out(
        self, seed: int, share: float
    ) -> tuple[Problem, NDArray[np.uint8], NDArray[np.intp] | None]:
        """Set normal images aside to choose by, by group.

        Returns
        -------
        The problem without them; `share` of its tiles (n, S, S, C), n <= 200; their images (n,).
        """
        size = self.judge.shape[1]
        if not share:
            return self, self.learn[:0, :size, :size], None
        rng = np.random.default_rng([seed, 1])
        groups = rng.permutation(np.unique(self.learn_group))
        wanted = min(_MOST_HELD_OUT, max(1, round(share * len(self.learn))))
        chosen: list[int] = []
        count = 0
        for group in groups[:-1]:
            if count >= wanted:
                break
            chosen.append(int(group))
            count += int((self.learn_group == group).sum())
        aside = np.isin(self.learn_group, chosen)
        image = self.learn_image
        rest = replace(
            self,
            learn=self.learn[~aside],
            learn_group=self.learn_group[~aside],
            learn_image=None if image is None else image[~aside],
        )
        few = np.flatnonzero(aside)[:_MOST_HELD_OUT]
        return rest, centres(self.learn[few], size), None if image is None else image[few]

    def greyed(self) -> Problem:
        """Take the colour from all images, which leaves three equal channels."""
        return replace(
            self, learn=_grey(self.learn), judge=_grey(self.judge), known=_grey(self.known)
        )


def _grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = [np.asarray(Image.fromarray(i).convert("L").convert("RGB")) for i in images]
    return np.array(found, np.uint8).reshape(images.shape)


class Source(Protocol):
    """A data set on disk."""

    @property
    def key(self) -> str:
        """Name in files and in the tables of the paper."""

    @property
    def title(self) -> str:
        """Name beside a figure."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know about the data and their division."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its problems."""

    @property
    def errors(self) -> Sequence[str]:
        """A sentence for each piece that could not be used; the others are."""

    @property
    def divided_by_seed(self) -> bool:
        """Whether the seed draws the division; otherwise the set has one of its own."""

    def problem(self, name: str, *, size: int, equalise: bool, seed: int) -> Problem:
        """Read one problem.

        Parameters
        ----------
        name
            One of `classes`.
        size
            Side of the images, px.
        equalise
            Equalise the histogram of each image first (radiographs).
        seed
            Draws the division where the set has none of its own.
        """


def mean_of_images(
    values: NDArray[np.floating], image: NDArray[np.intp] | None
) -> NDArray[np.float64]:
    """Mean of per-tile values (N, ...) over the tiles of each image, (M, ...), in order."""
    if image is None:
        return np.asarray(values, np.float64)
    _, place, number = np.unique(image, return_inverse=True, return_counts=True)
    total = np.zeros((len(number), *values.shape[1:]))
    np.add.at(total, place, values)
    means: NDArray[np.float64] = total / number.reshape(-1, *[1] * (values.ndim - 1))
    return means


def chosen_classes(source: Source, classes: Sequence[str]) -> tuple[str, ...]:
    """Take the classes that were asked for; none named: all.

    Raises
    ------
    UsageError
        The data set has no such class.
    """
    unknown = [name for name in classes if name not in source.classes]
    if unknown:
        raise UsageError(
            f"{source.title} has no class {unknown[0]!r}; it has {', '.join(source.classes)}."
        )
    return tuple(classes) or source.classes


def draw(indices: NDArray[np.intp], most: int | None, seed: int = 0) -> NDArray[np.intp]:
    """At most `most` of the indices (n,), in order; the same ones for the same seed."""
    if most is None or len(indices) <= most:
        return indices
    chosen = np.random.default_rng(seed).choice(len(indices), most, replace=False)
    return indices[np.sort(chosen)]


def judged(
    abnormal: NDArray[np.bool_], candidates: NDArray[np.intp], most: int | None
) -> NDArray[np.intp]:
    """At most `most` normal and as many abnormal candidates (n,), indices into `abnormal`."""
    sides = [draw(candidates[abnormal[candidates] == side], most) for side in (False, True)]
    return np.sort(np.concatenate(sides))


def centres(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Middle of images (N, S, S, 3), (N, size, size, 3)."""
    start = (images.shape[1] - size) // 2
    return images[:, start : start + size, start : start + size]


def resized(images: Iterable[NDArray[np.uint8]], size: int) -> NDArray[np.uint8]:
    """Whole images brought to `size` px, bilinear: (N, size, size, 3)."""
    found = []
    for pixels in images:
        image = Image.fromarray(pixels).convert("RGB")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        found.append(np.asarray(image))
    return np.array(found, np.uint8).reshape(-1, size, size, 3)

"""What `contrast` learned, and ways to measure from it and from marked normal tissue (marks.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_anomaly.detectors.edges import above_usual

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Learned:
    """What `contrast` learned: middle (D,), whitening (D, D), other tissues (K, D), units."""

    middle: Array
    root: Array
    others: Array
    units: Array
    usual: torch.Tensor | None

    def score(self, distance: Array, share: NDArray[np.floating]) -> Array:
        """Scores (N,) of distances, as ``density`` makes them."""
        score = torch.from_numpy((distance - self.units[0]) / self.units[1]).float()
        if self.usual is not None:
            score = above_usual(score, torch.from_numpy(share), self.usual)
        return score.double().numpy()

    def span(self, *points: Array) -> Array:
        """Axes (q, D) that the differences between points (D,) and all other tissues span."""
        first, *rest = points
        towards = np.concatenate([self.others, *(p[None] for p in rest)]) - first
        _, size, axes = np.linalg.svd(towards @ self.root, full_matrices=False)
        found: Array = axes[size > 1e-6 * size.max()] @ self.root.T
        return found


Way = Callable[[Learned, Array, list[Array]], Array]
"""Distances (N,) of directions (N, D), given those of the marked cells by kind."""


def _from(axes: Array, directions: Array, middle: Array) -> Array:
    return np.asarray(np.linalg.norm((directions - middle) @ axes.T, axis=1))


def today(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """Without any mark."""
    del marks
    return _from(learned.span(learned.middle), directions, learned.middle)


def nearest(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """From the nearest reference, learned or marked, each along axes of its own."""
    middles = [learned.middle, *(mark.mean(0) for mark in marks)]
    return np.min([_from(learned.span(m), directions, m) for m in middles], axis=0)


def same_axes(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """From the nearest reference, along the axes that were learned."""
    axes = learned.span(learned.middle)
    middles = [learned.middle, *(mark.mean(0) for mark in marks)]
    return np.asarray(np.min([_from(axes, directions, m) for m in middles], axis=0))


def marked_only(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """From the nearest marked kind; what was learned is no reference."""
    middles = [mark.mean(0) for mark in marks]
    return np.min([_from(learned.span(m), directions, m) for m in middles], axis=0)


def shared_axes(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """From the nearest reference, along axes that all of them and the other tissues span."""
    middles = [learned.middle, *(mark.mean(0) for mark in marks)]
    axes = learned.span(*middles)
    return np.min([_from(axes, directions, m) for m in middles], axis=0)


def shared_marked(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """`shared_axes` without what was learned as a reference."""
    middles = [mark.mean(0) for mark in marks]
    axes = learned.span(learned.middle, *middles)
    return np.min([_from(axes, directions, m) for m in middles], axis=0)


def all_axes(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """From the nearest marked kind along all directions, not the axes alone."""
    middles = [mark.mean(0) for mark in marks]
    return np.min([_from(learned.root.T, directions, m) for m in middles], axis=0)


def both_unusual(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """The smaller of two: as learned, and from the nearest mark in all directions.

    Each in robust units of its own normal tissue: what is flagged is unlike what was learned and
    unlike every mark.
    """
    middles = [mark.mean(0) for mark in marks]
    found, usual = (
        np.min([_from(learned.root.T, some, m) for m in middles], axis=0)
        for some in (directions, np.concatenate(marks))
    )
    middle = np.median(usual)
    units = (found - middle) / (1.4826 * np.median(np.abs(usual - middle)))
    as_learned = learned.units[0] + learned.units[1] * units
    return np.minimum(_from(learned.span(learned.middle), directions, learned.middle), as_learned)


def own_units(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """`shared_axes`, each distance over the median of its own marked cells."""
    middles = [mark.mean(0) for mark in marks]
    axes = learned.span(learned.middle, *middles)
    spread = [np.median(_from(axes, mark, m)) for mark, m in zip(marks, middles, strict=True)]
    found = [_from(axes, directions, m) / s for m, s in zip(middles, spread, strict=True)]
    found.append(_from(axes, directions, learned.middle) / np.median(spread))
    return np.asarray(np.min(found, axis=0) * np.median(spread))


def neighbours(learned: Learned, directions: Array, marks: list[Array]) -> Array:
    """Mean distance to the three nearest marked cells of any kind, along the shared axes."""
    axes = learned.span(learned.middle, *(mark.mean(0) for mark in marks))
    cells = np.concatenate(marks) @ axes.T
    apart = np.linalg.norm((directions @ axes.T)[:, None] - cells[None], axis=2)
    return np.asarray(np.sort(apart, axis=1)[:, :3].mean(1))


WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        today, nearest, same_axes, marked_only, shared_axes, shared_marked, all_axes, own_units,
        both_unusual,
        neighbours,
    )
}  # fmt: skip

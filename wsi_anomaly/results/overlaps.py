"""When two outlines are of one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

Area: TypeAlias = Polygon | MultiPolygon

_LEAST_IOU = 0.5


def same_place(outlines: Sequence[Area]) -> list[int]:
    """Give the positions of outlines that no later one stands for, in their order.

    Two stand for one place when they overlap by half of what they cover together.
    """
    if not outlines:
        return []
    first, second = meeting(outlines, outlines)
    later = second > first
    first, second = first[later], second[later]
    areas = np.asarray(outlines, object)
    shared = shapely.area(shapely.intersection(areas[first], areas[second]))
    union = shapely.area(areas[first]) + shapely.area(areas[second]) - shared
    replaced = set(first[shared >= _LEAST_IOU * union].tolist())
    return [i for i in range(len(outlines)) if i not in replaced]


def meeting(
    some: Sequence[Area], others: Sequence[Area]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find pairs of outlines whose boxes meet: positions (n,) of some, (n,) of others."""
    tree = shapely.STRtree(np.asarray(others, object))
    first, second = tree.query(np.asarray(some, object))
    return first, second


def matched_pairs(some: Sequence[Area], others: Sequence[Area]) -> list[tuple[int, int]]:
    """Pair outlines that overlap by half of what they cover together, the best first."""
    if not some or not others:
        return []
    a, b = np.asarray(some, object), np.asarray(others, object)
    i, k = meeting(some, others)
    shared = shapely.area(shapely.intersection(a[i], b[k]))
    iou = shared / (shapely.area(a[i]) + shapely.area(b[k]) - shared)
    taken: tuple[set[int], set[int]] = set(), set()
    found = []
    for at in np.argsort(-iou, kind="stable"):
        pair = int(i[at]), int(k[at])
        if iou[at] >= _LEAST_IOU and pair[0] not in taken[0] and pair[1] not in taken[1]:
            found.append(pair)
            taken[0].add(pair[0])
            taken[1].add(pair[1])
    return sorted(found)

"""Cells become rows: mean and spread over seeds, with an interval.

A figure is the mean ROC AUC over problems (classes) and seeds, its spread the standard deviation
over seeds, as in the paper. Its 95% interval is that of ``evaluate``, a studentised jackknife over
what the judged images come from (patients, slides; images where nothing more is known), the same
are left out in every row, so that two rows can be compared. Where a class comes from fewer than
``LEAST_GROUPS`` groups there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.baselines import BASELINES
from wsi_anomaly.evaluation.metrics import LEAST_GROUPS, each_left_out, interval, resampled
from wsi_anomaly.reproduce.rows import ROWS
from wsi_anomaly.reproduce.scores import Place, Scores

_BLOCKS = 200


@dataclass(frozen=True)
class RowSummary:
    """What the cells of a row say together.

    Attributes
    ----------
    row
        Its name.
    auc
        Problem to the mean over seeds.
    mean, spread, low, high
        Over problems and seeds; spread over seeds is NaN with one.
    without
        (blocks,) mean ROC AUC with each block of groups left out; NaN, and so is the interval,
        where a cell judges too few groups.
    rarer
        Number of groups with the class that fewer have, the fewest of any cell.
    seeds
        Number of seeds, the fewest of any problem.
    cells
        Finished and wanted.
    settings, learned_from
        Of the first cell; number of images that a cell learned from.
    slide_auc
        ROC AUC of the groups, where images come in groups.
    published
        Least and most steps of the published trainings.
    precision
        Number formats of the network that the cells state; none by those of an earlier version.
    """

    row: str
    auc: Mapping[str, float]
    mean: float
    spread: float
    low: float
    high: float
    without: NDArray[np.float64]
    rarer: int
    seeds: int
    cells: tuple[int, int]
    settings: Mapping[str, Any]
    learned_from: int
    slide_auc: float | None
    published: tuple[int, int] | None = None
    precision: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every cell is there."""
        return self.cells[0] == self.cells[1]


def summarise(places: Sequence[Place]) -> list[RowSummary]:
    """Summaries of the rows that have at least one finished cell, in the order of ``ROWS``."""
    done = [place for place in places if place.done]
    most = max((int(Scores.load(p.scores).group.max()) for p in done), default=0)
    left_out = _blocks_left_out(most + 1)
    return [
        _summary(row, [p for p in places if p.row == row], left_out)
        for row in sorted({place.row for place in done}, key=ROWS.index)
    ]


def _blocks_left_out(groups: int) -> NDArray[np.float64]:
    """How often each group counts with one block of them left out in turn, (blocks, groups).

    A block is a group, or several where there are thousands: of their images nothing is known
    that would make some belong together.
    """
    block = np.arange(groups)
    if groups > _BLOCKS:
        block = np.random.default_rng(0).permutation(groups) % _BLOCKS
    return each_left_out(int(block.max()) + 1)[:, block]


def _mean_where_there(without: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the cells (C, blocks) that have both classes then; NaN where none has."""
    there = np.isfinite(without)
    number = there.sum(0)
    total = np.where(there, without, 0).sum(0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _rarer(scores: Scores) -> int:
    """Count the groups with the class that fewer have."""
    return min(len(np.unique(scores.group[of])) for of in (scores.abnormal, ~scores.abnormal))


def _summary(row: str, places: Sequence[Place], left_out: NDArray[np.float64]) -> RowSummary:
    done = [place for place in places if place.done]
    cells = [place.read() for place in done]
    by_problem: dict[str, list[float]] = {}
    by_seed: dict[int, list[float]] = {}
    found, rarer = [], len(left_out)
    for place, cell in zip(done, cells, strict=True):
        scores = Scores.load(place.scores)
        by_problem.setdefault(place.problem, []).append(cell["auc"])
        by_seed.setdefault(place.seed, []).append(cell["auc"])
        found.append(resampled(scores.abnormal, scores.judge, scores.group, left_out)["roc_auc"])
        rarer = min(rarer, _rarer(scores))
    problems = len({place.problem for place in places})
    whole_seeds = [float(np.mean(v)) for v in by_seed.values() if len(v) == problems]
    mean = float(np.mean([cell["auc"] for cell in cells]))
    without = _mean_where_there(np.array(found))
    if rarer < LEAST_GROUPS:
        without = np.full_like(without, np.nan)
    low, high = interval(mean, without, rarer=rarer)
    lengths = [p.settings["published"][0] for p in done if "published" in p.settings]
    slides = [cell["slide_auc"] for cell in cells if cell["slide_auc"] is not None]
    return RowSummary(
        row,
        {name: float(np.mean(values)) for name, values in by_problem.items()},
        mean,
        float(np.std(whole_seeds, ddof=1)) if len(whole_seeds) > 1 else float("nan"),
        low,
        high,
        without,
        rarer,
        min(map(len, by_problem.values())),
        (len(done), len(places)),
        done[0].settings,
        int(np.median([cell["learned_from"] for cell in cells if "learned_from" in cell] or [0])),
        float(np.mean(slides)) if slides else None,
        (min(lengths), max(lengths)) if lengths else None,
        tuple(sorted({cell["precision"] for cell in cells if "precision" in cell})),
    )


Verdict = tuple[RowSummary, RowSummary, float, float, float]


def best_against_best(rows: Sequence[RowSummary]) -> Verdict | None:
    """Our best detector against the best compared system: the rows, difference, interval."""
    ours = [r for r in rows if r.row in ("dpa", "density", "fusion") and r.whole]
    theirs = [r for r in rows if r.row in BASELINES and r.whole]
    if not ours or not theirs:
        return None
    first = max(ours, key=lambda r: r.mean)
    second = max(theirs, key=lambda r: r.mean)
    difference = first.mean - second.mean
    ends = interval(
        difference, first.without - second.without, rarer=min(first.rarer, second.rarer),
        share=False,
    )  # fmt: skip
    return first, second, difference, *ends

"""Cells become rows: mean and spread over seeds, with an interval.

A figure is the mean ROC AUC over problems (classes) and seeds, its spread the standard deviation
over seeds, as in the paper. Its 95% interval comes from resampling what the judged images come
from (patients, slides; images where nothing more is known), the same draws for every row, so that
two rows can be compared draw by draw. With fewer than three groups, or a class of one group, there
is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.baselines import BASELINES
from wsi_anomaly.evaluation.metrics import LEAST_GROUPS, resampled
from wsi_anomaly.reproduce.rows import ROWS
from wsi_anomaly.reproduce.scores import Place, Scores

DRAWS = 200


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
    draws
        (draws,) mean ROC AUC in each draw of groups; NaN, and so is the interval, where a cell
        judges too few groups to resample.
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
    draws: NDArray[np.float64]
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
    drawn = _draws(most + 1)
    return [
        _summary(row, [p for p in places if p.row == row], drawn)
        for row in sorted({place.row for place in done}, key=ROWS.index)
    ]


def _mean_where_there(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the cells (C, draws) that had both classes in a draw; NaN where none had."""
    there = np.isfinite(draws)
    number = there.sum(0)
    total = np.where(there, draws, 0).sum(0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _can_vary(scores: Scores) -> bool:
    """Whether resampling groups says anything; the rule of ``evaluate``."""
    classes = [np.unique(scores.group[part]) for part in (scores.abnormal, ~scores.abnormal)]
    return len(np.unique(scores.group)) >= LEAST_GROUPS and min(map(len, classes)) > 1


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """95% of the draws lie in it; NaN where none had both classes."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _draws(groups: int) -> NDArray[np.float64]:
    """How often each group is drawn, (draws, groups)."""
    rng = np.random.default_rng(0)
    rows = [np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(DRAWS)]
    return np.array(rows, np.float64)


def _summary(row: str, places: Sequence[Place], drawn: NDArray[np.float64]) -> RowSummary:
    done = [place for place in places if place.done]
    cells = [place.read() for place in done]
    by_problem: dict[str, list[float]] = {}
    by_seed: dict[int, list[float]] = {}
    draws, enough = [], True
    for place, cell in zip(done, cells, strict=True):
        scores = Scores.load(place.scores)
        by_problem.setdefault(place.problem, []).append(cell["auc"])
        by_seed.setdefault(place.seed, []).append(cell["auc"])
        draws.append(resampled(scores.abnormal, scores.judge, scores.group, drawn)["roc_auc"])
        enough = enough and _can_vary(scores)
    problems = len({place.problem for place in places})
    whole_seeds = [float(np.mean(v)) for v in by_seed.values() if len(v) == problems]
    means = _mean_where_there(np.array(draws))
    if not enough:
        means = np.full_like(means, np.nan)
    low, high = _interval(means)
    lengths = [p.settings["published"][0] for p in done if "published" in p.settings]
    slides = [cell["slide_auc"] for cell in cells if cell["slide_auc"] is not None]
    return RowSummary(
        row,
        {name: float(np.mean(values)) for name, values in by_problem.items()},
        float(np.mean([cell["auc"] for cell in cells])),
        float(np.std(whole_seeds, ddof=1)) if len(whole_seeds) > 1 else float("nan"),
        low,
        high,
        means,
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
    return first, second, first.mean - second.mean, *_interval(first.draws - second.draws)

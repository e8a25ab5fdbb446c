"""What a search tells while it runs, and what it has found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.learning.loop import Report
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.tuning.confidence import Comparison

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

START = "start"
"""Marks trials of the configuration that a search began with."""


@dataclass(frozen=True)
class Tried:
    """One trial that ended.

    Attributes
    ----------
    number
        Of the trial, from 0.
    state
        "complete" or "pruned".
    value
        Mean over the folds that were judged; NaN when the first one failed.
    folds
        Value of each fold that was judged.
    steps
        Steps trained in each fold.
    seconds
        From its begin to its end.
    choices
        What was chosen, by name.
    config
        The configuration.
    sums
        Of each fold; see :class:`~wsi_anomaly.tuning.fold_scores.FoldResult`.
    start
        Whether it is the configuration that the search began with.
    reason
        Why it has no value; else "".
    """

    number: int
    state: str
    value: float
    folds: tuple[float, ...]
    steps: tuple[int, ...]
    seconds: float
    choices: Mapping[str, Any]
    config: TrainConfig
    sums: tuple[NDArray[np.float64], ...]
    start: bool
    reason: str

    @classmethod
    def of(cls, trial: FrozenTrial) -> Tried:
        """Read a trial of the study."""
        from optuna.trial import TrialState

        attributes = trial.user_attrs
        folds: list[dict[str, Any]] = []
        while f"fold {len(folds)}" in attributes:
            folds.append(attributes[f"fold {len(folds)}"])
        values = tuple(float(f["value"]) for f in folds)
        duration = trial.duration
        return cls(
            number=trial.number,
            state="complete" if trial.state == TrialState.COMPLETE else "pruned",
            value=float(np.mean(values)) if values else float("nan"),
            folds=values,
            steps=tuple(int(f["steps"]) for f in folds),
            seconds=0.0 if duration is None else duration.total_seconds(),
            choices=dict(trial.params),
            config=TrainConfig.from_dict(attributes["config"], "The study"),
            sums=tuple(np.asarray(f["sums"], np.float64) for f in folds),
            start=attributes.get(START) == "own",
            reason=str(attributes.get("reason", "")),
        )


@dataclass(frozen=True)
class Found:
    """What a search has chosen.

    Attributes
    ----------
    best
        The chosen trial.
    start
        The trial of the configuration that the search began with; None when it has no value.
    second
        The best trial with other choices; None when there is none.
    tried
        All trials that ended, by number.
    over_start, over_second
        How the chosen one compares with these two under resampling; None where there is nothing
        to compare.
    intervals
        Number of a complete trial to the middle 95% of its resampled values.
    criterion
        "roc-auc" or "reconstruction".
    cases, groups
        How many normal cases took part, and how many groups of anomalies.
    """

    best: Tried
    start: Tried | None
    second: Tried | None
    tried: tuple[Tried, ...]
    over_start: Comparison | None
    over_second: Comparison | None
    intervals: Mapping[int, tuple[float, float]]
    criterion: str
    cases: int
    groups: int

    @property
    def config(self) -> TrainConfig:
        """The chosen configuration."""
        return self.best.config


def _nothing(*_arguments: Any) -> None:
    """Tell nobody."""


@dataclass
class Watch:
    """Who is told what while a search runs; everything may be left out.

    Attributes
    ----------
    trial
        Called with a number and the choices when a trial begins.
    fold
        Called with the fold (from 0) and its value when one is judged.
    ended
        Called with all trials that have ended and the number of the latest, when one ends here.
    report
        Called with each report of a training loop.
    note
        Called with sentences that the user should read.
    """

    trial: Callable[[int, Mapping[str, Any]], None] = _nothing
    fold: Callable[[int, float], None] = _nothing
    ended: Callable[[tuple[Tried, ...], int], None] = _nothing
    report: Callable[[Report], None] = _nothing
    note: Callable[[str], None] = _nothing

"""The search itself: configurations are tried, judged fold by fold, and one is chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.autoencoder.loop import Report
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.search.certainty import Comparison, compared, resampled
from wsi_anomaly.search.judging import Judge
from wsi_anomaly.search.space import Space
from wsi_anomaly.search.study import database_errors, fail_silent_trials
from wsi_anomaly.training.config import TrainConfig

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

_BASE = "start"
_WAIT_S = 1.0


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
        Of each fold; see :class:`~wsi_anomaly.search.judging.FoldResult`.
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


@dataclass
class Search:
    """Tries configurations of a space until so many trials have ended, here or elsewhere.

    Attributes
    ----------
    judge, space, base
        Who judges, what may be chosen, and what the choices are put into.
    study
        Where trials are kept; processes that share it share the work.
    storage
        Its address, for messages.
    watch
        Who is told what.
    """

    judge: Judge
    space: Space
    base: TrainConfig
    study: Study
    storage: str | None = None
    watch: Watch = field(default_factory=Watch)
    _current: Trial | None = field(default=None, init=False, repr=False)

    @property
    def maximize(self) -> bool:
        """Whether a higher value is better."""
        return self.judge.criterion == "roc-auc"

    def run(self, trials: int) -> Found:
        """Run until `trials` trials have ended; what others run meanwhile is waited for.

        Raises
        ------
        ModelError
            Not one trial could be completed.
        WsiAnomalyError
            The database cannot be used.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        with database_errors(self.storage):
            if not self.study.get_trials(deepcopy=False):
                self._enqueue_starts()
            waiting = False
            while True:
                fail_silent_trials(self.study)
                ended, running = self._count()
                if ended >= trials:
                    break
                if ended + running >= trials:
                    if not waiting:
                        self.watch.note("The last trials run in other processes; waiting for them.")
                    waiting = True
                    time.sleep(_WAIT_S)
                    continue
                try:
                    self.study.optimize(self._objective, n_trials=1)
                except UpdateFinishedTrialError:
                    continue  # held up so long that another process took the trial for dead
                except KeyboardInterrupt:
                    self._give_back()
                    raise
                if self._current is not None:
                    self.watch.ended(self.tried(), self._current.number)
                self._current = None
        return self.found()

    def tried(self) -> tuple[Tried, ...]:
        """Return the trials that have ended, by number."""
        from optuna.trial import TrialState

        ended = self.study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)
        )
        return tuple(_tried(trial) for trial in ended)

    def found(self) -> Found:
        """Choose among the trials that have ended.

        Raises
        ------
        ModelError
            Not one is complete.
        """
        tried = self.tried()
        sign = -1 if self.maximize else 1
        complete = sorted(
            (t for t in tried if t.state == "complete"), key=lambda t: (sign * t.value, t.number)
        )
        if not complete:
            reason = next((t.reason for t in tried if t.reason), "")
            raise ModelError(f"None of the trials could be completed: {reason}")
        best = complete[0]
        start = next((t for t in complete if t.start), None)
        second = next((t for t in complete[1:] if t.config != best.config), None)
        counts = [self.judge.pairs(k) for k in range(len(self.judge.folds))]
        values = resampled([t.sums for t in complete], counts)
        column = {t.number: values[:, j] for j, t in enumerate(complete)}

        def against(other: Tried | None) -> Comparison | None:
            if other is None or other.config == best.config:
                return None
            return compared(column[best.number], column[other.number], maximize=self.maximize)

        ends = np.percentile(values, [2.5, 97.5], axis=0)
        return Found(
            best,
            start,
            second,
            tried,
            against(start),
            against(second),
            {t.number: (float(ends[0, j]), float(ends[1, j])) for j, t in enumerate(complete)},
            self.judge.criterion,
            sum(len(cases) for cases, _ in counts),
            len(counts[0][1]) if self.maximize else 0,
        )

    def _enqueue_starts(self) -> None:
        """Let the base configuration be tried first, with each method ranking."""
        methods = self.space.detectors
        own = self.base.detector if self.base.detector in methods else methods[0]
        for detector in sorted(methods, key=lambda name: name != own):
            self.study.enqueue_trial(
                self.space.start(self.base, detector),
                user_attrs={_BASE: "own" if detector == own else "other"},
                skip_if_exists=True,
            )

    def _count(self) -> tuple[int, int]:
        """How many trials have ended with or without a value, and how many run."""
        from optuna.trial import TrialState

        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        ended = states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED)
        return ended, states.count(TrialState.RUNNING)

    def _objective(self, trial: Trial) -> float:
        import optuna

        self._current = trial
        config, view = self.space.suggest(trial, self.base)
        trial.set_user_attr("config", config.to_dict())
        self.watch.trial(trial.number, trial.params)
        values: list[float] = []
        for k in range(len(self.judge.folds)):
            try:
                result = self.judge.fold(config, view, k, self.watch.report)
            except ModelError as error:
                trial.set_user_attr("reason", str(error))
                raise optuna.TrialPruned from error
            trial.set_user_attr(
                f"fold {k}",
                {"value": result.value, "sums": result.sums, "steps": result.steps},
            )
            values.append(result.value)
            self.watch.fold(k, result.value)
            trial.report(float(np.mean(values)), k)
            more = k + 1 < len(self.judge.folds)
            # What the search began with is always judged to the end: the choice is held against it.
            if more and _BASE not in trial.user_attrs and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(values))

    def _give_back(self) -> None:
        """Let the trial that was interrupted here run again; its checkpoints are kept."""
        if self._current is not None:
            choices, attributes = self._current.params, self._current.user_attrs
            kept = {_BASE: attributes[_BASE]} if _BASE in attributes else None
            self.study.enqueue_trial(choices, user_attrs=kept)


def _tried(trial: FrozenTrial) -> Tried:
    from optuna.trial import TrialState

    attributes = trial.user_attrs
    folds: list[dict[str, Any]] = []
    while f"fold {len(folds)}" in attributes:
        folds.append(attributes[f"fold {len(folds)}"])
    values = tuple(float(f["value"]) for f in folds)
    duration = trial.duration
    return Tried(
        number=trial.number,
        state="complete" if trial.state == TrialState.COMPLETE else "pruned",
        value=float(np.mean(values)) if values else float("nan"),
        folds=values,
        steps=tuple(int(f["steps"]) for f in folds),
        seconds=0.0 if duration is None else duration.total_seconds(),
        choices=dict(trial.params),
        config=TrainConfig.from_dict(attributes["config"], "The study"),
        sums=tuple(np.asarray(f["sums"], np.float64) for f in folds),
        start=attributes.get(_BASE) == "own",
        reason=str(attributes.get("reason", "")),
    )

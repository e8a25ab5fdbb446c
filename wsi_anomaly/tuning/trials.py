"""The search itself: configurations are tried, judged fold by fold, and one is chosen."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.tuning.confidence import Comparison, compare, resampled
from wsi_anomaly.tuning.fold_scores import FoldScorer
from wsi_anomaly.tuning.records import START, Found, Tried, Watch
from wsi_anomaly.tuning.space import Space
from wsi_anomaly.tuning.study import database_errors, fail_silent_trials

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

_WAIT_S = 1.0
_REDRAWS = 25


class _SurplusTrialError(Exception):
    """Another process has begun the last trial at the same moment."""


class _TriedBeforeError(Exception):
    """The sampler has drawn choices that were judged before."""


@dataclass
class Search:
    """Tries configurations of a space until so many trials have ended, here or elsewhere.

    Attributes
    ----------
    scorer, space, base
        Who judges, what may be chosen, and what the choices are put into.
    study
        Where trials are kept; processes that share it share the work.
    storage
        Its address, for messages.
    watch
        Who is told what.
    """

    scorer: FoldScorer
    space: Space
    base: TrainConfig
    study: Study
    storage: str | None = None
    watch: Watch = field(default_factory=Watch)
    _current: Trial | None = field(default=None, init=False, repr=False)

    @property
    def maximize(self) -> bool:
        """Whether a higher value is better."""
        return self.scorer.criterion == "roc-auc"

    def run(self, trials: int) -> Found:
        """Run until `trials` trials have ended; what others run meanwhile is waited for.

        Raises
        ------
        ModelError
            Not one trial could be completed.
        WsiAnomalyError
            The database cannot be used.
        """
        with database_errors(self.storage):
            if not self.study.get_trials(deepcopy=False):
                self._enqueue_starts()
            waiting, redrawn = False, 0
            while redrawn < _REDRAWS:
                fail_silent_trials(self.study)
                ended, running = self._count()
                if ended >= trials:
                    break
                if ended + running >= trials:
                    if not waiting:
                        self.watch.note(
                            "The last trials run in other processes; waiting for them. Those of a "
                            "process that was ended begin again after two minutes."
                        )
                    waiting = True
                    time.sleep(_WAIT_S)
                elif self._try_one(trials):
                    redrawn = 0
                else:
                    redrawn += 1
            else:
                self.watch.note(
                    f"The search ends after {ended} trials: whatever is drawn now has been tried."
                )
        return self.found()

    def _try_one(self, trials: int) -> bool:
        """Run one trial; False when its choices had been judged before."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.study.optimize(lambda trial: self._objective(trial, trials), n_trials=1)
        except _TriedBeforeError:
            return False
        except (_SurplusTrialError, UpdateFinishedTrialError):
            # The latter: held up so long that another process took the trial for dead.
            return True
        except KeyboardInterrupt:
            self._give_back()
            raise
        if self._current is not None:
            self.watch.ended(self.tried(), self._current.number)
            self._current = None
        return True

    def tried(self) -> tuple[Tried, ...]:
        """Return the trials that have ended, by number."""
        from optuna.trial import TrialState

        ended = self.study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)
        )
        return tuple(Tried.of(trial) for trial in ended)

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
        counts = [self.scorer.pairs(k) for k in range(len(self.scorer.folds))]
        values = resampled([t.sums for t in complete], counts)
        column = {t.number: values[:, j] for j, t in enumerate(complete)}

        def against(other: Tried | None) -> Comparison | None:
            if other is None or other.config == best.config:
                return None
            return compare(column[best.number], column[other.number], maximize=self.maximize)

        ends = np.percentile(values, [2.5, 97.5], axis=0)
        return Found(
            best,
            start,
            second,
            tried,
            against(start),
            against(second),
            {t.number: (float(ends[0, j]), float(ends[1, j])) for j, t in enumerate(complete)},
            self.scorer.criterion,
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
                user_attrs={START: "own" if detector == own else "other"},
                skip_if_exists=True,
            )

    def _count(self) -> tuple[int, int]:
        """How many trials have ended with or without a value, and how many run."""
        from optuna.trial import TrialState

        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        ended = states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED)
        return ended, states.count(TrialState.RUNNING)

    def _check(self, trial: Trial, trials: int) -> None:
        """Refuse a trial that is too many, or that has been tried.

        Failed trials are not counted: their numbers are left out.
        """
        from optuna.trial import TrialState

        wanted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        others = self.study.get_trials(deepcopy=False, states=wanted)
        before = [t for t in others if t.number < trial.number]
        if len(before) >= trials:
            raise _SurplusTrialError
        if any(t.params == trial.params for t in before):
            raise _TriedBeforeError

    def _objective(self, trial: Trial, trials: int) -> float:
        import optuna

        config, view = self.space.suggest(trial, self.base)
        self._check(trial, trials)
        self._current = trial
        trial.set_user_attr("config", config.to_dict())
        self.watch.trial(trial.number, trial.params)
        values: list[float] = []
        for k in range(len(self.scorer.folds)):
            try:
                result = self.scorer.fold(config, view, k, self.watch.report)
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
            more = k + 1 < len(self.scorer.folds)
            # What the search began with is always judged to the end: the choice is held against it.
            if more and START not in trial.user_attrs and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(values))

    def _give_back(self) -> None:
        """Let the trial that was interrupted here run again; its checkpoints are kept."""
        if self._current is not None:
            choices, attributes = self._current.params, self._current.user_attrs
            kept = {START: attributes[START]} if START in attributes else None
            self.study.enqueue_trial(choices, user_attrs=kept)

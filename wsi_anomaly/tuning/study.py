"""The study: trials in a database that several processes and machines may share."""

from __future__ import annotations

import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import make_folder, output_errors
from wsi_anomaly.core.locks import alone_with

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

NAME = "wsi-anomaly tune"
_IDENTITY = "made of"

_HEARTBEAT_S, _SILENT_S = 10, 120
_LOCKED_AFTER_S = 30.0
_RETRIES = 2
_OPENINGS = 5
_STARTUP_TRIALS = 10


def default_storage(folder: Path, note: Callable[[str], None] = lambda _text: None) -> str | None:
    """Address of the study in an output folder: a SQLite file.

    SQLite needs locks. On a disk that has none the study lies in memory (None), and `note` is
    told: the same command draws the same trials again, and their folds are kept in files.
    """
    file = make_folder(folder).absolute() / "search.db"
    with output_errors(file), alone_with(file) as alone:
        if alone or sys.platform == "win32":  # SQLite has locks of its own there
            return f"sqlite:///{file}"
    note(f"{folder} cannot be locked: run one search there at a time.")
    return None


def open_study(
    storage: str | None,
    identity: Mapping[str, Any],
    *,
    maximize: bool,
    seed: int,
    resume: bool = True,
) -> Study:
    """Open a study, or begin one.

    Parameters
    ----------
    storage
        Address of a database as Optuna takes it; None: in memory.
    identity
        What the search is made of; a study of another one is refused. JSON-ready.
    maximize
        Whether higher values are better.
    seed
        Of the sampler: trial n draws the same numbers in whichever process it runs.
    resume
        Go on with the study that is there; False: delete it first.

    Raises
    ------
    UsageError
        The study that is there is another search's.
    WsiAnomalyError
        The database cannot be used.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with database_errors(storage):
        place = None if storage is None else _connect(storage)
        if not resume and place is not None:
            names = optuna.get_all_study_names(place)
            if NAME in names:
                optuna.delete_study(study_name=NAME, storage=place)
        study = optuna.create_study(
            storage=place,
            study_name=NAME,
            sampler=_by_number(seed),
            pruner=optuna.pruners.MedianPruner(),
            direction="maximize" if maximize else "minimize",
            load_if_exists=True,
        )
        begun = bool(study.get_trials(deepcopy=False))
        # Read after the trials: whoever began one has written before what it is made of.
        found = study.user_attrs.get(_IDENTITY)
        if found is None and not begun:
            study.set_user_attr(_IDENTITY, dict(identity))
        elif found != dict(identity):
            ours = dict(identity)
            what = [name for name in ours if not found or found.get(name) != ours[name]]
            raise UsageError(
                f"{storage} holds a search with other {_listed(what)}; finish that one, choose "
                "another --output or --storage, or start anew with --overwrite."
            )
    return study


def _connect(storage: str) -> optuna.storages.BaseStorage:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    sqlite = storage.startswith("sqlite")
    if sqlite and "///" in storage and storage.partition("///")[2]:
        make_folder(Path(storage.partition("///")[2]).parent)
    for attempt in range(_OPENINGS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.RDBStorage(
                    storage,
                    engine_kwargs=(
                        {"connect_args": {"timeout": _LOCKED_AFTER_S}} if sqlite else None
                    ),
                    heartbeat_interval=_HEARTBEAT_S,
                    grace_period=_SILENT_S,
                    heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                        max_retry=_RETRIES
                    ),
                )
        except SQLAlchemyError as error:
            # Another process is making the same tables at this very moment.
            raced = any(text in str(error) for text in ("already exists", "UNIQUE constraint"))
            if not raced or attempt == _OPENINGS - 1:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")


def fail_silent_trials(study: Study) -> None:
    """Let trials whose process died run again: their processes have not been heard of."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


@contextmanager
def database_errors(storage: str | None) -> Iterator[None]:
    """Turn what a database raises into one sentence."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (
        SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        ImportError,
    ) as error:
        text = " ".join(f"{error} {error.__cause__ or ''}".split())
        if "locked" in text:
            raise WsiAnomalyError(
                f"The study in {storage} is locked by another program; close that, or choose "
                "another place with --storage."
            ) from error
        if "not a database" in text or "malformed" in text:
            raise WsiAnomalyError(
                f"{storage} is no database or is damaged; move the file, or choose another place "
                "with --storage."
            ) from error
        raise WsiAnomalyError(
            f"The study in {storage} cannot be used ({_short(text)}); see that the address is "
            "right and its driver installed, or leave --storage out."
        ) from error


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def _listed(names: list[str]) -> str:
    return " and ".join(", ".join(names).rsplit(", ", 1))


def _by_number(seed: int) -> optuna.samplers.BaseSampler:
    """Build a sampler whose draws depend on the seed and the number of the trial alone.

    A sampler with one stream of numbers would draw the same in each process that shares a study,
    and the same again after every resume.
    """
    import optuna

    class ByNumber(optuna.samplers.BaseSampler):
        def infer_relative_search_space(
            self, study: Study, trial: FrozenTrial
        ) -> dict[str, BaseDistribution]:
            return {}  # choices depend on one another: each is drawn by itself

        def sample_relative(
            self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            return {}

        def sample_independent(
            self,
            study: Study,
            trial: FrozenTrial,
            param_name: str,
            param_distribution: BaseDistribution,
        ) -> Any:
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=_STARTUP_TRIALS,
                multivariate=False,
                seed=zlib.crc32(f"{seed} {trial.number} {param_name}".encode()),
            )
            return sampler.sample_independent(study, trial, param_name, param_distribution)

    return ByNumber()

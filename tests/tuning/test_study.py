"""The study: shared, resumed, never mistaken for another."""

from __future__ import annotations

import sqlite3

import optuna
import pytest

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.tuning import study as room
from wsi_anomaly.tuning.study import default_storage, open_study

IDENTITY = {"search space": {"widths": [4, 8]}, "tiles": ["a", "b"], "folds": 3}


def opened(storage, identity=IDENTITY, **how):
    return open_study(storage, identity, maximize=True, seed=0, **how)


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1) + len(trial.suggest_categorical("name", ["a", "bcd"]))


def test_a_study_goes_on_where_it_was(tmp_path):
    opened(default_storage(tmp_path / "new")).optimize(objective, n_trials=3)
    again = opened(default_storage(tmp_path / "new"))
    assert len(again.trials) == 3
    assert opened(default_storage(tmp_path / "new"), resume=False).trials == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"search space": {"widths": [4]}}, "other search space;"),
        ({"tiles": ["a"], "folds": 4}, "other tiles and folds;"),
    ],
)
def test_a_study_of_another_search_is_refused(tmp_path, change, said):
    storage = default_storage(tmp_path)
    opened(storage).optimize(objective, n_trials=1)
    with pytest.raises(UsageError, match=said):
        opened(storage, IDENTITY | change)
    assert len(opened(storage).trials) == 1


def test_a_study_that_somebody_else_made_is_refused(tmp_path):
    storage = default_storage(tmp_path)
    foreign = optuna.create_study(storage=storage, study_name=room.NAME, direction="maximize")
    foreign.optimize(objective, n_trials=1)
    with pytest.raises(UsageError, match="holds a search with other search space, tiles and folds"):
        opened(storage)


def test_a_locked_database_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_LOCKED_AFTER_S", 0.1)
    storage = default_storage(tmp_path)
    opened(storage)
    other = sqlite3.connect(tmp_path / "search.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(WsiAnomalyError, match="is locked by another program"):
        opened(storage)
    other.close()
    assert opened(storage).trials == []


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("sqlite:///{}/notes.txt", "is no database or is damaged"),
        ("nonsense", "cannot be used"),
        ("oracle+none://host/name", "cannot be used"),
    ],
)
def test_what_is_no_database_is_one_sentence(tmp_path, storage, said):
    (tmp_path / "notes.txt").write_text("no database at all, but a file of some length" * 50)
    with pytest.raises(WsiAnomalyError, match=said) as error:
        opened(storage.format(tmp_path))
    assert "\n" not in str(error.value)


def test_draws_depend_on_the_number_of_the_trial_alone(tmp_path):
    """Not on the process: two that share a study never try the same, and a resume not again."""
    alone = opened(None)
    alone.optimize(objective, n_trials=6)
    storage = default_storage(tmp_path)
    for _ in range(6):
        opened(storage).optimize(objective, n_trials=1)
    assert [t.params for t in opened(storage).trials] == [t.params for t in alone.trials]
    assert len({t.params["x"] for t in alone.trials}) == 6


def test_a_trial_whose_process_died_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SILENT_S", 1)
    monkeypatch.setattr(room, "_HEARTBEAT_S", 1)
    storage = default_storage(tmp_path)
    first = opened(storage)
    dead = first.ask()
    dead.suggest_float("x", 0, 1)
    dead.set_user_attr("start", "own")
    with sqlite3.connect(tmp_path / "search.db") as database:
        database.execute(
            "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, '2020-01-01 00:00:00')",
            (dead._trial_id,),
        )
    again = opened(storage)
    room.fail_silent_trials(again)
    again.optimize(objective, n_trials=1)
    states = [trial.state.name for trial in again.trials]
    assert states == ["FAIL", "COMPLETE"]
    assert again.trials[1].params["x"] == dead.params["x"]
    assert again.trials[1].user_attrs["start"] == "own"

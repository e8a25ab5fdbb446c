"""A search on arrays: the better method and preprocessing are found, and it is said how surely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from search_cases import DENSITY, TINY, cohort, compact, known

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.tuning import Space, Watch, search_arrays
from wsi_anomaly.tuning import fold_scores as room
from wsi_anomaly.tuning.files import sentences, trials_csv
from wsi_anomaly.tuning.picture import search_picture

NETWORKS = {"compact": compact()}


def search(groups: int = 2, base=DENSITY, **how):
    normal, cases = cohort()
    abnormal, slides = known(groups)
    return search_arrays(normal, cases, abnormal, slides, base, NETWORKS, **how)


def test_the_preprocessing_in_which_anomalies_can_be_seen_is_chosen():
    """One of two preprocessings has lost the stripes of the anomalies."""
    normal, cases = cohort()
    abnormal, slides = known()
    both = {"smooth": normal, "sharp": normal}
    anomalies = {"smooth": normal[: len(abnormal)], "sharp": abnormal}
    found = search_arrays(
        both, cases, anomalies, slides, DENSITY, NETWORKS, trials=8, detectors=["density"]
    )
    assert found.best.choices["preprocessing"] == "sharp"
    assert found.best.value > 0.9
    assert {t.choices["preprocessing"] for t in found.tried} == {"smooth", "sharp"}


def test_the_best_is_no_worse_than_the_start_and_all_is_told():
    told: dict[str, list] = {"trial": [], "fold": [], "ended": []}
    watch = Watch(
        trial=lambda number, _choices: told["trial"].append(number),
        fold=lambda k, _value: told["fold"].append(k),
        ended=lambda tried, latest: told["ended"].append((len(tried), latest)),
    )
    found = search(trials=6, detectors=["density"], watch=watch)
    numbers = [t.number for t in found.tried]
    assert numbers == told["trial"]
    assert told["ended"] == [(k + 1, number) for k, number in enumerate(numbers)]
    assert len({str(t.choices) for t in found.tried}) == 6, "nothing is tried twice"
    assert len(told["fold"]) == sum(len(t.folds) for t in found.tried)
    assert found.start is found.tried[0]
    assert found.start.config.density("c3") == DENSITY.density("c3")
    assert found.best.value == max(t.value for t in found.tried if t.state == "complete")
    assert found.best.value >= found.start.value
    assert (found.cases, found.groups) == (6, 2)
    table = trials_csv(found.tried, 3).splitlines()
    assert len(table) == 7
    assert table[0].startswith("trial,state,value,fold_1,fold_2,fold_3,steps,seconds,detector,")
    picture = search_picture(found)
    assert picture.startswith(b"\x89PNG")


def test_the_search_ends_when_everything_has_been_tried():
    space = replace(
        Space.around(DENSITY, {"64 px": (10, 64)}, NETWORKS, ["density"]),
        density_layers={"compact": ("c2+c3", "c3")}, estimators=("both", "knn"),
    )  # fmt: skip
    notes: list[str] = []
    found = search(trials=30, space=space, watch=Watch(note=notes.append))
    assert len(found.tried) == 4
    assert notes == ["The search ends after 4 trials: whatever is drawn now has been tried."]


def test_both_methods_are_tried_from_the_start():
    found = search(trials=2, base=replace(TINY, resolution=64, field_um=64, first_resolution=64,
                                          latent_resolution=4, steps={64: (0, 1)}))  # fmt: skip
    assert [t.choices["detector"] for t in found.tried] == ["density", "dpa"]
    assert found.tried[1].steps == (1, 1, 1)
    assert search_picture(found).startswith(b"\x89PNG")


def test_hopeless_configurations_stop_after_their_first_fold(monkeypatch):
    """Here each is worse than the one before; after five there is a median to be below."""
    scorer, judged = room.FoldScorer.fold, []

    def ever_worse(self, config, view, k, progress):
        judged.append(config)
        result = scorer(self, config, view, k, progress)
        return replace(result, value=1 / len(judged))

    monkeypatch.setattr(room.FoldScorer, "fold", ever_worse)
    found = search(trials=8, detectors=["density"])
    assert [t.state for t in found.tried] == ["complete"] * 5 + ["pruned"] * 3
    assert [len(t.folds) for t in found.tried] == [3] * 5 + [1] * 3
    assert found.best.number == 0


def test_what_cannot_be_trained_is_no_end_of_the_search(monkeypatch):
    scorer = room.FoldScorer.fold
    said = "The loss is no number any more at step 7."

    def fails(self, config, view, k, progress):
        if config.density_estimator != "both":
            raise ModelError(said)
        return scorer(self, config, view, k, progress)

    def fails_always(self, config, view, k, progress):
        raise ModelError(said)

    monkeypatch.setattr(room.FoldScorer, "fold", fails)
    found = search(trials=6, detectors=["density"])
    without = [t for t in found.tried if t.reason]
    assert without
    assert all(t.reason == said and t.state == "pruned" for t in without)
    assert said in trials_csv(found.tried, 3)
    assert search_picture(found).startswith(b"\x89PNG")
    monkeypatch.setattr(room.FoldScorer, "fold", fails_always)
    with pytest.raises(ModelError, match="None of the trials could be completed: The loss"):
        search(trials=2, detectors=["density"])


def test_one_anomalous_slide_is_enough_and_its_meaning_is_said():
    text = " ".join(sentences(search(groups=1, trials=3, detectors=["density"])))
    assert "All anomalies come from one case" in text
    assert "only change the normal cases" in text
    assert "All anomalies" not in " ".join(sentences(search(trials=1, detectors=["density"])))


def test_the_sentences_say_how_sure_it_is():
    alone = search(trials=1, detectors=["density"])
    assert "it stays" in " ".join(sentences(alone))
    found = search(trials=6, detectors=["density"])
    text = " ".join(sentences(found))
    assert f"trial {found.best.number}, mean ROC AUC {found.best.value:.3f}" in text
    assert "too favourable" in text
    assert "runner-up" in text
    from_second = replace(found, start=found.second, over_start=found.over_second)
    once = " ".join(sentences(from_second))
    assert "the search began with" in once
    assert "runner-up" not in once
    loss = " ".join(sentences(replace(from_second, criterion="reconstruction")))
    assert "a loss lower by 0." in loss
    stays = " ".join(sentences(replace(found, over_start=None)))
    assert f"% of 2,000 resamples of {found.cases} normal cases" in stays
    assert "% of them" not in stays


def test_without_anomalies_reconstruction_chooses():
    normal, cases = cohort(4, side=16)
    nothing = np.empty((0, 16, 16, 3), np.uint8)
    found = search_arrays(
        normal, cases, nothing, [], TINY, NETWORKS, trials=2, criterion="reconstruction"
    )
    assert {t.choices["detector"] for t in found.tried} == {"dpa"}
    complete = [t.value for t in found.tried if t.state == "complete"]
    assert found.best.value == min(complete) > 0
    text = " ".join(sentences(found))
    assert "mean reconstruction loss" in text
    assert "anomal" not in text


def test_too_few_cases():
    normal, _ = cohort(1)
    abnormal, slides = known()
    with pytest.raises(UsageError, match="at least two normal cases"):
        search_arrays(normal, ["a"] * len(normal), abnormal, slides, DENSITY, NETWORKS)

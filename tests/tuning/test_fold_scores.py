"""What a fold says: the ROC AUC by case and group, the same as from scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from search_cases import DENSITY, TINY, cohort, compact, known
from sklearn.metrics import roc_auc_score

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.detectors import Density, Dpa
from wsi_anomaly.features import load_features
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.tuning.fold_scores import FoldResult, FoldScorer
from wsi_anomaly.tuning.search_data import Part, SearchData, grouped_folds


def data(side: int = 64) -> SearchData:
    normal, cases = cohort(4, side=side)
    abnormal, groups = known(2, side=side)
    return SearchData(
        {"10x": ArrayTiles(normal)}, np.array(cases), {"10x": ArrayTiles(abnormal)},
        np.array(groups),
    )  # fmt: skip


def test_density_from_shared_embeddings_is_density():
    own = data()
    folds = grouped_folds(own.cases, 2)
    result = FoldScorer(own, folds, {"compact": compact()}).fold(DENSITY, "10x", 1, print)
    tiles = own.normal["10x"]
    learn = np.concatenate([folds[1].train, folds[1].validation])
    alone = Density(compact(), DENSITY.density("c3")).fit(Part(tiles, learn))
    scores = [
        alone.score_samples(Part(tiles, folds[1].judged).batch(np.arange(len(folds[1].judged)))),
        alone.score_samples(own.abnormal["10x"].batch(np.arange(12))),
    ]
    labels = np.r_[np.zeros(len(scores[0])), np.ones(len(scores[1]))]
    assert result.value == pytest.approx(roc_auc_score(labels, np.concatenate(scores)), abs=1e-3)
    assert np.array(result.sums).shape == (2, 2)
    assert np.sum(result.sums) / (24 * 12) == pytest.approx(result.value)
    assert result.steps == 0


def test_dpa_learns_from_the_training_cases_alone(monkeypatch):
    own = data(side=16)
    folds = grouped_folds(own.cases, 2)
    seen = {}
    fit = Dpa.fit

    def spy(self, tiles, validation=None, fitting=None):
        seen["train"], seen["anomalies"] = tiles.batch(np.arange(len(tiles))), fitting.anomalies
        return fit(self, tiles, validation, fitting)

    monkeypatch.setattr(Dpa, "fit", spy)
    scorer = FoldScorer(own, folds, {"compact": compact()})
    result = scorer.fold(TINY.ranked_by("dpa"), "10x", 0, lambda _report: None)
    assert np.array_equal(seen["train"], own.normal["10x"].batch(folds[0].train))
    assert seen["anomalies"] is None
    assert result.steps == 4
    assert 0 <= result.value <= 1


def test_reconstruction_is_the_loss_of_the_judged_tiles():
    own = data(side=16)
    scorer = FoldScorer(own, grouped_folds(own.cases, 2), {"compact": compact()}, "reconstruction")
    result = scorer.fold(TINY.ranked_by("dpa"), "10x", 0, lambda _report: None)
    assert result.value > 0
    cases, groups = scorer.pairs(0)
    assert np.array(result.sums).shape == (len(cases), 1)
    assert np.sum(result.sums) / cases.sum() == pytest.approx(result.value)
    assert groups.tolist() == [1]


def test_a_finished_fold_is_read_not_judged_again(tmp_path, monkeypatch):
    own = data()
    folds = grouped_folds(own.cases, 2)
    first = FoldScorer(own, folds, {"compact": compact()}, working=tmp_path)
    result = first.fold(DENSITY, "10x", 0, print)
    monkeypatch.setattr(Density, "fit_embeddings", lambda *_: pytest.fail("judged again"))
    again = FoldScorer(own, folds, {"compact": compact()}, working=tmp_path)
    assert again.fold(DENSITY, "10x", 0, print) == result
    other = FoldScorer(own, folds, {"compact": compact()}, working=tmp_path, identity={"tiles": 2})
    with pytest.raises(BaseException, match="judged again"):
        other.fold(DENSITY, "10x", 0, print)
    for file in tmp_path.rglob("*.json"):
        file.write_text('{"value": 0.')  # damaged: judged anew, not trusted
    with pytest.raises(BaseException, match="judged again"):
        again.fold(DENSITY, "10x", 0, print)


def test_an_encoder_of_tissue_gets_statistics_of_the_tiles():
    own = data()
    network = load_features("compact", random_seed=3)
    network.of_tissue = True
    scorer = FoldScorer(own, grouped_folds(own.cases, 2), {"compact": network})
    assert isinstance(scorer.fold(DENSITY, "10x", 0, print), FoldResult)
    assert not network.has_statistics("c3"), "another view may need others"


def test_scores_that_are_no_numbers_are_refused(monkeypatch):
    own = data()
    scorer = FoldScorer(own, grouped_folds(own.cases, 2), {"compact": compact()})
    monkeypatch.setattr(
        Density, "score_embeddings", lambda _self, found: torch.full((len(found),), torch.nan)
    )
    with pytest.raises(ModelError, match="no numbers"):
        scorer.fold(DENSITY, "10x", 0, print)

"""The highest fields are embedded once: while they are judged, not again for what is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spotted import DARK, draw, train

from wsi_anomaly.scoring import embedding, highest, score_slide
from wsi_anomaly.scoring.highest import HighestFields


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60, unique=True), st.integers(1, 9))
def test_those_with_the_highest_scores_are_kept(scores, most):
    kept = HighestFields(most)
    numbers = np.arange(len(scores))
    for part in np.array_split(numbers, 4):
        values = np.array(scores, np.float32)[part]
        kept.add(part, values, {64: values[:, None], 256: -values[:, None]})
    found = kept.embeddings(numbers)
    assert sorted(scores[field] for field in found) == sorted(scores)[-most:]
    assert all(e[64] == scores[field] == -e[256] for field, e in found.items())


def test_fields_are_numbered_as_those_that_were_kept_of_the_slide():
    kept = HighestFields()
    kept.add(np.array([2, 5, 9]), np.ones(3), {64: np.array([[2.0], [5.0], [9.0]], np.float32)})
    found = kept.embeddings(np.array([2, 3, 9, 11]))
    assert {field: float(e[64][0]) for field, e in found.items()} == {0: 2.0, 2: 9.0}


@pytest.fixture(scope="module")
def spotted(tmp_path_factory):
    work = tmp_path_factory.mktemp("spotted")
    return train(work), draw(work / "new.tif", 5, (DARK, DARK))


def test_the_network_runs_once_over_a_slide(spotted, monkeypatch):
    runs = []
    embed = embedding.embed_cells

    def counted(*args, **kwargs):
        runs.append(kwargs.get("wanted"))
        return embed(*args, **kwargs)

    monkeypatch.setattr(embedding, "embed_cells", counted)
    model, slide = spotted
    found = score_slide(slide, model)
    assert found.beside is not None
    assert len(found.beside.fields)
    assert runs == [None]


def test_what_is_not_kept_is_embedded_anew_and_the_same(spotted, monkeypatch):
    model, slide = spotted
    once = score_slide(slide, model).beside
    monkeypatch.setattr(highest.HighestFields.__init__, "__defaults__", (1,))
    again = score_slide(slide, model).beside
    assert np.array_equal(once.fields, again.fields)
    assert once.pictures == again.pictures
    np.testing.assert_allclose(once.vectors, again.vectors, atol=1e-3)
    np.testing.assert_allclose(once.distances, again.distances, rtol=1e-3)

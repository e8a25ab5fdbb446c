"""Reviews of results that were scored from embeddings: learned from, and used, without a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedding_files import cohort, fields_of, trident

import wsi_anomaly
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.results.region_file import read_region_file
from wsi_anomaly.results.review_matching import regions_of
from wsi_anomaly.results.reviews import Review, append_review
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary

REVIEWED = 6


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of embeddings, and slides of whose lesions a reader has called all harmless."""
    folder = tmp_path_factory.mktemp("reviewed")
    cohort(folder / "normal", "trident", 12)
    for number in range(REVIEWED):
        trident(folder / "seen", f"r{number}", *fields_of(50 + number, lesion=True))
    trident(folder / "new", "sick", *fields_of(70, lesion=True))
    wsi_anomaly.train(output=folder / "model", embeddings=folder / "normal")
    results = folder / "results"
    wsi_anomaly.score([], folder / "model", results, embeddings=folder / "seen")
    for number in range(REVIEWED):
        name = f"r{number}"
        summary = read_summary(results / name)
        assert summary is not None
        for region in regions_of(StoredScores.read(results / name)):
            mark = summary["slide"]["fingerprint"]
            review = Review("ann", name, mark, "normal variant", region.outline, finding="islet")
            append_review(results, review)
    return folder


def test_what_readers_called_harmless_is_flagged_no_more(here: Path, tmp_path: Path) -> None:
    learned = tmp_path / "learned"
    made = wsi_anomaly.learn(
        here / "results", here / "model", output=learned, embeddings=here / "seen"
    )
    assert [finding.name for finding in made.known.findings] == ["islet"]
    gone, reviewed = made.held_out.harmless
    assert gone == reviewed >= REVIEWED
    [before] = wsi_anomaly.score(
        [], here / "model", tmp_path / "before", embeddings=here / "new"
    )  # fmt: skip
    [after] = wsi_anomaly.score([], learned, tmp_path / "after", embeddings=here / "new")
    assert before.result.interpretation.flagged.any()
    assert not after.result.interpretation.flagged.any()
    [(_, name)] = after.result.interpretation.taken_away
    assert name == f"islet (reviewed {reviewed} times)"
    [again] = wsi_anomaly.score(
        [], learned, tmp_path / "again", embeddings=here / "new", all_flags=True
    )
    assert again.result.interpretation.flagged.any()


def test_a_region_says_what_spoke(here: Path) -> None:
    """Of the vectors in the file; there is no picture without the slide."""
    beside = read_region_file(here / "results" / "r0")
    assert beside is not None
    assert beside.regions[0] == 1
    assert np.isfinite(beside.vectors).all()
    assert beside.pictures[0] == b""
    summary = read_summary(here / "results" / "r0")
    assert summary is not None
    assert summary["regions"][0]["why"]["sentence"].startswith("Fields of 128 µm by ")


def test_learning_asks_for_the_embeddings(here: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    from wsi_anomaly.training.run import Watch

    for folder, sentence in (
        (None, "r0 is left out: it was scored from embeddings; give them with --embeddings"),
        (here / "new", "r0 is left out: none of the embeddings is what it was scored from"),
    ):
        with pytest.raises(UsageError, match="no reviews to learn from"):
            wsi_anomaly.learn(
                here / "results", here / "model", output=tmp_path / "m", embeddings=folder,
                watch=Watch(note=notes.append),
            )  # fmt: skip
        assert any(sentence in note for note in notes)

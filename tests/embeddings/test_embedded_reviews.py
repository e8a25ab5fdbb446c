"""Reviews of results that were scored from embeddings: learned from, and used, without a slide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from embedding_files import STEP, cohort, fields_of, trident

import wsi_anomaly
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.detectors import Model
from wsi_anomaly.results.region_file import read_region_file
from wsi_anomaly.results.review_matching import regions_of
from wsi_anomaly.results.reviews import Review, append_review
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.viewer.folder import Results
from wsi_anomaly.viewer.server import _why

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


def test_beside_a_region_stand_the_nearest_normal_fields(here: Path) -> None:
    """Without the slides they are known by place alone: in the file, report and viewer."""
    examples = Model.load(here / "model").examples
    assert examples is not None
    summary = read_summary(here / "results" / "r0")
    assert summary is not None
    near = summary["regions"][0]["why"]["nearest_normal"]
    assert len(near) == 3
    assert all(normal["farther_than_percent"] > 99 for normal in near)
    middles = {
        (name, *place.tolist())
        for name, place in zip(examples.slides, examples.places, strict=True)
    }
    assert {(normal["slide"], *map(float, normal["level0_px"])) for normal in near} <= middles
    _, corners = fields_of(0)
    assert {(x, y) for _, x, y in middles} <= {(x + STEP / 2, y + STEP / 2) for x, y in corners}
    report = (here / "results" / "r0" / "report.html").read_text()
    first = near[0]
    assert "normal: {} at {}, {} px".format(first["slide"], *first["level0_px"]) in report
    assert "at one scale" not in report
    server = _why(Results(here / "results"), "r0", "1")
    assert [normal["picture"] for normal in json.loads(server)["normals"]] == [""] * 3


def test_normal_fields_have_pictures_where_their_slides_are(here: Path, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    make_slide(slides / "n02.tif", seed=3, size_px=(4096, 4096), mpp=0.25)
    y, x = (axis.ravel() for axis in np.mgrid[:8, :8])
    coords = np.stack((x, y), 1).astype(np.int64) * STEP
    size = {"level0_width": 4096, "level0_height": 4096}
    cohort(tmp_path / "normal", "trident", 8)
    (tmp_path / "normal" / "n02.h5").unlink()
    trident(tmp_path / "normal", "n02", fields_of(7)[0][: len(coords)], coords, **size)
    model = wsi_anomaly.train(slides, tmp_path / "m", embeddings=tmp_path / "normal")
    examples = model.examples
    assert examples is not None
    pictured = {n for n, picture in zip(examples.slides, examples.pictures, strict=True) if picture}
    assert pictured == {"n02"} < set(examples.slides)
    card = (tmp_path / "m" / "README.md").read_text()
    assert "shown beside what is flagged, of n02." in card


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

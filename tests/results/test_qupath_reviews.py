"""Reviews made in QuPath find their slide and place in the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shapely.geometry import box, mapping

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.results.qupath_project import IDENTITY
from wsi_anomaly.results.qupath_reviews import EXPORTED, take_reviews
from wsi_anomaly.results.reviews import append_review, read_reviews
from wsi_anomaly.results.summary import FORMAT, VERSION

SLIDES = {"s1": "a" * 16, "s2": "b" * 16}


def region(classes: list[str], at: int, note: str = "") -> dict:
    """A region as QuPath 0.5 and later export it."""
    return {
        "type": "Feature", "id": "f4ff19d4-8b50-5669-8986-db85bde54c14",
        "geometry": mapping(box(at, at, at + 50, at + 50)),
        "properties": {
            "objectType": "annotation", "name": "Anomalous region 1", "isLocked": True,
            "classification": {"names": classes, "color": [190, 150, 192]},
            "metadata": {"ANNOTATION_DESCRIPTION": note} if note else {},
        },
    }  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, fingerprint in SLIDES.items():
        (tmp_path / "results" / name).mkdir(parents=True)
        summary = {
            "format": FORMAT, "version": VERSION, "slide": {"fingerprint": fingerprint},
            "result_hash": "0" * 64, "flagged": {"regions": 0},
        }  # fmt: skip
        (tmp_path / "results" / name / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "results"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    exported = {
        1: [
            region(["Normal variant", "lymph follicle"], 100, "seen twice"),
            region(["Unsure"], 300),
        ],
        2: [region(["Abnormal"], 500)],
    }
    for (number, features), fingerprint in zip(exported.items(), SLIDES.values(), strict=True):
        data = tmp_path / "project" / "data" / str(number)
        data.mkdir(parents=True)
        facts = {
            "slide": "as it was named", "fingerprint": fingerprint, "corner_level0": [1000, 2000],
            "model_hash": "m" * 64, "result_hash": "r" * 64,
        }  # fmt: skip
        (data / IDENTITY).write_text(json.dumps(facts))
        collection = {"type": "FeatureCollection", "features": features}
        (data / EXPORTED).write_text(json.dumps(collection))
    return tmp_path / "project"


def test_class_finding_note_and_place_arrive(results: Path, project: Path) -> None:
    taken = take_reviews(project, results, "ann")
    assert (taken.added, taken.known, taken.problems) == ({"s1": 2, "s2": 1}, 0, [])

    first, second = read_reviews(results, SLIDES["s1"]).of("ann")
    assert (first.verdict, first.finding, first.note) == (
        "normal variant", "lymph follicle", "seen twice",
    )  # fmt: skip
    assert (first.model, first.result) == ("m" * 64, "r" * 64)
    # QuPath counts from the scanned area, a review from the corner of the file.
    assert first.outline.equals(box(1100, 2100, 1150, 2150))
    assert (second.verdict, second.finding) == ("unsure", "")


def test_taking_it_again_adds_what_is_new(results: Path, project: Path) -> None:
    take_reviews(project, results, "ann")
    file = project / "data" / "2" / EXPORTED
    collection = json.loads(file.read_text())
    collection["features"] += [region(["Artefact", "fold"], 800)]
    collection["features"][0] = region(["Normal variant"], 500)  # thought better of
    file.write_text(json.dumps(collection))

    taken = take_reviews(project / "project.qpproj", results, "ann")

    assert (taken.added, taken.known) == ({"s2": 2}, 2)
    assert [r.verdict for r in read_reviews(results, SLIDES["s2"]).of("ann")] == [
        "normal variant", "artefact",
    ]  # fmt: skip
    assert take_reviews(project, results, "bob").added == {"s1": 2, "s2": 2}


def test_a_decision_changed_in_the_viewer_since_is_made_again_by_the_project(
    results: Path, project: Path
) -> None:
    """The project is what the reader asked to be taken; nothing of the trail is lost."""
    take_reviews(project, results, "ann")
    (made,) = read_reviews(results, SLIDES["s2"]).of("ann")
    append_review(results, made.withdrawal())
    assert take_reviews(project, results, "ann").added == {"s2": 1}


@pytest.mark.parametrize("damage", ["", "[]", '{"fingerprint": "x"}', '{"corner_level0": 3}'])
def test_an_image_without_its_identity_is_named_and_the_others_are_taken(
    results: Path, project: Path, damage: str
) -> None:
    (project / "data" / "1" / IDENTITY).write_text(damage)
    taken = take_reviews(project, results, "ann")
    assert taken.added == {"s2": 1}
    assert "wsi-anomaly.json is missing or damaged; run 'wsi-anomaly qupath'" in taken.problems[0]


def test_what_is_no_verdict_or_no_slide_of_the_results_is_named(
    results: Path, project: Path
) -> None:
    file = project / "data" / "1" / EXPORTED
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [region(["Ignore*"], 9)]}))
    (results / "s2" / "summary.json").unlink()
    taken = take_reviews(project, results, "ann")
    assert not taken.added
    assert "The class 'Ignore*' is no verdict" in taken.problems[0]
    assert "not among the results; score it again" in taken.problems[1]


def test_an_export_without_reviewed_regions_is_no_error(results: Path, project: Path) -> None:
    (project / "data" / "1" / EXPORTED).write_text('{"type":"FeatureCollection","features":[]}')
    taken = take_reviews(project, results, "ann")
    assert (taken.added, taken.problems) == ({"s2": 1}, [])


def test_without_an_export_the_script_is_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run its script 2_export_reviews in QuPath"):
        take_reviews(tmp_path, results, "ann")


def test_the_command_says_how_far_the_review_is_and_how_two_readers_agree(
    results: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", str(results)]) == 0
    assert "None of 0 regions on 2 slides is reviewed" in capsys.readouterr().err
    take = ["review", str(results), "--from-qupath", str(project), "--reader"]
    assert main([*take, "ann"]) == 0
    assert "3 reviews of 2 slides taken" in capsys.readouterr().err
    file = project / "data" / "2" / EXPORTED
    file.write_text(file.read_text().replace("Abnormal", "Artefact"))
    assert main([*take, "bob"]) == 0
    said = capsys.readouterr().err
    assert "ann: 0 of 0 regions reviewed; places: 1 abnormal, 1 normal variant, 1 unsure" in said
    assert "ann and bob: the same verdict on 2 of 3 places that both reviewed, kappa 0.5" in said

    assert main(["review", str(results), "--reader", "ann"]) == 2
    assert "--from-qupath and --reader go together" in capsys.readouterr().err
    (project / "data" / "1" / IDENTITY).unlink()
    assert main([*take, "cy"]) == 1

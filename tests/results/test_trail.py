"""A results folder's trail: what was changed, taken out or put in since shows."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from wsi_anomaly.core.errors import OutputError, UsageError
from wsi_anomaly.detectors.frozen import changed_since, freeze, refuse_frozen
from wsi_anomaly.results.audit import audit_results
from wsi_anomaly.results.reviews import Review, append_review
from wsi_anomaly.results.summary import FORMAT, VERSION
from wsi_anomaly.results.trail import (
    START,
    TRAIL,
    append_event,
    checksums,
    read_trail,
    scored_event,
)


def put_result(results: Path, name: str) -> Path:
    """What ``score`` leaves of a slide, in small."""
    folder = results / name
    (folder / "scores.zarr" / "0").mkdir(parents=True)
    (folder / "scores.zarr" / "0" / "0").write_bytes(b"scores of " + name.encode())
    (folder / "overlay.geojson").write_text("{}")
    summary = {
        "format": FORMAT, "version": VERSION, "slide": {"fingerprint": "a" * 16},
        "result_hash": "r" * 16, "model": {"hash": "m" * 16}, "checksums": checksums(folder),
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    append_event(results, "scored", scored_event(folder, name))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    append_event(tmp_path, "run", {"verb": "score", "model": "m" * 16, "slides": 2})
    for name in ("s1", "s2"):
        put_result(tmp_path, name)
    append_review(tmp_path, Review("ann", "s1", "a" * 16, "artefact", box(0, 0, 9, 9)))
    append_review(tmp_path, Review("ann", "s1", "a" * 16, "abnormal", box(20, 0, 29, 9)))
    return tmp_path


def reviews_of(results: Path) -> Path:
    (path,) = results.glob("reviews/*/ann.jsonl")
    return path


def test_what_was_not_touched_is_as_recorded(results: Path) -> None:
    found = audit_results(results)
    assert found.problems == []
    assert (found.runs, found.results, found.reviews) == (1, 2, 2)
    assert found.models == {"m" * 16: 2}
    assert len(found.seal) == 64


def test_a_slide_that_was_scored_again_is_what_the_last_run_left(results: Path) -> None:
    (results / "s1" / "overlay.geojson").unlink()
    (results / "s1" / "scores.zarr" / "0" / "0").unlink()
    (results / "s1" / "scores.zarr" / "0").rmdir()
    (results / "s1" / "scores.zarr").rmdir()
    put_result(results, "s1")
    assert audit_results(results).problems == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("summary.json", "summary.json was changed after 20"),
        ("overlay.geojson", "overlay.geojson was changed after 20"),
        ("scores.zarr/0/0", "scores.zarr was changed after 20"),
        ("scores.zarr/0/1", "scores.zarr was changed after 20"),
        ("more.txt", "more.txt was put there after 20"),
    ],
)
def test_a_changed_file_is_named(results: Path, name: str, said: str) -> None:
    with (results / "s1" / name).open("a") as file:
        file.write(" ")
    (problem,) = audit_results(results).problems
    assert said in problem


def test_a_report_that_says_what_was_reviewed_is_as_recorded(results: Path) -> None:
    report = results / "s1" / "report.html"
    report.write_text("<p><!--reviewed--><!--/reviewed--></p>")
    folder = results / "s1"
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"checksums": checksums(folder)}))
    append_event(results, "scored", scored_event(folder, "s1"))

    digest = hashlib.sha256(b"<p><!--reviewed-->ann<!--/reviewed--></p>").hexdigest()
    append_event(results, "report", {"result": "s1", "sha256": digest})
    assert audit_results(results).problems == []  # killed before it was written
    report.write_text("<p><!--reviewed-->ann<!--/reviewed--></p>")
    assert audit_results(results).problems == []
    report.write_text("<p><!--reviewed-->bob<!--/reviewed--></p>")
    (problem,) = audit_results(results).problems
    assert "report.html was changed" in problem
    append_event(results, "scored", scored_event(folder, "s1"))  # scored again: what was is over
    report.write_text("<p><!--reviewed-->ann<!--/reviewed--></p>")
    assert len(audit_results(results).problems) == 1


def test_what_is_missing_or_unrecorded_is_named(results: Path) -> None:
    (results / "s1" / "overlay.geojson").unlink()
    (results / "s2" / "summary.json").unlink()
    other = results / "s3"
    other.mkdir()
    (other / "summary.json").write_text(json.dumps({"format": FORMAT, "version": VERSION}))
    said = " ".join(audit_results(results).problems)
    assert "overlay.geojson was taken away" in said
    assert "s2 was scored on 20" in said
    assert "s3 is in no record" in said


def test_a_review_that_was_changed_or_written_by_hand_is_named(results: Path) -> None:
    path = reviews_of(results)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0].replace(b"artefact", b"abnormal") + lines[1])
    (problem,) = audit_results(results).problems
    assert "1 recorded review changed or taken out, 1 in no record" in problem
    path.write_bytes(lines[1])
    (problem,) = audit_results(results).problems
    assert "1 recorded review changed or taken out, 0 in no record" in problem


@settings(max_examples=60)
@given(
    data=st.data(), count=st.integers(1, 8), how=st.sampled_from(["change", "drop", "swap", "add"])
)
def test_no_line_but_the_last_can_be_touched_unseen(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int, how: str
) -> None:
    """And of the last one the seal tells."""
    folder = tmp_path_factory.mktemp("trail")
    for k in range(count):
        append_event(folder, "run", {"slides": k})
    _, problems, seal = read_trail(folder)
    assert problems == []
    lines = (folder / TRAIL).read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, count - 1))
    touched = list(lines)
    if how == "change":
        touched[at] = touched[at].replace(b'"event":"run"', b'"event":"Run"')
    elif how == "drop":
        del touched[at]
    elif how == "swap":
        other = data.draw(st.integers(0, count - 1))
        touched[at], touched[other] = touched[other], touched[at]
    else:
        touched.insert(at, data.draw(st.sampled_from(lines)))
    (folder / TRAIL).write_bytes(b"".join(touched))
    _, problems, now = read_trail(folder)
    assert bool(problems) or now != seal or touched == lines


def test_the_seal_that_was_noted_must_still_be_there(results: Path) -> None:
    seal = audit_results(results).seal
    append_event(results, "run", {"slides": 0})
    assert audit_results(results, seal).problems == []
    lines = (results / TRAIL).read_bytes().splitlines(keepends=True)
    (results / TRAIL).write_bytes(b"".join(lines[:-3]))
    assert f"has the hash {seal}" in " ".join(audit_results(results, seal).problems)


def test_a_torn_line_costs_itself_alone(results: Path) -> None:
    with (results / TRAIL).open("ab") as file:
        file.write(b'{"version":1,"prev')
    append_event(results, "run", {"slides": 1})
    events, problems, _ = read_trail(results)
    assert [e["event"] for e in events][-1] == "run"
    assert [p for p in problems if "damaged" in p]
    assert not [p for p in problems if "does not follow" in p]


def test_runs_side_by_side_make_one_chain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: append_event(tmp_path, "run", {"slides": k}), range(40)))
    events, problems, _ = read_trail(tmp_path)
    assert problems == []
    assert sorted(e["slides"] for e in events) == list(range(40))


def test_what_is_no_trail_is_refused(tmp_path: Path) -> None:
    (tmp_path / TRAIL).mkdir()
    with pytest.raises(OutputError, match="is no trail"):
        read_trail(tmp_path)
    with pytest.raises(UsageError, match="holds no results"):
        audit_results(tmp_path / "nowhere")
    assert read_trail(tmp_path / "nowhere") == ([], [], START)


def test_a_frozen_model_stays_and_tells_what_was_changed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model"):
        freeze(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    refuse_frozen(tmp_path)
    assert changed_since(tmp_path) == ("", [])
    freeze(tmp_path)
    when, changed = changed_since(tmp_path)
    assert when.startswith("20")
    assert changed == []
    with pytest.raises(UsageError, match="is frozen and stays as it is; choose another folder"):
        refuse_frozen(tmp_path)
    with pytest.raises(UsageError, match="is frozen"):
        freeze(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    (tmp_path / "more").write_text("")
    assert changed_since(tmp_path)[1] == ["model.safetensors", "more"]

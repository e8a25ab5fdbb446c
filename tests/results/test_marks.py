"""Marked normal tissue as files: what QuPath reads, what two readers write, what is broken."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from qupath_rules import read_as_qupath

from wsi_anomaly.annotations import Extent, Outline, write_geojson
from wsi_anomaly.core.errors import AnnotationError, UsageError
from wsi_anomaly.results.audit import audit_results
from wsi_anomaly.results.drawn_marks import checked_kind, drawn_area
from wsi_anomaly.results.marks import (
    FOLDER,
    Mark,
    add_mark,
    kinds_used,
    marks_file,
    read_marks,
    remove_mark,
)
from wsi_anomaly.results.trail import read_trail
from wsi_anomaly.tiles.inputs import find_file

EXTENT = Extent(Path("slide.tif"), (4000, 3000), (100, 50, 3000, 2000))
UM2 = 0.25


def mark(kind="Mucosa", reader="ann", at=(500, 500), side=600) -> Mark:
    return Mark(kind, shapely.box(*at, at[0] + side, at[1] + side), reader)


def file_of(results: Path, slide: str = "slide.tif", others: tuple[str, ...] = ()) -> Path:
    return marks_file(results, Path(slide), [Path(other) for other in others])


def add(results: Path, made: Mark) -> Path:
    add_mark(results, file := file_of(results), EXTENT, "slide", made)
    return file


def test_a_mark_is_an_annotation_that_qupath_takes_and_reads_back_the_same(tmp_path):
    made = mark("Tumor-free: Mucosa")
    file = add(tmp_path, made)
    (feature,) = read_as_qupath(file)
    assert feature["id"] == made.id
    assert feature["properties"]["classification"]["name"] == "Tumor-free: Mucosa"
    assert feature["properties"]["metadata"]["Marked by"] == "ann"
    # QuPath counts from the corner of the scanned area.
    assert shapely.geometry.shape(feature["geometry"]).bounds == (400, 450, 1000, 1050)
    (found,) = read_marks(file, EXTENT)
    assert (found.kind, found.reader, found.time) == (made.kind, "ann", made.time)
    assert found.outline.equals(made.outline)


def test_readers_at_one_moment_lose_nothing(tmp_path):
    made = [mark(f"kind {i}", reader=f"r{i % 4}", at=(100 * i, 0), side=90) for i in range(16)]
    threads = [threading.Thread(target=add, args=(tmp_path, one)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {m.kind for m in read_marks(file_of(tmp_path), EXTENT)} == {m.kind for m in made}
    events, problems, _ = read_trail(tmp_path)
    assert not problems
    assert len(events) == 16
    assert audit_results(tmp_path).problems == []
    assert audit_results(tmp_path).marks == 16


def test_each_deletes_only_their_own_and_with_the_last_mark_the_file_goes(tmp_path):
    first, second = mark("Muscle"), mark("Fat", "bob")
    file = add(tmp_path, first)
    add(tmp_path, second)
    with pytest.raises(UsageError, match="bob drew this"):
        remove_mark(tmp_path, file, EXTENT, "slide", second.id, "ann")
    remove_mark(tmp_path, file, EXTENT, "slide", first.id, "ann")
    assert [m.kind for m in read_marks(file, EXTENT)] == ["Fat"]
    with pytest.raises(UsageError, match="gone already"):
        remove_mark(tmp_path, file, EXTENT, "slide", first.id, "ann")
    remove_mark(tmp_path, file, EXTENT, "slide", second.id, "bob")
    assert not file.exists()
    assert read_marks(file, EXTENT) == []
    assert audit_results(tmp_path).problems == []


def test_what_somebody_put_there_stays_and_is_nobodys(tmp_path):
    (tmp_path / FOLDER).mkdir()
    file = tmp_path / FOLDER / "slide.geojson"
    write_geojson(file, [Outline("Nerve", shapely.box(0, 0, 400, 400))], "slide")
    document = json.loads(file.read_text())
    document["features"][0]["properties"]["measurements"] = {"Area": 3.0}
    file.write_text(json.dumps(document["features"]))  # a bare list, as QuPath writes as well
    add(tmp_path, mark())
    nerve, own = read_marks(file, EXTENT)
    assert (nerve.kind, nerve.reader, own.reader) == ("Nerve", "", "ann")
    assert nerve.outline.bounds == (100, 50, 500, 450)
    assert own.outline.bounds == (500, 500, 1100, 1100)
    assert read_as_qupath(file)[0]["properties"]["measurements"] == {"Area": 3.0}
    with pytest.raises(UsageError, match="Somebody drew this"):
        remove_mark(tmp_path, file, EXTENT, "slide", nerve.id, "ann")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("7", "holds no GeoJSON features"),
        (
            '[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[1]]]}}]',
            "object 1",
        ),
    ],
)
def test_a_broken_file_is_named_and_nothing_is_added_to_it(tmp_path, content, words):
    (tmp_path / FOLDER).mkdir()
    file = tmp_path / FOLDER / "slide.geojson"
    file.write_text(content)
    with pytest.raises(AnnotationError, match=words):
        read_marks(file, EXTENT)
    with pytest.raises(AnnotationError, match=words):
        add(tmp_path, mark())
    assert file.read_text() == content
    assert "Mucosa" in kinds_used(tmp_path)


def test_a_change_by_hand_shows_in_the_audit(tmp_path):
    file = add(tmp_path, mark())
    file.write_text(file.read_text().replace("Mucosa", "Muscle"))
    (file.parent / "other.geojson").write_text("[]")
    changed, put = sorted(audit_results(tmp_path).problems, reverse=True)
    assert "slide.geojson was changed after" in changed
    assert "other.geojson is in no record" in put
    file.unlink()
    assert any("was taken away" in problem for problem in audit_results(tmp_path).problems)


def test_slides_of_one_name_have_a_file_each_that_score_finds(tmp_path):
    slides = ("/a/x/s1.tif", "/b/x/s1.tif", "/b/x/s1.svs", "/b/s2.tif")
    files = []
    for slide in slides:
        file = file_of(tmp_path, slide, slides)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[]")
        files.append(file)
    for slide, file in zip(slides, files, strict=True):
        assert find_file(tmp_path / FOLDER, Path(slide)) == file
        assert file_of(tmp_path, slide, slides) == file
    assert files[3].name == "s2.geojson"


def test_a_file_that_could_be_of_two_slides_is_refused(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "s1.geojson").write_text("[]")
    with pytest.raises(AnnotationError, match=r"could be of /a/s1.tif or /b/s1.tif; move it"):
        file_of(tmp_path, "/a/s1.tif", ("/b/s1.tif",))


def test_nothing_is_added_to_a_file_of_another_kind(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "slide.xml").write_text("<ASAP_Annotations/>")
    with pytest.raises(AnnotationError, match="nothing can be added"):
        file_of(tmp_path)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(0, 0), (9, 9)], "3 to 5000 points"),
        ([(0, 0), (9, 9), (18, 18)], "encloses nothing"),
        ([(0, 0), (3, 0), (3, 3)], "almost nothing"),
        ([(-900, -900), (-100, -900), (-100, -100)], "beside the slide"),
        ([(0, 0)] * 5001, "3 to 5000 points"),
    ],
)
def test_what_is_no_outline_is_refused_in_a_sentence(points, words):
    with pytest.raises(UsageError, match=words):
        drawn_area(points, EXTENT, UM2)


@given(
    st.lists(st.tuples(st.integers(-500, 4500), st.integers(-500, 3500)), min_size=3, max_size=12)
)
def test_whatever_is_drawn_ends_as_a_valid_area_on_the_slide_or_in_a_sentence(points):
    """Self-crossing outlines are repaired, those that hang over the edge are cut."""
    try:
        area = drawn_area(points, EXTENT, UM2)
    except UsageError:
        return
    assert area.is_valid
    assert area.area > 0
    assert shapely.box(0, 0, *EXTENT.size).buffer(1e-6).contains(area)


def test_a_kind_is_spelled_as_before(tmp_path):
    add(tmp_path, mark("Smooth muscle"))
    used = kinds_used(tmp_path)
    assert used[0] == "Smooth muscle"
    assert "Muscle" in used
    assert checked_kind("  smooth   MUSCLE ", used) == "Smooth muscle"
    for wrong in ("", "  ", "x" * 101, "a\x00b"):
        with pytest.raises(UsageError, match="Name the kind"):
            checked_kind(wrong, used)

"""A QuPath project of results: what QuPath finds in it, and what stays when it is made again.

QuPath's own reader of projects (0.4.0 and 0.5.1, compiled from its source) was run on such a
project by hand on 28 November 2026, both scripts on its objects too; here the files are checked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from score_map_fakes import fake_calibration, fake_score_map
from shapely import get_num_coordinates
from shapely.geometry import MultiPolygon, box, shape
from shapely.ops import unary_union

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.results.geojson import write_geojson
from wsi_anomaly.results.qupath_project import IDENTITY, PROJECT, write_project
from wsi_anomaly.results.summary import FORMAT, VERSION
from wsi_anomaly.slides import slide_fingerprint
from wsi_anomaly.synthetic import make_slide


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides and what ``score`` says of them, as far as a project is concerned."""
    folder = tmp_path_factory.mktemp("scored")
    for k, name in enumerate(("s 0ü", "s1")):
        slide = folder / "slides" / f"{name}.tif"
        slide.parent.mkdir(exist_ok=True)
        make_slide(slide, seed=k, size_px=(1024, 1024))
        result = folder / "results" / name
        result.mkdir(parents=True)
        write_geojson(result, fake_score_map(k, calibration=fake_calibration()))
        facts = {
            "path": str(slide), "fingerprint": slide_fingerprint(slide),
            "bounds": [7, 9, 1000, 1000],
        }  # fmt: skip
        summary = {
            "format": FORMAT, "version": VERSION, "status": "done", "slide": facts,
            "slide_score": 2.5 + k, "verdict": "flagged", "result_hash": f"{k:064d}",
            "flagged": {"possible": True, "regions": k}, "model": {"hash": "m" * 64},
            "qupath_origin": "bounds",
        }  # fmt: skip
        (result / "summary.json").write_text(json.dumps(summary))
        (result / "thumbnail.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture
def lab(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored / "results", tmp_path / "results"))


def images(project: Path) -> list[dict]:
    return json.loads((project / PROJECT).read_text(encoding="utf-8"))["images"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code, and all that was printed, in one line."""
    code = main(["qupath", *words])
    found = capsys.readouterr()
    return code, " ".join((found.out + found.err).split())


def test_qupath_finds_slides_overlays_classes_and_scripts(lab: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    made = write_project(lab, project, order=["s1", "s 0ü"])
    assert (made.path, made.images, made.problems) == (project / PROJECT, ["s1", "s 0ü"], [])

    first, second = images(project)
    assert (first["imageName"], second["imageName"]) == ("s1", "s 0ü")
    assert [first["metadata"]["Rank"], second["metadata"]["Rank"]] == ["0001", "0002"]
    for image in (first, second):
        assert image["serverBuilder"]["builderType"] == "uri"
        assert Path(unquote(urlsplit(image["serverBuilder"]["uri"]).path)).is_file()
        assert all(isinstance(value, str) for value in image["metadata"].values())
        data = project / "data" / str(image["entryID"])
        overlay = (data / "overlay.geojson").read_bytes()
        assert overlay == (lab / image["imageName"] / "overlay.geojson").read_bytes()
        assert (data / "thumbnail.jpg").is_file()
        facts = json.loads((data / IDENTITY).read_text())
        assert (facts["slide"], facts["corner_level0"]) == (image["imageName"], [7, 9])
    classes = json.loads((project / "classifiers" / "classes.json").read_text())["pathClasses"]
    colors = {one["name"]: one["color"] for one in classes}
    assert {"Abnormal", "Normal variant", "Artefact", "Unsure", "Anomalous"} < set(colors)
    assert colors["Anomalous"] == int.from_bytes(b"\xff\xc8\x1e\x3c", "big", signed=True)
    scripts = sorted(path.name for path in (project / "scripts").iterdir())
    assert scripts == ["1_add_overlays.groovy", "2_export_reviews.groovy"]


def test_what_was_done_in_qupath_stays(lab: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project(lab, project, order=["s 0ü"])
    (project / "data" / "1" / "data.qpdata").write_bytes(b"drawn")
    saved = json.loads((project / PROJECT).read_text(encoding="utf-8"))
    # QuPath writes other URIs, fields that we do not know, and classes of its user.
    saved["images"][0]["serverBuilder"]["uri"] = saved["images"][0]["serverBuilder"]["uri"].replace(
        "file:///", "file:/"
    )
    saved["images"][0]["description"] = "look again"
    saved["lastID"] = 7
    (project / PROJECT).write_text(json.dumps(saved))
    classes = project / "classifiers" / "classes.json"
    classes.write_text('{"pathClasses": [{"name": "Unsure", "color": -1}, {"name": "Mine"}]}')

    write_project(lab, project, order=["s1", "s 0ü"])

    former, new = images(project)
    assert (former["entryID"], former["description"]) == (1, "look again")
    assert (new["entryID"], new["imageName"]) == (8, "s1")
    assert former["metadata"]["Rank"] == "0002"
    assert (project / "data" / "1" / "data.qpdata").read_bytes() == b"drawn"
    known = json.loads(classes.read_text())["pathClasses"]
    assert known[:2] == [{"name": "Unsure", "color": -1}, {"name": "Mine"}]
    assert sum(one["name"] == "Unsure" for one in known) == 1


def test_a_packed_overlay_takes_the_place_of_a_plain_one(lab: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project(lab, project, order=["s1"])
    (lab / "s1" / "overlay.geojson").rename(lab / "s1" / "overlay.geojson.gz")
    write_project(lab, project, order=["s1"])
    assert [p.name for p in (project / "data" / "1").glob("overlay*")] == ["overlay.geojson.gz"]


def test_what_a_killed_process_left_in_a_project_goes_with_the_next(
    lab: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    write_project(lab, project, order=["s1"])
    expected = sorted(project.rglob("*"))
    killed = (
        "import sys\nfrom pathlib import Path\nfrom wsi_anomaly.core.files import partial_name\n"
    )
    killed += "for path in sys.argv[1:]: partial_name(Path(path)).touch()"
    left = [project / PROJECT, project / "data" / "1" / "thumbnail.jpg"]
    left += [project / "classifiers" / "classes.json", project / "scripts" / "one.groovy"]
    subprocess.run([sys.executable, "-c", killed, *map(str, left)], check=True)
    assert len(list(project.rglob("*.partial"))) == 4
    write_project(lab, project, order=["s1"])
    assert sorted(project.rglob("*")) == expected


def test_slides_that_have_moved_are_found_by_their_content(
    scored: Path, lab: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    (moved / "deep").mkdir(parents=True)
    shutil.copy(scored / "slides" / "s1.tif", moved / "deep" / "renamed.tif")
    made = write_project(lab, tmp_path / "project", moved)
    assert made.images == ["s1"]
    assert [sentence for sentence in made.problems if "s 0ü.tif is not where" in sentence]
    assert images(tmp_path / "project")[0]["serverBuilder"]["uri"].endswith("/deep/renamed.tif")


def test_the_command_makes_it_and_names_what_is_left_out(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    code, said = run(capsys, str(lab), "-o", str(project))
    assert code == 0, said
    assert f"Open {project / PROJECT} in QuPath" in said
    assert [image["imageName"] for image in images(project)] == ["s1", "s 0ü"]  # worst first

    (tmp_path / "elsewhere").mkdir()
    make_slide(tmp_path / "elsewhere" / "x.tif", seed=9, size_px=(512, 512))
    other = tmp_path / "other"
    code, said = run(capsys, str(lab), "-o", str(other), "--slides", str(tmp_path / "elsewhere"))
    assert code == 1
    assert said.count("is not where it was scored") == 2
    assert "0 of 2 slides" in said
    assert not other.exists()


def test_a_deep_zoom_image_is_left_out_with_the_reason(lab: Path, tmp_path: Path) -> None:
    image = tmp_path / "HE.dzi"
    summary = json.loads((lab / "s1" / "summary.json").read_text())
    summary["slide"] = {"path": str(image), "fingerprint": "0" * 64}
    (lab / "s1" / "summary.json").write_text(json.dumps(summary))
    made = write_project(lab, tmp_path / "project", order=["s1"])
    assert made.problems == [f"{image} is left out: QuPath opens no DeepZoom images."]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 3}', '{"images": [{"entryID": "x"}]}'])
def test_a_file_that_is_no_project_is_left_alone(lab: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / PROJECT).write_text(text)
    with pytest.raises(UsageError, match="is no QuPath project"):
        write_project(lab, tmp_path)
    assert (tmp_path / PROJECT).read_text() == text


def test_a_folder_without_results_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, str(tmp_path), "-o", str(tmp_path / "project"))
    assert code == 2
    assert "holds no results" in said
    assert not (tmp_path / "project").exists()


def test_every_region_lies_inside_the_tissue_that_qupath_shows(tmp_path: Path) -> None:
    score_map = fake_score_map(3, shape=(25, 25), lesions=4, calibration=fake_calibration())
    assert score_map.interpretation.regions
    # Tissue as ragged as on a slide, which regions of whole fields stick out of.
    steps = [box(16 * k, 16 * k, 16 * k + 40, 16 * k + 40) for k in range(12_000)]
    tissue = MultiPolygon([box(0, 0, 10, 10)]).union(unary_union(steps))
    score_map = replace(score_map, tissue=tissue)
    features = json.loads(write_geojson(tmp_path, score_map).read_text())["features"]
    by_class: dict[str, list] = {}
    for feature in features:
        name = feature["properties"]["classification"]["name"]
        if feature["properties"]["objectType"] == "annotation":
            by_class.setdefault(name, []).append(shape(feature["geometry"]))
    (drawn,) = by_class["Tissue"]
    assert len(by_class["Anomalous"]) == len(score_map.interpretation.regions)
    assert all(drawn.covers(region) for region in by_class["Anomalous"])
    assert get_num_coordinates(drawn) < get_num_coordinates(tissue) / 4
    measured = features[0]["properties"]["measurements"]["Tissue area mm^2"]
    assert measured == score_map.tissue_mm2  # of the tissue itself

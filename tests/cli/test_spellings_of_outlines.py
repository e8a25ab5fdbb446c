"""A class or a group that is spelled in another way is the same class, not none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely
from cli_running import run_cli
from outline_files import write_asap
from score_running import score
from scoring_fakes import make_slide

from wsi_anomaly.annotations import Outline
from wsi_anomaly.tiles import TileStore

CLASS = "Tumor: Necrosis"
LESION = shapely.box(512, 384, 832, 704)


def qupath(path: Path, *features: tuple[shapely.Polygon, object]) -> Path:
    """An export of QuPath: areas and their classifications."""
    path.parent.mkdir(exist_ok=True)
    listed = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(area),
            "properties": {"objectType": "annotation", "classification": classification},
        }
        for area, classification in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": listed}))
    return path


def evaluated(*arguments: str | Path) -> dict:
    """What ``evaluate`` writes; it ends well."""
    code, said = run_cli("evaluate", *arguments, "-o", "evaluation")
    assert code == 0, said
    return json.loads(Path("evaluation/evaluation.json").read_text())


def abnormal_fields(found: dict) -> int:
    """How many fields count as abnormal."""
    return found["fields"][found["method"]]["raw"]["abnormal"]


def check_both_slides_of_a_derived_class(folder: Path, model: Path, fields: int) -> None:
    """The lesion is `fields` fields on each of the slides one and two, for every command."""
    slides = [folder / "one.tif", folder / "two.tif"]
    assert score(*slides, "--model", model, "-o", "r") == 0
    found = evaluated("r", "--annotations", folder / "outlines", "--class", CLASS)
    assert abnormal_fields(found) == 2 * fields
    assert not any("No outline has the class" in note for note in found["notes"])
    code, said = run_cli("tile", *slides, "-o", "t", "--annotations", folder / "outlines")
    assert code == 0, said
    for name in ("one", "two"):
        labels = TileStore.open(f"t/{name}.h5").label
        assert labels is not None
        assert CLASS in set(labels)


def test_a_derived_class_has_qupaths_own_name(here, model):
    for name, classification in (("one", {"name": CLASS}), ("two", {"names": CLASS.split(": ")})):
        make_slide(here / f"{name}.tif")
        vessel = (shapely.box(900, 500, 1000, 600), {"name": "Vessel"})
        qupath(here / "outlines" / f"{name}.geojson", (LESION, classification), vessel)
    check_both_slides_of_a_derived_class(here, model, 25)


def test_the_reported_derived_class(here, field_case, model):
    check_both_slides_of_a_derived_class(field_case("qupath_derived_class"), model, 16)


def check_both_spellings_of_a_hole(folder: Path, model: Path) -> None:
    """The folders camelyon16 and camelyon17 give the same figures."""
    assert score(folder / "patient.tif", "--model", model, "-o", "r") == 0
    old = evaluated("r", "--annotations", folder / "camelyon16")
    assert abnormal_fields(old) > 0
    for options in ([], ["--class", "metastases"]):
        new = evaluated("r", "--annotations", folder / "camelyon17", *options)
        for part in ("fields", "slides", "froc", "table"):
            assert new[part] == old[part], part


def test_camelyon17s_normal_is_camelyon16s_hole(here, model):
    make_slide(here / "patient.tif")
    for release, lesion, hole in (("16", "_0", "_2"), ("17", "metastases", "normal")):
        outlines = [Outline(lesion, shapely.box(256, 192, 1024, 832)), Outline(hole, LESION)]
        write_asap(here / f"camelyon{release}" / "patient.xml", outlines)
    check_both_spellings_of_a_hole(here, model)


def test_the_reported_normal_group(here, field_case, model):
    check_both_spellings_of_a_hole(field_case("camelyon17_normal_group"), model)


def test_what_is_left_out_is_named_by_every_command(here, model):
    slide = make_slide(here / "a.tif")
    ruler = shapely.LineString([(0, 0), (300, 300)])
    file = qupath(here / "a.geojson", (LESION, {"name": "Tumor"}), (ruler, None),
                  (shapely.box(900, 500, 1000, 600), None))  # fmt: skip
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as Windows editors save it
    said = "1 of 3 objects are points or lines, or enclose nothing, and are left out"
    code, printed = run_cli("tile", slide, "-o", "t", "--annotations", file)
    assert code == 0
    assert said in printed
    assert "1 of 2 annotations have no class and are left out" in printed
    assert said in Path("t/slides.csv").read_text()
    assert score(slide, "--model", model, "-o", "r", "--tissue-mask", file) == 0
    assert said in Path("r/a/summary.json").read_text()
    assert score(slide, "--model", model, "-o", "r2") == 0
    notes = " ".join(evaluated("r2", "--annotations", file, "--class", "Tumor")["notes"])
    assert said in notes
    assert "1 of 2 outlines have no class and do not count as abnormal" in notes


def test_a_class_that_no_outline_has_is_named(here, model):
    slide = make_slide(here / "a.tif")
    assert score(slide, "--model", model, "-o", "r") == 0
    file = qupath(here / "a.geojson", (LESION, {"name": "Tumor"}), (LESION, {"name": "Normal"}))
    found = evaluated("r", "--annotations", file, "--class", "Tumor", "--class", "tumour")
    assert "No outline has the class tumour; there are Normal, Tumor." in found["notes"]


@pytest.mark.parametrize("label", ["normal", "Normal"])
def test_what_is_marked_normal_is_never_abnormal_by_itself(here, model, label):
    slide = make_slide(here / "a.tif")
    assert score(slide, "--model", model, "-o", "r") == 0
    inside = shapely.box(192, 192, 448, 448)
    file = qupath(here / "a.geojson", (LESION, {"name": "Tumor"}), (inside, {"name": label}))
    assert abnormal_fields(evaluated("r", "--annotations", file)) == 25

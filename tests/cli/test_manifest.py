"""One table for a whole study takes the place of the slides, and of the options about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tifffile
from cli_running import run_cli
from scoring_fakes import make_slide

import wsi_anomaly
from wsi_anomaly.core.tables import read_table
from wsi_anomaly.detectors import Model
from wsi_anomaly.tiles import TileStore

TILE = ("--magnifications", "10", "--max-tiles", "10", "--workers", "1", "--stain", "none")
HERE = ("--workers", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Slides of two animals, each 1 um a pixel, one with a lesion."""
    folder = tmp_path_factory.mktemp("drawn")
    for seed, name in enumerate(("s0", "s1", "s2")):
        make_slide(folder / f"{name}.tif", seed=seed, lesion=seed == 2)
    return folder


@pytest.fixture
def study(drawn, here):
    (here / "scans" / "late").mkdir(parents=True)
    for name in ("s0.tif", "s1.tif", "late/s2.tif"):
        shutil.copy(drawn / Path(name).name, here / "scans" / name)
    return here


def write(text: str, name: str = "scans/study.csv") -> str:
    Path(name).write_text(text)
    return name


def plain(said: str) -> str:
    return " ".join(said.split())


def test_tile_takes_cases_and_pixel_sizes_from_it_and_leaves_abnormal_slides_out(study):
    table = write(
        "Slide;Case;mpp;label;comment\ns0.tif;rat 1;0,9;normal;x\nlate\\s2.tif;rat 2;;abnormal;\n"
        "s1.tif;;;;\n"
    )
    code, said = run_cli("tile", table, "-o", "tiles", *TILE)
    assert code == 0, said
    assert "1 slide is left out, which scans/study.csv calls abnormal" in plain(said)
    assert "has a column comment, of which nothing is made" in plain(said)
    stores = {path.stem: TileStore.open(path) for path in Path("tiles").glob("*.h5")}
    assert {name: (s.case, s.mpp.x) for name, s in stores.items()} == {
        "s0": ("rat 1", 0.9),
        "s1": ("s1", 1.0),
    }


def test_score_takes_masks_and_sizes_from_it(study, model):
    square = [[0, 0], [300, 0], [300, 300], [0, 300], [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [square]}
    Path("scans/half.geojson").write_text(
        json.dumps({"type": "Feature", "properties": {}, "geometry": geometry})
    )
    table = write("slide,mask,mpp\ns0.tif,half.geojson,\nlate/s2.tif,,0.95\n")
    code, said = run_cli("score", table, "--model", model, *HERE)
    assert code == 0, said
    found = {
        p.parent.name: json.loads(p.read_text()) for p in Path("results").glob("*/summary.json")
    }
    assert set(found) == {"s0", "s2"}
    assert found["s2"]["slide"]["mpp"][0] == 0.95
    assert found["s2"]["settings"]["tissue_mask"] is None
    assert found["s0"]["settings"]["tissue_mask"] is not None


def test_calibrate_counts_its_cases_and_heeds_its_masks_and_labels(study, model):
    for k in range(4):
        make_slide(study / "scans" / f"n{k}.tif", seed=30 + k, lesion=False)
    lines = [f"n{k}.tif,{k % 2},0,20" for k in range(4)]
    table = write("\n".join(["slide,case,label,x", *lines, "late/s2.tif,9,1,3"]))
    code, said = run_cli("calibrate", table, "--model", model, "-o", "mine", "--device", "cpu")
    assert code == 0, said
    assert "4 of 4 slides used" in said
    assert Model.load("mine").calibration["density"].n_cases == 2


def test_a_manifest_with_groups_is_the_table_of_a_study(study, model):
    table = write("slide,animal,group\ns0.tif,1,vehicle\ns1.tif,2,vehicle\nlate/s2.tif,3,high\n")
    code, said = run_cli("score", table, "--control", "vehicle", "--model", model, *HERE)
    assert code == 0, said
    assert Path("results/cohort.csv").exists()
    code, said = run_cli("score", "scans", "--control", "vehicle", "--model", model)
    assert code == 2
    assert "--cohort CSV, or a manifest alone" in plain(said)
    table = write("slide,case,group\ns0.tif,1,vehicle\ns1.tif,2,\n")
    code, said = run_cli("score", table, "--control", "vehicle", "--model", model, "-o", "other")
    assert code == 2
    assert "study.csv, line 3, lacks the group" in plain(said)
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slide\ns0.tif\nlate/../s0.tif\n", "lines 2 and 3, name one slide, as s0.tif and as late"),
        ("slide\ns0.tif\ngone.tif\nx.tif\n", "slides that do not exist: gone.tif (line 3), x.tif"),
        (f"slide\n{'x' * 300}.tif\n", "slides that do not exist: xxx"),
        ("slide,mask\ns0.tif,no.geojson\n", "masks that do not exist: no.geojson (line 2)"),
        ("slide,mpp\ns0.tif,250\n", "line 2, gives s0.tif '250' um per pixel, which is not"),
        ("slide,mpp\ns0.tif,fine\n", "line 2, gives the mpp as 'fine', which is no number"),
        ("slide,label\ns0.tif,perhaps\n", "line 2, gives the label 'perhaps'; write normal or"),
        ("slide,case,case\ns0.tif,1,2\n", "has two columns case; keep one of them"),
        ("slide\nlate\n", "line 2, names the folder late as a slide; name a file in it"),
        ("file\ns0.tif\n", "should begin with the line slide"),
        ("slide\n", "holds no lines of slide"),
        ("slide\nhttps://example.org/s.tif\n", "line 2: "),
    ],
)
@pytest.mark.parametrize("command", ["tile", "score", "calibrate", "check"])
def test_what_a_manifest_gets_wrong_is_named_before_any_work(study, model, command, text, says):
    output = [] if command == "check" else ["-o", "out"]
    code, said = run_cli(command, write(text), *output)
    assert code == 2, said
    assert "scans/study.csv" in said
    assert says in plain(said)
    assert not Path("out").exists()


def test_a_manifest_and_an_option_do_not_say_the_same_thing_twice(study):
    table = write("slide,case,mpp,mask\ns0.tif,a,1,\n")
    Path("sizes.csv").write_text("s0,1\n")
    code, said = run_cli("tile", table, "--mpp-csv", "sizes.csv", "-o", "out")
    assert code == 2
    assert "study.csv has a column mpp, so leave --mpp-csv away" in plain(said)
    assert not Path("out").exists()


def test_init_writes_what_the_files_say_and_never_over_what_somebody_wrote(study, drawn):
    Path("scans/broken.tif").write_bytes(b"no slide")
    code, said = run_cli("init", "scans", "-o", "study.csv")
    assert code == 1
    assert "broken.tif" in said
    rows = read_table("study.csv", ("slide",), may_be_empty=("case", "mpp", "label"))
    assert rows[0].layout.columns == ("slide", "case", "mpp", "label", "group", "mask")
    assert {row["slide"]: row.get("mpp") for row in rows} == {
        "scans/broken.tif": "",
        "scans/late/s2.tif": "1.0",
        "scans/s0.tif": "1.0",
        "scans/s1.tif": "1.0",
    }
    assert not any(row["case"] or row["label"] for row in rows)
    code, said = run_cli("init", "scans", "-o", "study.csv")
    assert code == 2
    assert "study.csv is there already" in plain(said)
    Path("scans/broken.tif").unlink()
    assert run_cli("init", "scans", "-o", "study.csv", "--overwrite")[0] == 0
    assert run_cli("tile", "study.csv", "-o", "tiles", *TILE)[0] == 0
    assert len(list(Path("tiles").glob("*.h5"))) == 3
    assert run_cli("init", "scans", "-o", "study.txt")[0] == 2


def test_a_link_to_a_slide_keeps_the_name_that_it_gives(study):
    Path("scans/r001.tif").symlink_to(Path("scans/s0.tif").resolve())
    assert run_cli("init", "scans/r001.tif", "-o", "study.csv")[0] == 0
    assert [row["slide"] for row in read_table("study.csv", ("slide",))] == ["scans/r001.tif"]


def test_a_slide_that_does_not_say_its_pixel_size_is_named(study):
    picture = tifffile.imread("scans/s0.tif")
    tifffile.imwrite("scans/plain.tif", picture, tile=(256, 256), photometric="rgb")
    code, said = run_cli("init", "scans", "-o", "study.csv")
    assert code == 0, said
    assert "1 of 4 slides without micrometres per pixel" in plain(said)
    assert "scans/plain.tif" in said


def test_the_verbs_of_python_take_it_too(study):
    made = wsi_anomaly.init("scans", "study.csv")
    assert (made.slides, made.unreadable) == (3, ())
    tiled = wsi_anomaly.tile("study.csv", "tiles", max_tiles=5, workers=1, stain="none")
    assert len(tiled) == 3
    outcomes = wsi_anomaly.tile(["study.csv"], "tiles", max_tiles=5, workers=1, stain="none")
    assert [outcome.job.slide.name for outcome in outcomes] == ["s2.tif", "s0.tif", "s1.tif"]

"""Every table of every command means slides by one rule, in whatever way it was saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_running import run_cli
from scoring_fakes import make_slide

from wsi_anomaly.detectors import Model
from wsi_anomaly.tiles import TileStore

FEW = ("--magnifications", "10", "--max-tiles", "10", "--workers", "1", "--stain", "none")
BOTH = ("a/s1.tif", "b/s1.tif")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two slides of one name in two folders, each 1 um a pixel."""
    folder = tmp_path_factory.mktemp("drawn")
    for seed, name in enumerate(BOTH):
        (folder / name).parent.mkdir()
        make_slide(folder / name, seed=seed, lesion=seed == 1)
    return folder


@pytest.fixture
def study(drawn, here):
    for name in BOTH:
        (here / name).parent.mkdir()
        shutil.copy(drawn / name, here / name)
    return here


def tile(*arguments) -> tuple[int, str]:
    return run_cli("tile", *arguments, "-o", "tiles", *FEW)


def stored() -> dict[str, tuple[str, float]]:
    """Case and pixel size of each slide that was tiled."""
    stores = [TileStore.open(path) for path in Path("tiles").glob("*.h5")]
    return {store.slide_path.parent.name: (store.case, store.mpp.x) for store in stores}


def mpps() -> dict[str, float]:
    summaries = [json.loads(p.read_text()) for p in Path("results").glob("*/summary.json")]
    return {Path(s["slide"]["path"]).parent.name: s["slide"]["mpp"][0] for s in summaries}


def test_tile_gives_each_slide_its_own_line_as_a_spreadsheet_saves_it(study):
    Path("cases.csv").write_bytes(
        "Slide;Case;Größe\r\na\\s1.tif;Ratte 1;2\r\nb/s1;ü;3\r\n".encode()
    )
    Path("sizes.csv").write_bytes("slide;mpp\na/s1;0,9\nb/s1.tif;1,1\n".encode("utf-16"))
    code, said = tile("a", "b", "--cases", "cases.csv", "--mpp-csv", "sizes.csv")
    assert code == 0, said
    assert "--cases" not in said
    assert "--mpp-csv" not in said
    assert stored() == {"a": ("Ratte 1", 0.9), "b": ("ü", 1.1)}
    Path("cases.csv").write_bytes("a/s1,Mäuse\nb/s1,x\n".encode("cp1252"))
    assert tile("a", "b", "--cases", "cases.csv")[0] == 0
    assert stored()["a"][0] == "Mäuse"


@pytest.mark.parametrize("command", ["tile", "score", "calibrate"])
@pytest.mark.parametrize("option", ["--mpp-csv", "--cases"])
def test_one_name_for_two_slides_is_refused_before_anything_is_done(study, model, command, option):
    if (command, option) == ("score", "--cases"):
        return  # it has no such option
    Path("table.csv").write_text("s1,1.5\n")
    arguments = ["--model", model] if command != "tile" else []
    code, said = run_cli(command, *BOTH, option, "table.csv", *arguments, "-o", "out")
    assert code == 2
    expected = "table.csv, line 1, names the slide s1, which could be a/s1.tif or b/s1.tif; write"
    assert expected in " ".join(said.split())
    assert not Path("out").exists()


def test_score_takes_pixel_sizes_by_the_same_rule(study, model):
    Path("sizes.csv").write_text('slide,mpp\na/s1,"0,95"\nb/s1.tif,1.05\nc/s1,0.5\n')
    code, said = run_cli(
        "score", *BOTH, "--model", model, "--mpp-csv", "sizes.csv", "--workers", "1",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0, said
    assert mpps() == {"a": 0.95, "b": 1.05}
    assert "--mpp-csv names what is not among the slides: c/s1." in said


def test_a_table_with_two_lines_for_a_slide_or_for_none_of_them_is_said(study, model):
    Path("twice.csv").write_text("slide,mpp\na/s1.tif,0.5\na/s1.tif,0.25\n")
    run = ("score", "a/s1.tif", "--model", model, "--workers", "1", "--device", "cpu")
    code, said = run_cli(*run, "--mpp-csv", "twice.csv")
    assert code == 2
    assert "twice.csv, lines 2 and 3, give a/s1.tif two values" in " ".join(said.split())
    assert not Path("results").exists()
    Path("nobody.csv").write_text("slide,mpp\nAA.tif,0.25\n")
    code, said = run_cli(*run, "--mpp-csv", "nobody.csv")
    assert code == 0
    assert "--mpp-csv names what is not among the slides: AA.tif." in said
    assert "--mpp-csv names none of the slides, so it has no effect." in said
    assert mpps() == {"a": 1.0}


def test_calibrate_counts_slides_of_one_name_as_cases_of_their_own(study, model):
    normals = []
    for k in range(4):
        (study / f"rat{k}").mkdir()
        normals.append(make_slide(study / f"rat{k}" / "liver.tif", seed=30 + k, lesion=False))

    def cases(*arguments: str) -> int:
        code, said = run_cli(
            "calibrate", *normals, "--model", model, "-o", "mine", "--device", "cpu", *arguments
        )
        assert code == 0, said
        return Model.load("mine").calibration["density"].n_cases

    assert cases() == 4
    lines = [f"rat{k}/liver,{k % 2}" for k in range(4)]
    Path("cases.csv").write_text("\n".join(["slide,case", *lines]))
    assert cases("--cases", "cases.csv") == 2


def test_a_study_and_its_evaluation_name_slides_by_the_same_rule(study, model):
    Path("study.csv").write_text(
        "slide;animal;group;organ\nb/s1;2;high;liver\na/s1.tif;1;control;liver\n"
    )
    code, said = run_cli(
        "score", *BOTH, "--cohort", "study.csv", "--model", model, "--workers", "1",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0, said
    labels = Path("labels.csv")
    labels.write_text("slide\tlabel\na/s1\tnormal\nb/s1.tif\tabnormal\n")
    Path("cases.csv").write_text("a/s1;1\nz;2\n")
    run = ("evaluate", "results", "--labels", labels, "--cases", "cases.csv", "-o", "figures")
    code, said = run_cli(*run)
    assert code == 0, said
    assert "--cases names what is not among the slides: z." in said
    assert "--cases does not name 1 of 2 slides" in said
    figures = json.loads(Path("figures/evaluation.json").read_text())
    ranked = figures["slides"]["highest region"]
    assert (ranked["abnormal"], ranked["normal"]) == (1, 1)
    assert ranked["roc_auc"]["value"] == 1.0  # the labels are those of the right slides
    labels.write_text("slide,label\ns1,normal\n")
    code, said = run_cli(*run)
    assert code == 2
    said = " ".join(said.split())
    assert "labels.csv, line 2, names the slide s1, which could be" in said
    assert "a/s1.tif or" in said


def test_scores_that_are_missing_are_counted(here):
    Path("scores.csv").write_text("score,label,slide\n1.0,0,a\nnan,1,a\n0.5,0,b\n2,1,b\n")
    code, said = run_cli("evaluate", "--scores", "scores.csv", "-o", "figures")
    assert code == 0
    assert "1 of 4 lines have no score and are left out, 1 of them abnormal." in said


def test_a_mask_of_one_name_is_not_taken_for_two_slides(study, model):
    from PIL import Image

    masks = study / "masks"
    masks.mkdir()
    half = Image.new("L", (1280, 1024))
    half.paste(255, (0, 0, 640, 1024))
    half.save(masks / "s1.png")
    for command in (("tile", *BOTH, *FEW), ("score", *BOTH, "--model", model)):
        code, said = run_cli(*command, "--tissue-mask", "masks", "-o", "out")
        assert code == 2
        assert "masks/s1.png could be of a/s1.tif or b/s1.tif; move it into" in said
    (masks / "b").mkdir()
    Image.new("L", (1280, 1024), 255).save(masks / "b" / "s1.png")
    code, said = tile(*BOTH, "--tissue-mask", "masks")
    assert code == 0, said
    right = {
        store.slide_path.parent.name: store.coords[:, 0].max() > 640
        for store in map(TileStore.open, Path("tiles").glob("*.h5"))
    }
    assert right == {"a": False, "b": True}

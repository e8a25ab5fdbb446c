"""``wsi-anomaly score --cohort`` as a user types it."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from wsi_anomaly.results.audit import audit_results

sys.path.append(str(Path(__file__).parents[1] / "scoring"))

from cli_running import run_cli
from scoring_fakes import make_slide
from small_model import save_small_model

SHAM, DOSED = "sham-injected", "zebra dose"
# slide, animal, group, organ, lesion
SLIDES = [
    *((f"rat{i} liver", f"rat{i}", SHAM, "liver", False) for i in range(1, 6)),
    ("rat11 liver", "rat11", DOSED, "liver", True),
    ("rat12 liver", "rat12", DOSED, "liver", True),
    ("rat1 kidney", "rat1", SHAM, "kidney", False),
    ("rat11 kidney", "rat11", DOSED, "kidney", True),
]
HEADER = "slide,animal,group,organ"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Slides, table and model of a small study: enough control livers, too few kidneys."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("normals", "slides"):
        (folder / name).mkdir()
    save_small_model(folder / "model", folder / "normals")
    for seed, (name, *_, lesion) in enumerate(SLIDES, start=300):
        make_slide(folder / "slides" / f"{name}.tif", seed=seed, lesion=lesion)
    write_table(folder / "study.csv", SLIDES)
    return folder


def write_table(path, slides):
    lines = [",".join((f"{name}.tif", *facts)) for name, *facts, _ in slides]
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def score(study, *arguments, slides=None, table="study.csv", model=True):
    models = ["--model", study / "model"] if model else []
    return run_cli(
        "score", *(slides or [study / "slides"]), "--cohort", study / table, "--control", SHAM,
        *models, "--device", "cpu", "--workers", "1", *map(str, arguments),
    )  # fmt: skip


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def result(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def named(study, tmp_path_factory):
    """The study, read with names; a model for each organ."""
    out = tmp_path_factory.mktemp("named") / "results"
    shutil.copytree(study / "model", study / "kidney model")
    models = ("--model", f"liver={study / 'model'}", "--model", f"kidney={study / 'kidney model'}")
    code, said = score(study, "-o", out, *models, model=False)
    assert code == 0, said
    return out, said


def test_the_table_has_a_line_for_each_organ_and_group(named):
    out, said = named
    table = {(r["organ"], r["group"]): r for r in rows(out / "cohort.csv")}
    assert list(table) == [(o, g) for o in ("liver", "kidney") for g in (SHAM, DOSED)]
    dosed = table["liver", DOSED]
    assert (dosed["animals"], dosed["animals_flagged"], dosed["animals_flaggable"]) == ("2",) * 3
    assert float(dosed["median_score"]) > float(table["liver", SHAM]["max_score"])
    assert float(dosed["flagged_mm2_per_mm2"]) == pytest.approx(0.32**2 / (1.024 * 0.768), rel=0.3)
    assert float(table["liver", SHAM]["flagged_regions_per_slide"]) <= 2
    assert table["kidney", DOSED]["animals_flaggable"] == "0"
    assert len(rows(out / "cohort_animals.csv")) == len(SLIDES)
    assert f"Open {out / 'cohort.html'}" in said
    assert "9 of 9 slides done." in said
    assert audit_results(out).runs == 1


def test_controls_are_compared_with_the_others_and_treated_animals_with_all(named):
    out, _ = named
    assert result(out / "rat11 liver")["calibration"]["name"] == "concurrent controls (5 animals)"
    assert result(out / "rat3 liver")["calibration"]["name"] == "concurrent controls (4 animals)"
    thresholds = {result(out / f"rat{i} liver")["flagged"]["threshold"] for i in range(1, 6)}
    assert len(thresholds) > 1
    report = (out / "rat11 liver/report.html").read_text(encoding="utf-8")
    assert "concurrent controls (5 animals), 5 slides" in report
    assert "--controls" not in report
    worklist = (out / "index.html").read_text(encoding="utf-8")
    assert "against concurrent controls (5 animals)" in worklist
    assert 'href="cohort.html"' in worklist


def test_too_few_controls_of_an_organ_give_no_flags_and_a_sentence(named):
    out, said = named
    found = result(out / "rat11 kidney")
    assert not found["flagged"]["possible"]
    assert "concurrent controls (1 animal), and flags take at least 4" in found["flagged"]["reason"]
    alone = result(out / "rat1 kidney")
    assert alone["calibration"] is None
    assert "there is no control animal" in alone["flagged"]["reason"]
    page = (out / "cohort.html").read_text(encoding="utf-8")
    assert "too few control animals" in page
    assert "there is no control animal to compare this slide with" in " ".join(said.split())


def test_what_is_done_is_kept_until_the_controls_change(named, study, tmp_path):
    out = tmp_path / "results"
    shutil.copytree(named[0], out)
    livers = [s for s in SLIDES if s[3] == "liver"]
    paths = [study / "slides" / f"{name}.tif" for name, *_ in livers]
    write_table(study / "livers.csv", livers)
    code, said = score(study, "-o", out, slides=paths, table="livers.csv")
    assert (code, said.count("kept, ")) == (0, 12)  # five controls, seven slides
    fewer = [s for s in livers if s[1] != "rat5"]
    write_table(study / "fewer.csv", fewer)
    code, said = score(study, "-o", out, slides=paths[:4] + paths[5:], table="fewer.csv")
    assert (code, said.count("kept, ")) == (0, 4)  # raw scores of four controls
    assert "(4 animals)" in result(out / "rat11 liver")["calibration"]["name"]


@pytest.fixture(scope="module")
def blinded(study, tmp_path_factory):
    """The livers, read blinded; one of them cannot be scored."""
    out = tmp_path_factory.mktemp("blinded") / "results"
    bad = tmp_path_factory.mktemp("bad") / "rat13 liver.tif"
    whole = (study / "slides" / "rat11 liver.tif").read_bytes()
    bad.write_bytes(whole[: len(whole) // 3])
    livers = [s for s in SLIDES if s[3] == "liver"]
    livers.append(("rat13 liver", "rat13", DOSED, "liver", False))
    write_table(study / "blinded.csv", livers)
    paths = [study / "slides" / f"{name}.tif" for name, *_ in livers[:-1]] + [bad]
    code, said = score(
        study, "-o", out, "--blinded", "--heatmap", slides=paths, table="blinded.csv"
    )
    return out, code, said, paths


def with_pictures_decoded(content):
    """Pictures inside a page as their bytes: their base64 spells any short word by chance."""
    return re.sub(rb"base64,([\w+/=]+)", lambda found: base64.b64decode(found[1]), content)


def test_nothing_but_the_key_names_a_slide_an_animal_or_a_group(blinded):
    out, code, *_ = blinded
    assert code == 1
    longer = (b"zebra", b"study", b"slides/")
    words = (b"rat1", b"rat2", b"rat3", b"rat4", b"rat5", b"sham", *longer)
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "unblinding.csv"]
    assert {"report.html", "heatmap.png", "heatmap.ome.tif", "overlay.geojson", ".zattrs"} <= {
        p.name for p in files
    }
    for file in files:
        content = with_pictures_decoded(file.read_bytes()).lower()
        # Four letters stand in megabytes of packed pixels by chance.
        kinds = {".html", ".json", ".jsonl", ".geojson", ".csv", ".groovy"}
        text = file.suffix in kinds or file.name[0] == "."
        assert not [w for w in (words if text else longer) if w in content], file
        assert not [w for w in words if w.decode() in str(file.relative_to(out)).lower()], file
        assert b"unblinding" not in content, file
    assert not (out / "cohort.html").exists()
    assert not (out / "cohort.csv").exists()


def test_the_terminal_names_no_slide_of_a_blinded_reading(blinded):
    out, _, said, _ = blinded
    assert not re.search(r"rat\d|sham|zebra|slides/", said.replace(str(out), ""))
    controls = re.findall(r"^\[\d+/(\d+)\] a control slide: done$", said, re.MULTILINE)
    assert len(controls) == int(controls[0]) > 0
    (error,) = (line for line in said.splitlines() if line.startswith("Error: "))
    code, key = re.fullmatch(r"Error: (S-\w+) could not be scored; (.*) says why\.", error).groups()
    lines = {row["code"]: row for row in rows(key)}
    assert lines[code]["slide"] == "rat13 liver.tif"
    assert lines[code]["not_scored_because"]


def test_no_report_tells_a_control_from_a_treated_animal(blinded):
    out, *_ = blinded
    assert {r["reference"] for r in rows(out / "slides.csv") if r["status"] == "done"} == {
        "concurrent controls (4 animals)"
    }


def test_the_key_is_private_and_complete(blinded):
    out, _, _, paths = blinded
    key = out / "unblinding.csv"
    assert key.stat().st_mode & 0o777 == 0o600
    assert (out / ".cohort").stat().st_mode & 0o777 == 0o700
    found = {r["slide"]: r for r in rows(key)}
    assert set(found) == {p.name for p in paths}
    for slide, row in found.items():
        if row["not_scored_because"]:
            assert slide == "rat13 liver.tif"
        else:
            assert result(out / row["code"])["slide"]["name"] == row["code"]
    (failed,) = (r for r in rows(out / "slides.csv") if r["status"] == "failed")
    assert failed["slide"] == found["rat13 liver.tif"]["code"]
    assert found["rat3 liver.tif"]["animal"] == "rat3"


def test_a_second_run_keeps_the_codes_and_one_without_blinded_adds_the_table(
    blinded, study, tmp_path
):
    out = tmp_path / "results"
    shutil.copytree(blinded[0], out)
    key = (out / "unblinding.csv").read_text()
    arguments = ("-o", out, "--heatmap")
    code, said = score(study, *arguments, "--blinded", slides=blinded[3], table="blinded.csv")
    assert (code, said.count("kept, ")) == (1, 12)
    assert (out / "unblinding.csv").read_text() == key
    code, said = score(study, *arguments, slides=blinded[3], table="blinded.csv")
    assert (code, said.count("kept, ")) == (1, 12)
    lines = {r["group"]: r for r in rows(out / "cohort.csv")}
    assert lines[DOSED]["animals_flagged"] == "2"
    assert lines[DOSED]["slides_not_scored"] == "1"
    page = (out / "cohort.html").read_text(encoding="utf-8")
    assert "rat13 liver.tif" in page
    assert "1 slide could not be scored and counts for nothing here" in page
    code, said = score(study, *arguments, "--blinded", slides=blinded[3], table="blinded.csv")
    assert code == 2
    assert "shows the groups in cohort.html" in said


def test_plain_results_are_kept_out_of_a_blinded_reading(blinded, study, tmp_path):
    out = tmp_path / "results"
    shutil.copytree(blinded[0], out)
    before = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    plain = ("score", blinded[3][0], "--model", study / "model", "--device", "cpu", "-o", out)
    code, said = run_cli(*plain)
    assert code == 2
    assert len(said.strip().splitlines()) == 1
    assert "holds a blinded study" in said
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    (out / "cohort.html").touch()  # unblinded: names are shown anyway
    assert run_cli(*plain)[0] == 0


def test_a_dask_cluster_scores_what_one_process_does(named, study, tmp_path):
    distributed = pytest.importorskip("distributed")  # over TCP: everything is sent, not shared
    livers = [s for s in SLIDES if s[3] == "liver"]
    write_table(study / "livers.csv", livers)
    paths = [study / "slides" / f"{name}.tif" for name, *_ in livers]
    out = tmp_path / "dask"
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        protocol="tcp://",
    ) as cluster:
        code, said = score(
            study, "-o", out, "--dask", cluster.scheduler_address, slides=paths, table="livers.csv"
        )
    assert code == 0, said
    assert "7 of 7 slides done." in said
    table = {r["group"]: r for r in rows(out / "cohort.csv")}
    both = {(r["organ"], r["group"]): r for r in rows(named[0] / "cohort.csv")}
    own = {name for name in table[DOSED] if "over_organs" not in name}  # here is one organ only
    assert {n: table[DOSED][n] for n in own} == {n: both["liver", DOSED][n] for n in own}
    for name, *_ in livers:
        found, expected = (result(folder / name) for folder in (out, named[0]))
        for key in ("slide_score", "flagged", "calibration", "regions"):
            assert found[key] == expected[key], name


def test_a_blinded_reading_does_not_begin_among_names(named, study):
    code, said = score(study, "-o", named[0], "--blinded")
    assert code == 2
    assert "choose another folder with -o" in said


def test_processes_write_what_one_process_does(named, study, tmp_path):
    livers = [s for s in SLIDES if s[3] == "liver"]
    paths = [study / "slides" / f"{name}.tif" for name, *_ in livers]
    write_table(study / "livers.csv", livers)
    two = tmp_path / "two"
    code, _ = score(study, "-o", two, "--workers", "2", slides=paths, table="livers.csv")
    assert code == 0
    for name in ("rat1 liver", "rat11 liver"):
        found, expected = (p / name / "overlay.geojson" for p in (two, named[0]))
        assert found.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard", "1/2"], "--cohort takes no --shard"),
        (["--control", "placebo"], "has no group placebo"),
        (["--model", "spleen=model"], "no organ of this study"),
        (["--model", "a", "--model", "b"], "both for all organs"),
        (["--model", "liver=a"], "There is no model for kidney"),
    ],
)
def test_wrong_usage_is_one_sentence_and_writes_nothing(study, tmp_path, arguments, said):
    code, printed = score(study, "-o", tmp_path / "results", *arguments, model=False)
    assert code == 2
    assert len(printed.strip().splitlines()) == 1
    assert said in printed
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", [["--blinded"], ["--control", "x"], ["--model", "b"]])
def test_options_of_a_study_need_a_study(study, tmp_path, option):
    slide = study / "slides" / "rat1 liver.tif"
    code, said = run_cli("score", slide, "--model", "a", "-o", tmp_path / "results", *option)
    assert code == 2
    assert "goes with the table of a study only" in said


def test_a_model_of_an_organ_that_cannot_be_used_is_named_before_anything_is_done(study, tmp_path):
    models = ("--model", study / "model", "--model", f"kidney={tmp_path / 'gone'}")
    code, said = score(study, "-o", tmp_path / "results", *models, model=False)
    assert code == 1
    assert "gone" in said
    assert not (tmp_path / "results").exists()

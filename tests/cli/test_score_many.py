"""``wsi-anomaly score`` of many slides, some of them bad: what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from score_running import rows, score, summary
from scoring_fakes import make_slide

from wsi_anomaly.screening import slides as many


@pytest.fixture
def mixed(here, slide):
    """Two good slides among everything that can be wrong with one."""
    folder = here / "sl ides é'"
    folder.mkdir()
    shutil.copy(slide, folder / "good one.tif")
    make_slide(folder / "z good.tif", seed=5)
    make_slide(folder / "coarse.tif", mpp=2.5)
    (folder / "no slide.svs").write_bytes(b"this is no slide" * 100)
    whole = slide.read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 3])
    return folder


def test_one_bad_slide_does_not_stop_the_others(here, mixed, model, capsys):
    assert score(mixed, "--model", model, "--workers", 1) == 1
    check_mixed(capsys)


def test_processes_say_and_write_what_one_process_does(here, mixed, model, capsys):
    assert score(mixed, "--model", model, "--workers", 2) == 1
    check_mixed(capsys)
    good = [mixed / "good one.tif", mixed / "z good.tif"]
    assert score(*good, "--model", model, "-o", "one", "--workers", 1) == 0
    for name in ("good one", "z good"):
        two, one = (here / folder / name / "overlay.geojson" for folder in ("results", "one"))
        assert two.read_bytes() == one.read_bytes()
        assert summary(name)["result_hash"] == summary(name, "one")["result_hash"]


def check_mixed(capsys):
    said = capsys.readouterr().err
    assert "2 of 5 slides done." in said
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 3
    for name, word in (("coarse.tif", "too coarse"), ("no slide.svs", ""), ("cut.tif", "")):
        (line,) = [e for e in errors if name in e]
        assert word in line
        assert "Traceback" not in line
        assert "unexpected" not in line
    assert sorted(r["slide"] for r in rows() if r["status"] == "done") == ["good one", "z good"]
    assert sorted(r["slide"] for r in rows() if r["status"] == "failed") == [
        "coarse.tif",
        "cut.tif",
        "no slide.svs",
    ]


def test_debug_shows_where_a_slide_failed_in_another_process(here, mixed, model, capsys):
    files = [mixed / "coarse.tif", mixed / "good one.tif"]
    assert score(*files, "--model", model, "--workers", 2, "--debug") == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "in score_slide" in said
    assert "--debug" not in said


def test_only_without_debug_the_details_of_an_unexpected_error_are_offered(
    here, mixed, model, monkeypatch, capsys
):
    def broken(*_):
        raise LookupError("odd\nheader")

    monkeypatch.setattr(many, "score_to_folder", broken)
    arguments = [mixed / "good one.tif", "--model", model, "--workers", 1]
    assert score(*arguments) == 1
    said = capsys.readouterr().err
    assert "unexpected LookupError: odd header" in said
    assert "with --debug for the details" in said
    assert "Traceback" not in said
    assert score(*arguments, "--debug") == 1
    said = capsys.readouterr().err
    assert "in broken" in said
    assert "--debug" not in said


def test_shards_together_make_one_worklist(here, model, mixed):
    for i in (1, 2, 3):
        score(mixed, "--model", model, "--shard", f"{i}/3", "--workers", 1)
    found = rows()
    assert len(found) == 5
    assert [r["status"] for r in found].count("failed") == 3
    assert [r["rank"] for r in found if r["status"] == "done"] == ["1", "2"]


def test_dask_scores_what_one_process_scores(here, model, slide, mixed):
    """Its workers get whole paths, and still find the slides of a table of relative ones."""
    distributed = pytest.importorskip("distributed")
    good = (mixed / "good one.tif").relative_to(here)
    (here / "sizes.csv").write_text(f"slide,mpp\n{good},0.52\n", encoding="utf-8")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        code = score(
            good, mixed / "cut.tif", "--model", model, "--mpp-csv", "sizes.csv",
            "--dask", cluster.scheduler_address,
        )  # fmt: skip
    assert code == 1
    assert {r["slide"]: r["status"] for r in rows()} == {"good one": "done", "cut.tif": "failed"}
    assert summary("good one")["slide"]["mpp"] == [0.52, 0.52]


def test_a_dask_address_where_nobody_answers_is_wrong_usage(
    here, model, mixed, monkeypatch, capsys
):
    monkeypatch.setattr("wsi_anomaly.jobs.cluster._CONNECT_SECONDS", 1)
    code = score(
        mixed / "good one.tif", mixed / "z good.tif", "--model", model,
        "--dask", "tcp://127.0.0.1:9",
    )  # fmt: skip
    assert code == 2
    assert "No Dask scheduler answers" in capsys.readouterr().err


def deleting(slide, monkeypatch):
    """Let a slide be deleted as soon as any first fields are scored."""
    real = many.score_to_folder

    def score_and_delete(job, model, options, progress):
        def report(done, total):
            slide.unlink(missing_ok=True)

        return real(job, model, options, report)

    monkeypatch.setattr(many, "score_to_folder", score_and_delete)


def test_a_slide_deleted_before_its_turn_is_named_and_the_rest_is_done(
    here, model, mixed, monkeypatch, capsys
):
    deleting(mixed / "z good.tif", monkeypatch)
    good = [mixed / "good one.tif", mixed / "z good.tif"]
    assert score(*good, "--model", model, "--workers", 1) == 1
    said = capsys.readouterr().err
    assert "z good.tif" in next(line for line in said.splitlines() if "Error" in line)
    assert not (here / "results/z good").exists()
    assert (here / "results/good one/summary.json").is_file()


def test_a_slide_deleted_while_it_is_scored_is_scored_to_its_end(here, model, mixed, monkeypatch):
    slide = mixed / "good one.tif"
    assert score(slide, "--model", model, "-o", "undisturbed") == 0
    deleting(slide, monkeypatch)
    assert score(slide, "--model", model) == 0
    assert not slide.exists()
    whole, found = (here / f / "good one/overlay.geojson" for f in ("undisturbed", "results"))
    assert found.read_bytes() == whole.read_bytes()


def damaged(model, here, what):
    folder = here / "damaged"
    shutil.copytree(model, folder)
    description = folder / "model.json"
    if what == "version":
        facts = json.loads(description.read_text())
        description.write_text(json.dumps({**facts, "version": 99}))
    elif what == "weights":
        (folder / "model.safetensors").unlink()
    elif what == "description":
        description.unlink()
    elif what == "cut":
        description.write_text(description.read_text()[:200])
    elif what == "other weights":
        (folder / "model.safetensors").write_bytes(b"\0" * 100)
    else:
        shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("version", "version 99"),
        ("weights", "lacks model.safetensors"),
        ("description", "lacks model.json"),
        ("cut", "model.json"),
        ("other weights", "damaged"),
        ("missing", "no model"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_sentence(here, model, slide, capsys, what, said):
    assert score(slide, "--model", damaged(model, here, what)) == 1
    printed = capsys.readouterr().err
    assert len(printed.strip().splitlines()) == 1
    assert said in printed
    assert "damaged" in printed  # the folder is named
    assert not (here / "results").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["no/such/file.tif"],
        ["{slide}", "--fdr", "1.5"],
        ["{slide}", "--shard", "5/4"],
        ["{slide}", "--stride", "0"],
        ["{slide}", "--false-regions", "0"],
        [],
    ],
)
def test_wrong_usage_is_2_and_writes_nothing(here, model, slide, arguments):
    arguments = [a.format(slide=slide) for a in arguments]
    assert score(*arguments, "--model", model) == 2
    assert not (here / "results").exists()


def test_a_results_folder_that_cannot_be_written_is_one_sentence(here, model, slide, capsys):
    (here / "results").write_text("a file stands here")
    assert score(slide, "--model", model) == 1
    printed = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in printed if line.startswith("Error")]) == 1
    assert "results" in printed[-1]


def test_a_killed_run_leaves_nothing_that_passes_for_a_result(here, model, slide):
    process = subprocess.Popen(
        [
            sys.executable, "-m", "wsi_anomaly", "score", str(slide), "--model", str(model),
            "--device", "cpu", "--heatmap", "-q",
        ],
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    # Killed at the worst moment: while the files of the slide are being written.
    while process.poll() is None and not list(here.glob("results/.lesion.*/scores.zarr")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (here / "results/lesion").exists()
    assert score(slide, "--model", model, "--heatmap") == 0
    assert {"report.html", "summary.json", "heatmap.png"} <= {
        p.name for p in (here / "results/lesion").iterdir()
    }
    assert [row["slide"] for row in rows()] == ["lesion"]

"""Cells are honest, kept, and become tables that say how they were made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tiny_sets import PLAN, ROWS, make_folder_set

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.features import working_precision
from wsi_anomaly.reproduce.experiment import Bench
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.run import reproduce
from wsi_anomaly.reproduce.scores import Scores
from wsi_anomaly.reproduce.sources.folders import Folder
from wsi_anomaly.reproduce.summary import RowSummary, best_against_best, summarise


def cell_files(output: Path) -> dict[str, float]:
    return {
        path.parent.name + path.name: path.stat().st_mtime_ns for path in output.rglob("*-*.json")
    }


def test_every_row_has_its_cells_and_figures(finished) -> None:
    source, output, outcome = finished
    assert outcome.errors == []
    assert {r.row for r in outcome.rows} == set(ROWS)
    assert all(r.whole and r.seeds == 2 for r in outcome.rows)
    cells = [json.loads(line) for line in (output / "cells.jsonl").read_text().splitlines()]
    assert len(cells) == 2 * len(ROWS)
    for cell in cells:
        assert cell["settings"]["data"] == source.title
        assert cell["normal"] > 0
        assert cell["abnormal"] > 0
    table = json.loads((output / "table.json").read_text())
    assert {row["row"] for row in table["rows"]} == set(ROWS)
    assert (output / "table.png").read_bytes().startswith(b"\x89PNG")


def test_stripes_are_found_and_their_colour_is_not(finished) -> None:
    _, _, outcome = finished
    auc = {r.row: r.mean for r in outcome.rows}
    assert auc["density"] > 0.95
    assert auc["supervised"] > 0.95
    assert auc["mean-colour"] < 0.8


def test_the_figure_is_that_of_the_stored_scores(finished) -> None:
    source, output, _ = finished
    place = Bench(source, PLAN, output).place("dpa", "normal", 1)
    scores = Scores.load(place.scores)
    assert place.read()["auc"] == pytest.approx(
        roc_auc_score(scores.abnormal, scores.judge), abs=1e-4
    )


def test_fusion_weighs_what_known_anomalies_support(finished) -> None:
    source, output, _ = finished
    bench = Bench(source, PLAN, output)
    for seed in range(2):
        cell = bench.place("fusion", "normal", seed).read()
        assert sum(cell["weights"].values()) == pytest.approx(1, abs=2e-3)
        assert cell["weights"]["density"] > 0
        if cell["support"]["dpa"] < 0.55:
            assert cell["weights"]["dpa"] == 0


def test_the_markdown_says_how_it_was_made(finished) -> None:
    _, output, _ = finished
    text = (output / "table.md").read_text()
    assert "wsi-anomaly reproduce ..." in text
    assert "steps of 8 (published: 123,500 of 128)" in text
    assert "Perceptual network: compact" in text
    assert "*mean-colour* (control)" in text
    assert "Our best, " in text


def test_finished_cells_are_kept_and_other_settings_have_their_own(finished) -> None:
    source, output, _ = finished
    before = cell_files(output)
    reproduce(source, PLAN, ("dpa", "mean-colour"), output, seeds=2)
    assert cell_files(output) == before
    reproduce(source, Plan(features="compact", judge=10), ("mean-colour",), output, seeds=1)
    after = cell_files(output)
    assert len(after) == len(before) + 1
    assert all(after[name] == before[name] for name in before)


def test_a_run_that_was_cut_off_goes_on(finished, tmp_path: Path) -> None:
    source, _, _ = finished
    bench = Bench(source, PLAN, tmp_path)
    first = bench.place("mean-colour", "normal", 0)
    bench.run(first)
    stamp = first.figures.stat().st_mtime_ns
    outcome = reproduce(source, PLAN, ("mean-colour",), tmp_path, seeds=2)
    assert outcome.rows[0].cells == (2, 2)
    assert first.figures.stat().st_mtime_ns == stamp


def test_damaged_cells_are_named(finished, tmp_path: Path) -> None:
    source, _, _ = finished
    bench = Bench(source, PLAN, tmp_path)
    place = bench.place("mean-colour", "normal", 0)
    bench.run(place)
    place.scores.write_bytes(b"no")
    with pytest.raises(UsageError, match=r"normal-0\.npz is missing or damaged"):
        summarise([place])
    place.figures.write_text("{")
    with pytest.raises(UsageError, match=r"normal-0\.json is damaged"):
        bench.run(place)


def test_unknown_rows_and_classes_are_refused_with_what_would_do(finished, tmp_path: Path) -> None:
    source, _, _ = finished
    with pytest.raises(UsageError, match=r"no row 'best'; choose among dpa, density"):
        reproduce(source, PLAN, ("best",), tmp_path)
    with pytest.raises(UsageError, match=r"no class 'cat'; it has normal"):
        reproduce(source, PLAN, ("dpa",), tmp_path, classes=("cat",))
    with pytest.raises(UsageError, match="seeds"):
        reproduce(source, PLAN, ("dpa",), tmp_path, seeds=0)


def test_without_weights_nothing_is_tried_cell_by_cell(finished, tmp_path: Path) -> None:
    source, _, _ = finished
    weights = tmp_path / "weights.npz"
    with pytest.raises(UsageError, match=r"no weights in .*weights\.npz"):
        Plan(features="squeezenet", weights=weights)
    weights.write_bytes(b"no")
    plan = Plan(features="squeezenet", weights=weights, steps=1)
    with pytest.raises(WsiAnomalyError, match=r"weights\.npz cannot be read as weights"):
        reproduce(source, plan, ("mean-colour", "density"), tmp_path / "out", seeds=1)
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_copies_of_an_image_make_no_figure_more_certain(tmp_path: Path) -> None:
    """The interval is over groups."""
    rng = np.random.default_rng(0)
    score, abnormal = rng.normal(size=20), np.arange(20) % 2 == 0

    def width(times: int) -> float:
        scores = Scores(
            np.repeat(score + abnormal, times), np.repeat(abnormal, times),
            np.repeat(np.arange(20), times), np.repeat(["x"] * 20, times),
            np.empty(0), np.empty(0),
        )  # fmt: skip
        place = _place(tmp_path / str(times), scores)
        (row,) = summarise([place])
        return row.high - row.low

    assert width(1) == pytest.approx(width(15), abs=1e-9)
    assert width(1) > 0.1


def _place(folder: Path, scores: Scores):
    from wsi_anomaly.core.files import write_json
    from wsi_anomaly.reproduce.scores import Place

    place = Place(folder, "dpa", "x", 0, {})
    folder.mkdir(exist_ok=True)
    scores.save(place.scores)
    write_json(place.figures, {"auc": scores.auc(), "slide_auc": scores.slide_auc()})
    return place


def test_the_slide_figure_takes_the_top_tenth() -> None:
    group = np.repeat(np.arange(4), 10)
    abnormal = group >= 2
    judge = np.zeros(40)
    judge[[20, 30]] = 5.0  # one tile in each abnormal slide
    one = Scores(judge, abnormal, group, np.array(["x"] * 40), np.empty(0), np.empty(0))
    assert one.slide_auc() == 1.0
    assert one.auc() == pytest.approx(0.55)
    single = Scores(judge, abnormal, np.arange(40), one.kind, one.normal, one.known)
    assert single.slide_auc() is None


def test_the_best_are_compared_group_by_group() -> None:
    def row(name: str, mean: float, without: list[float]) -> RowSummary:
        return RowSummary(
            name, {}, mean, 0, 0, 0, np.array(without), 8, 1, (1, 1), {}, 0, None
        )  # fmt: skip

    together = np.linspace(-0.01, 0.01, 8)
    apart = 1e-3 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    rows = [
        row("dpa", 0.7, 0.7 + together + apart),
        row("density", 0.6, [0.6] * 8),
        row("deep-if", 0.65, 0.65 + together),
    ]
    found = best_against_best(rows)
    assert found is not None
    ours, theirs, difference, low, high = found
    assert (ours.row, theirs.row) == ("dpa", "deep-if")
    assert difference == pytest.approx(0.05)
    # What both rows share is no uncertainty of the difference.
    assert (low + high) / 2 == pytest.approx(0.05)
    assert 0 < high - low < 0.02
    assert best_against_best(rows[:2]) is None


def test_a_control_that_cannot_be_computed_costs_its_own_cells_only(tmp_path: Path) -> None:
    folder = make_folder_set(tmp_path / "set", normal=60, abnormal=40)
    lines = ["image,group"]
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        abnormal = "abnormal" in path.parts
        group = number if abnormal else "abc"[number % 3]  # one normal group is left to judge
        lines.append(f"{path.relative_to(folder).as_posix()},{group}")
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    rows = ("supervised", "mean-colour")
    outcome = reproduce(Folder(folder), PLAN, rows, tmp_path / "out", seeds=1, command="x")
    assert [r.row for r in outcome.rows] == ["mean-colour"]
    assert len(outcome.errors) == 1
    assert "two groups of each class" in outcome.errors[0]
    # One normal group is left to judge: too few for an interval.
    assert np.isnan(outcome.rows[0].low)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| - | - |" in table
    assert "nan" not in table


def test_a_row_states_its_number_format_and_its_layers(tmp_path: Path) -> None:
    """float32 as published, bfloat16 as a setting; the two share no cell."""
    folder = make_folder_set(tmp_path / "set", normal=30, abnormal=20)
    found = {}
    for precision in ("float32", "bfloat16"):
        plan = replace(PLAN, precision=precision)
        outcome = reproduce(Folder(folder), plan, ("deep-if",), tmp_path / "out", seeds=1)
        (found[precision],) = (row.precision for row in outcome.rows)
        page = (tmp_path / "out" / "table.md").read_text()
        assert f"Perceptual network: compact, in {found[precision][0]}." in page
        assert "Layers whose averages are pooled: deep-if: c2, c3." in page
        cell = json.loads((tmp_path / "out" / "cells.jsonl").read_text())
        assert [cell["precision"]] == list(found[precision])
    assert found["float32"] == ("float32",)
    expected = str(working_precision("compact", "cpu")).removeprefix("torch.")
    assert found["bfloat16"] == (expected,)
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 2
    with pytest.raises(UsageError, match="float32 or bfloat16"):
        Plan(precision="float16")

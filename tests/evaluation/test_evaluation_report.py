"""The report's charts stay in their frame, and the numbers are plain JSON that is documented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.evaluation import froc
from wsi_anomaly.evaluation.charts import (
    Chart,
    Series,
    froc_chart,
    pr_chart,
    roc_chart,
    score_chart,
)
from wsi_anomaly.evaluation.report import as_html, as_json, write_evaluation
from wsi_anomaly.evaluation.run import evaluate
from wsi_anomaly.options import EvaluateOptions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"


def points(chart: Chart, kind: str) -> np.ndarray:
    """Points of the curves of a kind, from the SVG path."""
    paths = [line.path for line in chart.lines if line.kind == kind]
    found = [
        tuple(map(float, p.split(","))) for p in re.findall(r"[-\d.]+,[-\d.]+", "".join(paths))
    ]
    return np.array(found)


def inside(chart: Chart) -> None:
    for line in chart.lines:
        for x, y in [*points(chart, line.kind), *line.marks]:
            assert chart.left <= x <= chart.right
            assert chart.top <= y <= chart.base
    assert all(chart.left <= x <= chart.right for x, _ in chart.x_ticks)
    assert all(chart.top <= y <= chart.base for y, _ in chart.y_ticks)
    assert chart.x_ticks
    assert chart.y_ticks


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, -1]), st.floats(-1e4, 1e4, width=32)),
        min_size=1, max_size=80,
    )
)  # fmt: skip
def test_curves_stay_in_their_frame(entries: list[tuple[int, float]]) -> None:
    labels = np.array([0, 1, *(label for label, _ in entries)], np.int8)
    scores = np.array([0.0, 0.0, *(score for _, score in entries)])
    series = [Series("raw", "main", scores)]
    for chart in (
        roc_chart(labels, series, "field"),
        pr_chart(labels, series, "field"),
        score_chart(labels, scores, "score", "field"),
    ):
        inside(chart)


def test_the_roc_curve_of_perfect_scores_goes_through_the_corner() -> None:
    labels = np.repeat([0, 1], 50).astype(np.int8)
    chart = roc_chart(labels, [Series("raw", "main", labels + 0.0)], "field")
    assert [chart.left, chart.top] in points(chart, "main").tolist()
    assert points(chart, "chance").tolist() == [
        [chart.left, chart.base], [chart.right, chart.top],
    ]  # fmt: skip


def test_the_froc_shows_the_six_points_of_its_summary() -> None:
    found = froc([0.9, 0.4, np.nan], [0, 1, 1], [0.6, 0.5, 0.3], [0, 2, 2], [0, 1, 2])
    chart = froc_chart(found)
    inside(chart)
    (line,) = chart.lines
    assert len(line.marks) == 6
    heights = [(chart.base - y) / (chart.base - chart.top) for _, y in line.marks]
    assert heights == pytest.approx([e.value for e in found.at.values()], abs=0.01)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Scores of three slides, one of them all normal; some were never assessed."""
    lines = [
        f"s{i % 3},{'nan' if i == 5 else i * 7 % 11},{int(bool(i % 2 and i % 3))}"
        for i in range(60)
    ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["slide,score,label", *lines]))
    return path


def test_the_json_is_plain_and_its_keys_are_documented(table: Path) -> None:
    found = as_json(evaluate(None, EvaluateOptions(scores=table)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    part = PAGE.read_text(encoding="utf-8").split("\n## evaluation/\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", part))
    assert set(found) <= documented
    assert set(found["settings"]) <= documented
    assert set(found["table"][0]) <= documented
    assert set(found["fields"]["score"]["raw"]) <= documented
    assert found["table"][0]["abnormal"] is False
    assert found["slides"]["highest region"]["roc_auc"]["low"] is None  # one normal slide only


def test_the_same_input_gives_the_same_files(table: Path, tmp_path: Path) -> None:
    written = [
        write_evaluation(tmp_path / name, evaluate(None, EvaluateOptions(scores=table)))
        for name in "ab"
    ]
    for name in ("evaluation.html", "evaluation.json"):
        one, other = (page.with_name(name).read_bytes() for page in written)
        assert one == other


def test_figures_that_cannot_be_computed_are_dashes(table: Path) -> None:
    text = as_html(evaluate(None, EvaluateOptions(scores=table)))
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower()

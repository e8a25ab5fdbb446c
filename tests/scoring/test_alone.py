"""No model: a slide is compared with itself, nothing is flagged, nothing is ranked."""

from __future__ import annotations

import csv
import html
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import NoTissueError
from wsi_anomaly.detectors import Density
from wsi_anomaly.features import load_features
from wsi_anomaly.reports.worklist import write_worklist
from wsi_anomaly.reports.worklist_rows import collect
from wsi_anomaly.scoring import ALONE, ScoreMap, score_slide
from wsi_anomaly.scoring.alone import SlideAlone, fit_to_most
from wsi_anomaly.scoring.model import LIMITS
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import Status


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides, of which the second in the alphabet is drawn first."""
    folder = tmp_path_factory.mktemp("alone")
    make_slide(folder / "b.tif", seed=5, size_px=(2048, 2048), mpp=0.5, lesions="easy")
    make_slide(folder / "a.tif", seed=6, size_px=(2048, 2048), mpp=0.5)
    return folder


@pytest.fixture(scope="module")
def scored(slides: Path) -> ScoreMap:
    return score_slide(slides / "b.tif", SlideAlone())


def test_it_scores_and_flags_nothing(scored: ScoreMap) -> None:
    good = scored.status == Status.OK
    assert good.sum() > 50
    assert np.isfinite(scored.scores["density"][good]).all()
    assert scored.scores["density"][good].std() > 0
    assert not scored.interpretation.flagged.any()
    assert not scored.interpretation.regions
    assert LIMITS[ALONE] in scored.interpretation.warnings
    assert scored.calibration is None
    assert scored.model["name"] == ALONE


def test_the_same_slide_gives_the_same_scores(slides: Path, scored: ScoreMap) -> None:
    again = score_slide(slides / "b.tif", SlideAlone())
    np.testing.assert_array_equal(again.scores["density"], scored.scores["density"])


def test_too_little_tissue_is_one_sentence(tmp_path: Path) -> None:
    make_slide(tmp_path / "small.tif", seed=5, size_px=(512, 512), mpp=0.5)
    with pytest.raises(NoTissueError, match="too few to compare a slide with itself") as caught:
        score_slide(tmp_path / "small.tif", SlideAlone())
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def results(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves in a folder without ``model/``."""
    folder = tmp_path_factory.mktemp("fresh")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["score", str(slides), "--device", "cpu", "--workers", "1", "-q"]) == 0
        Path("model").mkdir()  # is not asked for
        assert main(["score", str(slides), "--model", "none", "--device", "cpu", "-q"]) == 0
    return folder / "results"


def test_the_command_needs_no_model(results: Path) -> None:
    with open(results / "slides.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["slide"], row["rank"], row["reference"]) for row in rows] == [
        ("a", "", ALONE),
        ("b", "", ALONE),
    ]
    assert all(float(row["slide_score"]) for row in rows)
    assert all((results / name / "report.html").is_file() for name in "ab")


def test_the_report_says_once_what_the_slide_was_compared_with(results: Path) -> None:
    page = html.unescape((results / "b" / "report.html").read_text(encoding="utf-8"))
    assert page.count(LIMITS[ALONE]) == 1


def test_the_worklist_is_by_name_and_says_so(results: Path) -> None:
    rows = collect(results)
    assert [(row.slide, row.rank) for row in rows] == [("a", None), ("b", None)]
    page = html.unescape(write_worklist(results).read_text(encoding="utf-8"))
    assert "2 slides, by name" in page
    assert "2 slides were compared with themselves alone: listed by name and not ranked" in page
    assert "most abnormal first" not in page
    assert "Ranked by" not in page
    assert page.count(LIMITS[ALONE]) == 2


def test_the_edge_of_tissue_is_not_what_stands_out() -> None:
    rng = np.random.default_rng(0)
    shares = np.ones(1200, np.float32)
    shares[::5] = rng.uniform(0.1, 0.6, len(shares[::5]))
    fields = rng.normal(0, 1, (1200, 384)) / shares[:, None]  # averaged over less tissue
    fields[7] += 2  # rare, and not at an edge
    density = Density(load_features("lite0"), SlideAlone()._config)
    found, share = {256: torch.from_numpy(fields).float()}, torch.from_numpy(shares)
    fit_to_most(density, found, share)
    score = density.score_fields(found, share).numpy()
    at_edge = shares < 1
    assert abs(np.median(score[at_edge]) - np.median(score[~at_edge])) < 1
    assert score[7] > np.quantile(score, 0.8)

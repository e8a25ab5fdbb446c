"""Normal tissue that a person marked on the slide: every kind a reference, beside the learned."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from score_running import rows, score, summary

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.core.errors import AnnotationError, ModelError
from wsi_anomaly.detectors import Density, DensityConfig, Model
from wsi_anomaly.features import load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.results.audit import audit_results
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.trail import read_trail
from wsi_anomaly.scoring import LIMITS, MARKED, ScoreMap, load_model, score_slide
from wsi_anomaly.scoring.served import NetworkServer, served
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.training.fields import embed_stores
from wsi_anomaly.viewer.folder import Results
from wsi_anomaly.viewer.marking import Marking
from wsi_anomaly.viewer.world import World

LAYERS, FIELD_UM, SIDE = ("b4", "b5", "b6"), 256, 1600


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn slide and a model learned from another one."""
    folder = tmp_path_factory.mktemp("marked")
    make_slide(folder / "slide.tif", seed=8, size_px=(SIDE, SIDE), mpp=0.5)
    make_slide(folder / "normal.tif", seed=7, size_px=(SIDE, SIDE), mpp=0.5)
    tiles = tile_slide(folder / "normal.tif", folder, TileConfig(max_tiles=4)).path
    store, network = TileStore.open(tiles), load_features("lite0")
    for estimator, name in (("contrast", "model"), ("directional", "other")):
        density = Density(network, DensityConfig(LAYERS, estimator, fields_um=(FIELD_UM,)))
        found = embed_stores([store], 10, DenseMaps(network, LAYERS), (FIELD_UM,), most=10_000)[:2]
        detectors = {"density": density.fit_fields(*found)}
        preprocessing = store.preprocessing.to_dict()
        Model(name, 10, 64, preprocessing, detectors, "density").save(folder / name)
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> ScoreMap:
    return score_slide(folder / "slide.tif", load_model(folder / "model", "cpu"))


@pytest.fixture
def here(folder, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "model", "model")
    shutil.copy(folder / "slide.tif", "slide.tif")
    return tmp_path


def marks(path: Path, *areas: tuple[str, tuple[float, float, float, float]]) -> Path:
    write_geojson(path, [Outline(kind, shapely.box(*area)) for kind, area in areas], "slide.tif")
    return path


def tissue_of(plain: ScoreMap, count: int = 2) -> list[tuple[float, float, float, float]]:
    """Boxes of 256 um, all tissue, the most unusual ones first: where marks do most."""
    known = plain.assessed
    at, values = plain.fields.coords[known], plain.score[known]
    found: list[tuple[float, float, float, float]] = []
    for x, y in at[np.argsort(-values)]:
        area = (x - 200, y - 200, x + 312, y + 312)
        inside = shapely.contains_xy(shapely.box(*area), *(at + 64).T).sum()
        apart = all(max(abs(area[0] - a[0]), abs(area[1] - a[1])) > 512 for a in found)
        if inside >= 12 and apart and min(area) >= 0 and max(area) <= SIDE:
            found.append(tuple(map(float, area)))
    return found[:count]


def marked(folder: Path, outlines: Path, model: str = "model") -> ScoreMap:
    options = ScoreOptions(normal=outlines)
    return score_slide(folder / "slide.tif", load_model(folder / model, "cpu"), options)


def test_what_is_like_marked_tissue_scores_lower_and_nothing_higher(folder, plain, tmp_path):
    area, *_ = tissue_of(plain, 1)
    found = marked(folder, marks(tmp_path / "m.geojson", ("mucosa", area)))
    known = plain.assessed
    assert (found.score[known] <= plain.score[known] + 1e-5).all()
    inside = shapely.contains_xy(shapely.box(*area), *(plain.fields.coords[known] + 64).T)
    fell = plain.score[known] - found.score[known]
    assert fell[inside].mean() > fell[~inside].mean()
    assert fell[inside].mean() > 0


def test_a_network_in_another_process_gives_the_same_scores(folder, plain, tmp_path):
    outlines = marks(tmp_path / "m.geojson", ("mucosa", tissue_of(plain, 1)[0]))
    here, model = marked(folder, outlines), load_model(folder / "model", "cpu")
    with NetworkServer(model) as server:
        options = ScoreOptions(normal=outlines)
        there = score_slide(folder / "slide.tif", served(model, server.address), options)
    np.testing.assert_allclose(there.score, here.score, rtol=1e-4, atol=1e-4)


def test_the_results_say_how_much_of_what_was_marked(folder, plain, tmp_path):
    first, second = tissue_of(plain)
    outlines = marks(tmp_path / "m.geojson", ("mucosa", first), ("muscle", second))
    found = marked(folder, outlines)
    (sentence,) = [w for w in found.interpretation.notices if "marked by a person" in w]
    assert "2 areas, " in sentence
    assert "(mucosa 0." in sentence
    assert "muscle 0." in sentence
    assert str(found.settings["normal"]).endswith("bounds")
    assert (
        "normal"
        not in score_slide(folder / "slide.tif", load_model(folder / "model", "cpu")).settings
    )


@pytest.mark.parametrize(
    ("areas", "words"),
    [
        ([], "marks nothing"),
        ([("mucosa", (5000, 5000, 6000, 6000))], "slide"),
        ([("fat", (700, 700, 730, 730))], "mm2 of tissue as normal fat on this slide, too little"),
        ([("", (0, 0, 60, 60))], "marks 0 mm2 of tissue as normal on this slide, too little"),
    ],
    ids=["empty", "outside", "small", "glass"],
)
def test_outlines_that_cannot_serve_end_in_one_sentence(folder, tmp_path, areas, words):
    outlines = marks(tmp_path / "m.geojson", *areas)
    with pytest.raises(AnnotationError, match=words):
        marked(folder, outlines)


def test_a_detector_that_cannot_take_them_says_so(folder, plain, tmp_path):
    outlines = marks(tmp_path / "m.geojson", ("mucosa", tissue_of(plain, 1)[0]))
    with pytest.raises(ModelError, match="estimator contrast"):
        marked(folder, outlines, "other")


def test_without_a_model_marks_are_what_the_slide_is_compared_with(folder, plain, tmp_path):
    options = ScoreOptions(normal=marks(tmp_path / "m.geojson", ("mucosa", tissue_of(plain, 1)[0])))
    found = score_slide(folder / "slide.tif", load_model(None, "cpu"), options)
    known = found.assessed
    marked = shapely.contains_xy(
        shapely.box(*tissue_of(plain, 1)[0]), *(found.fields.coords[known] + 64).T
    )
    assert found.score[known][marked].max() < np.median(found.score[known])
    assert found.model["name"] == MARKED
    assert LIMITS[MARKED] in found.interpretation.warnings
    assert not found.interpretation.flagged.any()
    with NetworkServer(load_model(None, "cpu")) as server:
        there = score_slide(
            folder / "slide.tif", served(load_model(None, "cpu"), server.address), options
        )
    np.testing.assert_allclose(there.score, found.score, rtol=1e-3, atol=1e-3)


def test_the_worklist_does_not_rank_what_was_compared_with_marks(here, plain):
    marks(Path("m.geojson"), ("mucosa", tissue_of(plain, 1)[0]))
    run = ("slide.tif", "--model", "none", "--normal", "m.geojson", "--workers", 1)
    assert score(*run) == 0
    assert summary("slide")["model"]["name"] == MARKED
    page = Path("results/index.html").read_text(encoding="utf-8")
    assert "compared with itself alone, by what a person has marked as normal" in page
    assert "against marks on this slide" in page
    written = Path("results/slide/summary.json").stat().st_mtime_ns
    assert score(*run) == 0  # it is done, and not done again
    assert Path("results/slide/summary.json").stat().st_mtime_ns == written


def test_a_folder_has_a_file_for_each_slide_that_is_marked(here, plain, capsys):
    shutil.copy("slide.tif", "unmarked.tif")
    Path("normal").mkdir()
    outlines = marks(Path("normal/slide.geojson"), ("mucosa", tissue_of(plain, 1)[0]))
    run = ("slide.tif", "unmarked.tif", "--model", "model", "--normal", "normal", "--workers", 1)
    assert score(*run) == 0
    assert "marks normal tissue of 1 of 2 slides" in " ".join(capsys.readouterr().err.split())
    assert any("marked by a person" in w for w in summary("slide")["notices"])
    assert not any("marked by a person" in w for w in summary("unmarked")["notices"])
    page = Path("results/slide/report.html").read_text(encoding="utf-8")
    (notice,) = re.findall('<p class="notice">(.*?)</p>', page)
    assert notice.startswith("Normal marked by a person on this slide: 1 area, 0.")
    assert " mm²" in notice
    assert "marked by a person" not in page.replace(notice, "")
    assert "marked by a person" in rows()[0]["notice"] + rows()[1]["notice"]
    assert 'class="tag">marked' in Path("results/index.html").read_text(encoding="utf-8")
    before = summary("slide")["settings"]["normal"]
    outlines.write_text(json.dumps(json.loads(outlines.read_text()), indent=1))
    assert score(*run) == 0  # a changed file is read again
    assert summary("slide")["settings"]["normal"] != before


def test_what_is_drawn_in_the_viewer_lowers_the_scores_under_it(here, plain):
    """The daily loop: score, draw a square in the viewer, run the command that it shows."""
    assert score("slide.tif", "--model", "model", "--workers", 1) == 0
    before = StoredScores.read(Path("results/slide"))
    left, top, right, bottom = tissue_of(plain, 1)[0]
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    marking = Marking(Results(Path("results")), "ann")
    about = {"result": summary("slide")["result_hash"], "kind": "Muscle"}
    points = World.of(summary("slide")).um(corners).tolist()
    state = marking.change("slide", about | {"points": points})
    words = shlex.split(state["command"])
    assert words[:3] == ["wsi-anomaly", "score", "slide.tif"]
    assert words[3:] == ["--model", "model", "-o", "results", "--normal", "results/marks"]
    assert score(*words[2:], "--workers", 1) == 0
    after = StoredScores.read(Path("results/slide"))
    known = np.isfinite(before.score)
    assert (after.score[known] <= before.score[known] + 1e-5).all()
    inside = shapely.contains_xy(
        shapely.box(left, top, right, bottom), *(after.fields.coords[known] + 64).T
    )
    assert (before.score[known] - after.score[known])[inside].mean() > 0
    assert summary("slide")["notices"][0].startswith("Normal marked by a person on this slide: 1")
    state = marking.state("slide")
    assert state["scored"]
    assert not state["command"]
    assert audit_results(Path("results")).problems == []
    # Once the mark is deleted, the scores are those of the model alone.
    about = {"result": summary("slide")["result_hash"], "remove": state["marks"][0]["id"]}
    words = shlex.split(marking.change("slide", about)["command"])
    assert "--normal" not in words
    assert score(*words[2:], "--workers", 1) == 0
    np.testing.assert_array_equal(StoredScores.read(Path("results/slide")).score, before.score)


def test_only_the_slide_whose_marks_changed_is_scored_again(here, plain):
    first, second = tissue_of(plain)
    Path("marks").mkdir()
    for name in ("slide", "second", "third"):
        if name != "slide":
            shutil.copy("slide.tif", f"{name}.tif")
        if name != "third":
            marks(Path(f"marks/{name}.geojson"), ("mucosa", first))
    run = ("slide.tif", "second.tif", "third.tif", "--model", "model", "--workers", 1)
    run += ("--normal", "marks")

    def scored() -> list[str]:
        events, *_ = read_trail(Path("results"))
        return [event["result"] for event in events if event["event"] == "scored"]

    assert score(*run) == 0
    assert sorted(scored()) == ["second", "slide", "third"]
    assert score(*run) == 0
    assert len(scored()) == 3
    marks(Path("marks/second.geojson"), ("mucosa", first), ("muscle", second))
    assert score(*run) == 0
    assert scored()[3:] == ["second"]
    Path("marks/second.geojson").unlink()
    assert score(*run) == 0
    assert scored()[4:] == ["second"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--normal", "nowhere.geojson"], "nowhere.geojson does not exist"),
        (["--normal", "empty"], "has a file of no slide"),
        (["--normal", "slide.tif"], "is a slide itself"),
        (["--normal", "empty", "--embeddings", "empty"], "leave --stride"),
    ],
)
def test_wrong_usage(here, options, words, capsys):
    Path("empty").mkdir()
    assert score("slide.tif", "--model", "model", *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())

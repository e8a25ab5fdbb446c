"""From reviews to a model that flags it no more: slides with dark and with striped spots."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from shapely import box
from spotted import DARK, STRIPED, draw

import wsi_anomaly
from wsi_anomaly import api
from wsi_anomaly.annotations import Outline, read_geojson, write_geojson
from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.detectors import Density, DensityConfig, Model
from wsi_anomaly.features import load_features
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.options import LearnOptions
from wsi_anomaly.results.review_matching import regions_of
from wsi_anomaly.results.reviews import Review, append_review
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Preprocessing, TileStore, plan_fields
from wsi_anomaly.tiles.plane import SlidePlane
from wsi_anomaly.training.reviews import learn_reviews


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A calibrated model, and results of six slides with two dark spots and a striped one each."""
    work = tmp_path_factory.mktemp("learn")
    detector = Density(
        load_features("compact", random_seed=0),
        DensityConfig(("c2",), estimator="both", fields_um=(64,)),
    )
    preprocessing = Preprocessing(stain="none")
    normal = draw(work / "train.tif", 99)
    with open_slide(normal) as slide:
        tissue = find_tissue(slide)
        cells = plan_fields(slide, tissue, field_um=64.0, stride_um=64.0)
        plane = SlidePlane(slide, tissue, 10, preprocessing.for_slide(slide, tissue))
        noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8)
        detector.embed_tiles(ArrayTiles(noise))  # measures the filters' statistics
        from wsi_anomaly.features.dense import DenseMaps

        maps = DenseMaps(detector.features, ("c2",))
        parts = list(embed_cells(plane, cells, maps, (64,)))
    import torch

    learned = np.concatenate([part.embeddings[64] for part in parts])
    detector.fit_fields({64: torch.from_numpy(learned)})
    model = Model(
        name="spots", magnification=10, tile_size=64, preprocessing=preprocessing.to_dict(),
        detectors={"density": detector}, primary="density", seen={fingerprint(normal): "train"},
        provenance={"trained": "2026-01-01"},
    )  # fmt: skip
    scores = []
    for i in range(6):
        found = score_slide(draw(work / f"c{i}.tif", 200 + i), model)
        good = found.assessed
        fields = found.fields
        scores.append(
            CaseScores(f"c{i}", f"c{i}", fields.row[good], fields.col[good], found.score[good])
        )
    model.with_calibration({"density": Calibration.fit(scores)}, model.seen).save(
        work / "model", card="# spots\n\n| Calibration | x |\n"
    )
    (work / "slides").mkdir()
    for i in range(6):
        draw(work / "slides" / f"s{i}.tif", 300 + i, (DARK, STRIPED, DARK))
    draw(work / "new.tif", 400, (DARK, STRIPED, DARK))
    api.score(work / "slides", work / "model", work / "results", min_tissue=0.5)
    return work


def regions(results, name):
    folder = results / name
    return read_summary(folder), regions_of(StoredScores.read(folder))


def is_striped(region):
    x, y = region.outline.centroid.coords[0]
    return x > 896 and y < 896


def review_all(results, names, *, wrong=()):
    for name in names:
        summary, found = regions(results, name)
        for region in found:
            striped = is_striped(region) != (name in wrong)
            append_review(
                results,
                Review("ann", name, summary["slide"]["fingerprint"],
                       "abnormal" if striped else "normal variant", region.outline,
                       finding="stripes" if striped else "Dark  spot"),
            )  # fmt: skip


@pytest.fixture
def results(world, tmp_path):
    import shutil

    shutil.copytree(world / "results", tmp_path / "results")
    return tmp_path / "results"


def test_every_spot_is_flagged_before(world):
    for i in range(6):
        assert len(regions(world / "results", f"s{i}")[1]) == 3


def test_what_was_called_harmless_is_flagged_no_more_and_the_lesion_stays(
    world, results, tmp_path, capsys
):
    review_all(results, [f"s{i}" for i in range(4)])
    before = (world / "model" / "model.json").read_bytes()
    learned = tmp_path / "learned"
    assert main(["learn", str(results), "--model", str(world / "model"), "-o", str(learned)]) == 0
    said = capsys.readouterr().err
    assert "dark spot (harmless): 8 regions of 4 cases; takes flags away" in said
    assert "8 of 8 harmless regions taken away, 0 of 4 abnormal ones" in said
    assert (world / "model" / "model.json").read_bytes() == before
    card = (learned / "README.md").read_text()
    assert card.count("normal variant, Dark  spot; ann") == 8

    [found] = api.score(world / "new.tif", learned, tmp_path / "new", min_tissue=0.5)
    assert [is_striped(r) for r in found.interpretation.regions] == [True]
    assert "stripes (reviewed 4 times)" in found.interpretation.likes[0]
    assert len(found.interpretation.taken_away) == 2
    summary, left = regions(tmp_path / "new", "new")
    assert len(left) == summary["flagged"]["regions"] == 1
    assert summary["taken_away"]["regions"] == 2
    assert summary["taken_away"]["area_mm2"] > 0.1
    assert "dark spot (reviewed 8 times)" in summary["taken_away"]["of"][0]["like"]
    report = (tmp_path / "new" / "new" / "report.html").read_text()
    assert "Taken away by reviews" in report
    assert "2 taken away" in (tmp_path / "new" / "index.html").read_text()
    overlay = json.loads((tmp_path / "new" / "new" / "overlay.geojson").read_text())
    names = [f["properties"].get("name", "") for f in overlay["features"]]
    assert sum(name.startswith("Taken away, like dark spot") for name in names) == 2
    again = api.read_score_map(tmp_path / "new" / "new", None)
    assert again.interpretation.regions == []  # without a reference nothing is flagged at all
    from wsi_anomaly.results.reading import read_score_map

    again = read_score_map(tmp_path / "new" / "new", Model.load(learned).calibration["density"])
    assert len(again.interpretation.regions) == 1
    assert len(again.interpretation.taken_away) == 2

    [every] = api.score(
        world / "new.tif", learned, tmp_path / "all", all_flags=True, min_tissue=0.5
    )
    assert len(every.interpretation.regions) == 3
    assert not every.interpretation.taken_away

    [seen] = api.score(world / "slides" / "s0.tif", learned, tmp_path / "seen", min_tissue=0.5)
    assert seen.seen == "review"
    assert not seen.interpretation.regions


def test_learn_is_the_command(world, results, tmp_path):
    names = [f"s{i}" for i in range(4)]
    review_all(results, names)
    (tmp_path / "cases.csv").write_text("s0,rat 1\ns1,rat 1\n")
    said = ["learn", results, "--model", world / "model", "--cases", tmp_path / "cases.csv"]
    assert main([str(word) for word in (*said, "-o", tmp_path / "command")]) == 0
    made = wsi_anomaly.learn(
        results, world / "model", output=tmp_path / "verb", cases=tmp_path / "cases.csv"
    )
    assert {review["case"] for review in made.known.reviews} == {"rat 1", "s2", "s3"}
    for name in ("model.json", "model.safetensors", "README.md"):
        one, other = (tmp_path / by / name for by in ("command", "verb"))
        assert one.read_bytes() == other.read_bytes()


def test_what_was_called_abnormal_becomes_known_anomalies(world, results, tmp_path, capsys):
    review_all(results, ["s0", "s1"])
    known = tmp_path / "known"
    assert main(["review", str(results), "--outlines", str(known)]) == 0
    assert "Outlines of 2 slides" in capsys.readouterr().err
    slides = [world / "slides" / f"{name}.tif" for name in ("s0", "s1")]
    cut = api.tile(slides, tmp_path / "few", annotations=known, labels=["Abnormal"], workers=1)
    for outcome in cut:
        store = TileStore.open(outcome.result.path)
        assert set(store.label) == {"Abnormal"}
        x, y = (store.coords + 32).T
        assert ((x > 896) & (y < 896)).all()  # where the stripes are
    read = read_geojson(known / "s0.geojson")
    assert Counter(o.label for o in read) == {"Abnormal": 1, "Normal variant": 2}


def test_what_only_the_tissue_mask_calls_tissue_is_learned_too(world, tmp_path):
    """Glass within an outline that somebody drew round the tissue was scored, so it is tissue."""
    write_geojson(tmp_path / "all.geojson", [Outline("", box(0, 0, 1792, 1792))], "s0")
    slide, results = world / "slides" / "s0.tif", tmp_path / "results"
    api.score(slide, world / "model", results, tissue_mask=tmp_path / "all.geojson")
    mark = read_summary(results / "s0")["slide"]["fingerprint"]
    append_review(results, Review("ann", "s0", mark, "artefact", box(0, 1664, 512, 1792)))
    made = learn_reviews(results, world / "model", tmp_path / "m", LearnOptions())
    assert [len(finding.vectors) for finding in made.known.findings] == [16]


def test_few_reviews_are_a_hint(world, results, tmp_path):
    review_all(results, ["s0", "s1"])
    made = learn_reviews(results, world / "model", tmp_path / "m", LearnOptions())
    assert not any(finding.decides for finding in made.known.findings)
    [found] = api.score(world / "new.tif", tmp_path / "m", tmp_path / "new", min_tissue=0.5)
    assert len(found.interpretation.regions) == 3
    assert any("dark spot (reviewed 4 times)" in like for like in found.interpretation.likes)


def test_slides_of_one_case_are_one_case(world, results, tmp_path):
    names = [f"s{i}" for i in range(4)]
    review_all(results, names)
    cases = LearnOptions(cases=dict.fromkeys((f"{n}.tif" for n in names), "rat"))
    made = learn_reviews(results, world / "model", tmp_path / "m", cases)
    assert not any(finding.decides for finding in made.known.findings)


def test_calibration_cases_and_seen_slides_are_not_learned_from(world, results, tmp_path):
    review_all(results, [f"s{i}" for i in range(4)])
    notes = []
    from wsi_anomaly.training.run import Watch

    apart = LearnOptions(cases={"s0.tif": "c0", "s1.tif": "c1", "s2.tif": "x", "s3.tif": "y"})
    made = learn_reviews(
        results, world / "model", tmp_path / "m", apart, watch=Watch(note=notes.append)
    )
    assert {r["case"] for r in made.known.reviews} == {"x", "y"}
    assert sum("calibrates the model" in note for note in notes) == 2


def test_what_readers_differ_about_is_not_learned_from(world, results, tmp_path):
    review_all(results, [f"s{i}" for i in range(4)])
    summary, found = regions(results, "s0")
    append_review(
        results,
        Review("bob", "s0", summary["slide"]["fingerprint"], "abnormal", found[0].outline)
        if not is_striped(found[0])
        else Review("bob", "s0", summary["slide"]["fingerprint"], "artefact", found[0].outline),
    )
    made = learn_reviews(results, world / "model", tmp_path / "m", LearnOptions())
    assert len(made.known.reviews) == 11


def test_wrong_requests_are_a_sentence(world, results, tmp_path):
    with pytest.raises(UsageError, match="no reviews to learn from"):
        learn_reviews(results, world / "model", tmp_path / "m", LearnOptions())
    with pytest.raises(UsageError, match="stays as it is"):
        learn_reviews(results, world / "model", world / "model", LearnOptions())
    with pytest.raises(ModelError):
        learn_reviews(results, tmp_path / "none", tmp_path / "m", LearnOptions())

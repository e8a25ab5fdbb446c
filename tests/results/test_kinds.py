"""Why a region is flagged, and which regions are of one kind: slides with two kinds of spots."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from spotted import DARK, STRIPED, draw, is_striped, train

from wsi_anomaly import api
from wsi_anomaly.core.errors import ModelError, OutputError
from wsi_anomaly.core.small_pictures import as_jpeg, made_anew, packed, unpacked
from wsi_anomaly.detectors import Model
from wsi_anomaly.detectors.examples import Examples, spread_over
from wsi_anomaly.reports.kinds import PAGE, sheets
from wsi_anomaly.reports.report import environment
from wsi_anomaly.results.kinds import LEAST, Kinds, alike, decided_in, find_kinds, title_of
from wsi_anomaly.results.region_file import NAME, read_region_file, sentence
from wsi_anomaly.results.review_matching import regions_of
from wsi_anomaly.results.reviews import Review, append_review
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.scoring.beside import what_spoke
from wsi_anomaly.viewer.folder import TEMPLATES


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, and results of four slides with two dark spots and a striped one each."""
    work = tmp_path_factory.mktemp("kinds")
    model = train(work)
    model.save(work / "model", card="# spots\n")
    (work / "slides").mkdir()
    for i in range(4):
        draw(work / "slides" / f"s{i}.tif", 300 + i, (DARK, STRIPED, DARK))
    api.score(work / "slides", work / "model", work / "results", min_tissue=0.5)
    return work


def striped(world, region) -> bool:
    summary = read_summary(world / "results" / region.folder)
    x, y = summary["regions"][region.number - 1]["peak_qupath_px"]
    return is_striped(x, y)


def test_two_lesions_come_apart_into_two_kinds(world):
    kinds = find_kinds(world / "results")
    assert [kind.single for kind in kinds.kinds] == [False, False]
    assert [len(kind.regions) for kind in kinds.kinds] == [8, 4]
    assert [{striped(world, r) for r in kind.regions} for kind in kinds.kinds] == [{False}, {True}]
    assert (kinds.grouped, kinds.left_out, kinds.problems) == (12, 0, [])
    assert kinds.kinds[0].slides == 4


def test_the_page_of_kinds_stands_beside_the_worklist(world):
    page = (world / "results" / PAGE).read_text()
    assert "12 flagged regions: 2 kinds" in page
    assert page.count("<img") == 12
    assert 'href="s0/report.html#region-1"' in page
    assert f'href="{PAGE}"' in (world / "results" / "index.html").read_text()


def test_a_page_of_kinds_without_any_says_why():
    """As of the demo, whose model judges single tiles."""
    page = environment(TEMPLATES).get_template("viewer_kinds.html.j2")
    shown = sheets(Kinds([], left_out=13), {})
    text = page.render(reader="ann", findings=[], mine=[], **shown)
    assert "No flagged regions to group" in text
    assert "13 flagged regions not grouped" in text
    assert "none is like another" not in text


def test_what_is_alike_is_one_kind_and_what_is_like_nothing_is_single():
    rng = np.random.default_rng(0)

    def cloud(axis: int, count: int):
        out = rng.normal(0, 0.01, (count, 30))
        out[:, axis] += 1
        return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)

    assert set(alike(cloud(0, 20)).tolist()) - {-1} == {0}
    far = np.concatenate([cloud(0, 12), cloud(1, 12), cloud(2, 1)])
    labels = alike(far)
    assert len({*labels[:12]}) == len({*labels[12:24]}) == 1
    assert labels[0] != labels[12]
    assert labels[24] == -1
    assert set(alike(cloud(0, LEAST - 1)).tolist()) == {-1}


def test_a_kind_is_named_after_what_readers_called_its_regions(world):
    kinds = find_kinds(world / "results")
    dark = kinds.kinds[0]
    assert title_of(dark, 1, {}) == "Kind 1"
    region = dark.regions[0]
    folder = world / "results" / region.folder
    summary = read_summary(folder)
    outline = regions_of(StoredScores.read(folder))[region.number - 1].outline
    review = Review(
        "ann", region.slide, summary["slide"]["fingerprint"], "normal variant", outline,
        finding="follicle", result=region.result, region=region.number, kind=dark.name,
    )  # fmt: skip
    append_review(world / "results", review)
    decided = decided_in(world / "results", kinds)
    assert title_of(dark, 1, decided) == "Kind 1: follicle (1 of 1 review)"
    assert decided[(region.folder, region.number)][0].kind == dark.name
    assert decided_in(world / "results", kinds, "bob") == {}


def test_the_nearest_normal_fields_are_those_of_a_brute_force(world):
    model = Model.load(world / "model")
    beside = read_region_file(world / "results" / "s0")
    assert beside.nearest.shape == (len(beside.fields), 3)
    regions = read_summary(world / "results" / "s0")["regions"]
    for region in regions:
        of_region = region["why"]["nearest_normal"]
        assert {normal["slide"] for normal in of_region} <= {"one", "two"}
        distances = [normal["distance"] for normal in of_region]
        assert distances == sorted(distances)
        # A spot is farther from normal tissue than normal tissue is from itself.
        assert of_region[0]["farther_than_percent"] > 99
    kept = model.examples.vectors
    vectors = kept[:5] + np.random.default_rng(1).normal(0, 0.1, kept[:5].shape).astype(np.float32)
    indices, found = model.examples.nearest(vectors)
    for vector, near, distance in zip(vectors, indices, found, strict=True):
        every = sorted((float(np.linalg.norm(vector - other)), i) for i, other in enumerate(kept))
        assert near.tolist() == [i for _, i in every[:3]]
        np.testing.assert_allclose(distance, [d for d, _ in every[:3]], rtol=1e-5)


def test_normal_fields_are_no_farther_from_their_pictures_than_usual(world):
    examples = Model.load(world / "model").examples
    assert set(examples.slides) == {"one", "two"}
    assert np.all(np.diff(examples.usual) >= 0)
    assert examples.farther_than(np.float32([-1, 9])).tolist() == [0, 100]
    assert sum(map(len, examples.pictures)) < 2 << 20


def test_a_report_shows_the_field_the_normal_ones_and_what_spoke(world):
    report = (world / "results" / "s1" / "report.html").read_text()
    assert report.count('class="why"') == len(read_summary(world / "results" / "s1")["regions"])
    assert "normal: one" in report or "normal: two" in report
    assert "robust deviations above normal tissue" in report
    spoken = read_region_file(world / "results" / "s1").spoken[0]
    assert {part["um"] for part in spoken["parts"]} == {64, 128}
    units = [part["units"] for part in spoken["parts"]]
    assert units == sorted(units, reverse=True)
    # The score is the mean of its parts, but for what is usual at the edge of tissue.
    assert [m["method"] for m in spoken["methods"]] == ["density"]


def test_what_spoke_leaves_out_a_method_without_scores(world):
    """As a method of tiles, where embeddings are scored with a model that has one beside."""
    model = Model.load(world / "model")
    reference = model.calibration["density"]
    beside = replace(model, calibration={"density": reference, "dpa": reference})
    judge = model.judge_of_fields
    embeddings = {um: judge.state_[f"{um}um.mean"].numpy()[None] for um in judge.fields_um}
    [spoken] = what_spoke(beside, embeddings, {"density": np.ones(1, np.float32)}, reference)
    assert [method["method"] for method in spoken["methods"]] == ["density"]


def test_what_spoke_is_said_with_its_share_and_methods_by_p_value():
    said = sentence(
        {
            "parts": [
                {"um": 256, "distance": "directional", "units": 6.0},
                {"um": 64, "distance": "mahalanobis", "units": 2.0},
            ],
            "methods": [
                {"method": "dpa", "percentile": 99.9, "p_value": 0.001},
                {"method": "density", "percentile": 99.0, "p_value": None},
            ],
        }
    )
    assert said == (
        "Fields of 256 µm by directional (direction of the features): 6.0 robust deviations above "
        "normal tissue, 75% of the score; then 64 µm by mahalanobis: 2.0. "
        "By method, loudest first: dpa p ≈ 0.001, density above 99.0% of normal fields."
    )
    assert sentence({}) == ""


def test_a_model_without_examples_scores_as_before(world, tmp_path):
    model = Model.load(world / "model")
    replace(model, examples=None, hash="").save(tmp_path / "old")
    old = json.loads((tmp_path / "old" / "model.json").read_text())
    assert "examples" not in old
    slide = draw(tmp_path / "slide.tif", 500, (DARK,))
    api.score(slide, tmp_path / "old", tmp_path / "results", min_tissue=0.5)
    folder = tmp_path / "results" / "slide"
    why = read_summary(folder)["regions"][0]["why"]
    assert why["nearest_normal"] == []
    assert "robust deviations" in why["sentence"]
    assert 'class="px n' not in (folder / "report.html").read_text()


def edited(world, tmp_path, change):
    """A model folder whose examples are changed, as a stranger may send it."""
    model = Model.load(world / "model")
    replace(model, examples=change(model.examples), hash="").save(tmp_path / "strange")
    return tmp_path / "strange"


def huge() -> bytes:
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.new("L", (30_000, 30_000)).save(out, "JPEG", quality=1)
    return out.getvalue()[: 1 << 17]


@pytest.mark.parametrize("picture", [b"no picture", huge()], ids=["none", "huge"])
def test_a_model_with_pictures_that_are_none_is_refused(world, tmp_path, picture):
    folder = edited(world, tmp_path, lambda e: replace(e, pictures=(picture, *e.pictures[1:])))
    with pytest.raises(ModelError, match=r"is damaged \(a small picture .*\); copy it again"):
        Model.load(folder)


def test_a_picture_that_breaks_off_is_left_out(world, tmp_path):
    folder = edited(
        world, tmp_path, lambda e: replace(e, pictures=tuple(p[: len(p) // 3] for p in e.pictures))
    )
    slide = draw(tmp_path / "slide.tif", 500, (DARK,))
    api.score(slide, folder, tmp_path / "results", min_tissue=0.5)
    assert read_summary(tmp_path / "results" / "slide")["regions"][0]["why"]["nearest_normal"]
    assert made_anew(Model.load(folder).examples.pictures[0]) is None


@pytest.mark.parametrize("name", ["vectors", "places", "ends"])
def test_examples_that_contradict_themselves_are_refused(world, name):
    tensors, facts = Model.load(world / "model").examples.to_state()
    Examples.from_state(tensors, facts)
    with pytest.raises(ValueError, match=r"its (normal fields|small pictures)"):
        Examples.from_state(tensors | {name: tensors[name][:-1].reshape(-1)[:-1]}, facts)


def test_a_damaged_file_of_regions_is_named_and_the_others_are_grouped(world, tmp_path):
    import shutil

    shutil.copytree(world / "results", tmp_path / "results")
    file = tmp_path / "results" / "s0" / NAME
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(OutputError, match="score the slide again"):
        read_region_file(file.parent)
    kinds = find_kinds(tmp_path / "results")
    assert kinds.grouped == 9
    assert kinds.left_out == 3
    assert "s0" in kinds.problems[0]


def test_pictures_are_packed_into_one_array_and_taken_apart():
    streams = [as_jpeg(np.full((32, 32, 3), v, np.uint8)) for v in (0, 255)]
    assert unpacked(*packed(streams)) == streams
    with pytest.raises(ValueError, match="do not fit together"):
        unpacked(packed(streams)[0][:-1], packed(streams)[1])


def test_examples_are_spread_over_the_reference():
    rng = np.random.default_rng(0)
    many, few = rng.normal(0, 0.01, (2, 500, 8)).astype(np.float32)
    few = few[:5]
    many[:, 0] += 1
    few[:, 1] += 1
    chosen = spread_over(np.concatenate([many, few]), most=10)
    assert len(chosen) == 10
    assert (chosen >= 500).any()

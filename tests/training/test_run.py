"""From tile files to a model folder, with everything that can stand in the way."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import ModelError, TileStoreError, UsageError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.detectors import Model
from wsi_anomaly.features.encoders import ENCODERS
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import TileConfig, TileSet, TileStore, plan_fields, tile_slide
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.tiles.sharpness import sharpness
from wsi_anomaly.training.config import load_config
from wsi_anomaly.training.inputs import domain_of
from wsi_anomaly.training.normals import NormalSlide, score_normal_slide
from wsi_anomaly.training.recalibration import recalibrate
from wsi_anomaly.training.run import Watch, train


@pytest.fixture(scope="session")
def config(cohort):
    return load_config(str(cohort / "tiny.toml"))


@pytest.fixture(scope="session")
def trained(cohort, config):
    notes: list[str] = []
    model = train(cohort / "tiles", cohort / "model", config, watch=Watch(note=notes.append))
    assert notes == []
    return model


def test_the_folder_holds_all_that_scoring_needs(trained, cohort):
    names = {p.name for p in (cohort / "model").iterdir()}
    # TensorBoard's, where that is installed.
    log = cohort / "model" / "tensorboard"
    assert [p.relative_to(log).as_posix() for p in log.rglob("events.*")] in (
        [], ["dpa/events.out.tfevents.0"],
    )  # fmt: skip
    assert names - {"tensorboard"} == {
        "model.json", "model.safetensors", "README.md", "training.csv", "training.png",
        "self_check.png",
    }  # fmt: skip
    loaded = Model.load(cohort / "model")
    assert loaded.methods == ("dpa", "density")
    images = TileStore.open(cohort / "tiles" / "normal0.h5").images(10, slice(None))
    for name, scores in loaded.score_tiles(images).items():
        assert np.array_equal(scores, trained.score_tiles(images)[name])
    assert not (cohort / ".model.training").exists()


def test_no_slide_is_in_two_parts_and_calibration_slides_taught_nothing(trained, cohort):
    slides = {fingerprint(p): p.stem for p in (cohort / "slides").glob("*.tif")}
    assert set(trained.seen) == set(slides)
    parts = {part: {m for m, p in trained.seen.items() if p == part} for part in
             ("train", "validation", "calibration")}  # fmt: skip
    assert {k: len(v) for k, v in parts.items()} == {
        "train": 4, "validation": 1, "calibration": 4,
    }  # fmt: skip
    calibrated = {s.slide for s in trained.calibration["dpa"].slides}
    assert calibrated == {slides[m] for m in parts["calibration"]}
    assert trained.provenance["training_cases"] == 4


def test_calibration_scores_are_those_that_scoring_gives(trained, cohort):
    name = trained.calibration["density"].slides[0].slide
    path = cohort / "slides" / f"{name}.tif"
    from wsi_anomaly.scoring import score_slide

    found = score_slide(path, trained)
    reference = trained.calibration["density"].slides[0]
    assert len(reference.score) == int(found.assessed.sum())
    grid = found.grid(found.scores["density"])
    assert grid[reference.row, reference.col] == pytest.approx(reference.score, abs=1e-4)


def test_the_log_shows_every_stage_and_the_validation_loss(trained, cohort):
    rows = list(csv.DictReader((cohort / "model" / "training.csv").open()))
    assert rows[-1]["step"] == "18"
    assert {r["stage"] for r in rows} >= {"train at 16 px", "grow to 64 px", "train at 64 px"}
    assert [r for r in rows if r["validation"]]


def test_the_same_tiles_give_the_same_model(trained, cohort, config, tmp_path):
    again = train(cohort / "tiles", tmp_path / "again", config)
    images = TileStore.open(cohort / "tiles" / "normal1.h5").images(10, slice(None))
    for name, scores in again.score_tiles(images).items():
        assert np.array_equal(scores, trained.score_tiles(images)[name])


def test_an_interrupted_training_goes_on_and_gives_the_same_model(
    trained, cohort, config, tmp_path
):
    def stop(report) -> None:
        if report.step >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cohort / "tiles", tmp_path / "model", config, watch=Watch(report=stop))
    assert not (tmp_path / "model").exists()
    steps: list[int] = []
    watch = Watch(report=lambda r: steps.append(r.step))
    resumed = train(cohort / "tiles", tmp_path / "model", config, watch=watch)
    assert steps[0] > 12
    images = TileStore.open(cohort / "tiles" / "normal2.h5").images(10, slice(None))
    for name, scores in resumed.score_tiles(images).items():
        assert np.array_equal(scores, trained.score_tiles(images)[name])


def test_a_checkpoint_of_another_configuration_is_refused_until_overwritten(
    cohort, config, tmp_path
):
    def stop(report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cohort / "tiles", tmp_path / "model", config, watch=Watch(report=stop))
    other = replace(config, learning_rate=0.01)
    with pytest.raises(ModelError, match="--overwrite"):
        train(cohort / "tiles", tmp_path / "model", other)
    train(cohort / "tiles", tmp_path / "model", other, resume=False)


@pytest.mark.parametrize(
    ("extra", "detectors"),
    [
        ({"pixel_weight": 1.0}, ("dpa", "density")),
        ({"adversarial_weight": 0.1}, ("dpa", "density")),
        ({"first_resolution": 64, "steps": {64: (0, 6)}}, ("dpa", "density")),
        ({"magnification": 20}, ("dpa", "density")),
        ({"detector": "density", "beside": ()}, ("density",)),
    ],
)
def test_the_rows_of_the_ablation_are_configurations(cohort, config, tmp_path, extra, detectors):
    model = train(cohort / "tiles", tmp_path / "model", replace(config, **extra))
    assert model.methods == detectors
    assert model.tile_size == (128 if "magnification" in extra else 64)
    assert Model.load(tmp_path / "model").primary == model.primary


def test_a_pathology_encoder_judges_fields_and_its_licence_is_said(
    cohort, config, tmp_path, monkeypatch
):
    timm = pytest.importorskip("timm", reason="timm is an extra")
    whole = ENCODERS["uni"]
    small = replace(whole, options={**whole.options, "embed_dim": 32, "depth": 1, "num_heads": 2})
    monkeypatch.setitem(ENCODERS, "uni", small)
    weights = timm.create_model(
        whole.model, num_classes=0, init_values=1, **small.options
    ).state_dict()
    torch.save(weights, tmp_path / "uni.bin")
    notes: list[str] = []
    model = train(
        cohort / "tiles", tmp_path / "model", replace(config, features="uni").ranked_by("density"),
        feature_weights=tmp_path / "uni.bin", watch=Watch(note=notes.append),
    )  # fmt: skip
    assert "not for commercial use" in notes[0]
    assert "huggingface.co/MahmoodLab/UNI, which grants access" in notes[0]
    images = TileStore.open(cohort / "tiles" / "normal1.h5").images(10, slice(None))
    found = Model.load(tmp_path / "model").score_tiles(images)["density"]
    assert np.array_equal(found, model.score_tiles(images)["density"])
    assert found.std() > 0


def test_fusion_needs_known_anomalies_and_uses_them(cohort, config, tmp_path):
    fusion = replace(config, detector="fusion")
    with pytest.raises(ModelError, match="--anomalies"):
        train(cohort / "tiles", tmp_path / "model", fusion)
    assert not list(tmp_path.iterdir())  # said before anything is learned
    notes: list[str] = []
    model = train(
        cohort / "tiles", tmp_path / "model", fusion,
        anomalies=[cohort / "tiles" / "normal0.h5"], resume=False, watch=Watch(note=notes.append),
    )  # fmt: skip
    assert "fusion weighs its members by tiles" in notes[0]
    assert model.fields_um == ()
    assert model.methods == ("dpa", "density", "fusion")
    assert model.primary == "fusion"
    assert len(model.detectors["fusion"].support_) == 2
    images = TileStore.open(cohort / "tiles" / "normal1.h5").images(10, slice(None))
    found = Model.load(tmp_path / "model").score_tiles(images)["fusion"]
    assert np.array_equal(found, model.score_tiles(images)["fusion"])


def test_calibration_slides_that_are_gone_are_named(cohort, config, tmp_path):
    shutil.copytree(cohort / "slides", tmp_path / "slides")
    for path in sorted((tmp_path / "slides").glob("*.tif")):
        tile_slide(path, tmp_path / "tiles", TileConfig(magnifications=(10,)))
    shutil.rmtree(tmp_path / "slides")
    notes: list[str] = []
    model = train(tmp_path / "tiles", tmp_path / "model", config, watch=Watch(note=notes.append))
    assert model.calibration == {}
    assert len(notes) == 4
    assert all("Not used for calibration" in note for note in notes)


@pytest.mark.parametrize(
    ("count", "said", "parts"), [(1, "only one case", (1, 0, 0)), (2, "only 2 cases", (2, 0, 0))]
)
def test_with_one_or_two_slides_it_is_said_what_is_done(
    cohort, config, tmp_path, count, said, parts
):
    notes: list[str] = []
    files = [cohort / "tiles" / f"normal{i}.h5" for i in range(count)]
    model = train(files, tmp_path / "model", config, watch=Watch(note=notes.append))
    assert said in notes[0]
    seen = list(model.seen.values())
    assert tuple(seen.count(p) for p in ("train", "validation", "calibration")) == parts


def test_calibrate_takes_other_normals_and_leaves_out_those_that_taught(trained, cohort, tmp_path):
    notes: list[str] = []
    slides = [NormalSlide(p, p.stem) for p in sorted((cohort / "slides").glob("*.tif"))]
    model, used = recalibrate(
        cohort / "model", slides, tmp_path / "other", watch=Watch(note=notes.append)
    )
    assert used == 4  # those that neither trained nor validated
    assert len([n for n in notes if "has learned from" in n]) == 5
    assert model.hash == trained.hash  # the same slides give the same reference
    card = (tmp_path / "other" / "README.md").read_text()
    assert "4 normal cases, 4 slides" in card
    # Everything else is kept: training.png, the curves.
    kept, former = (
        {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "other", cohort / "model")
    )
    assert kept == former


def test_a_link_in_a_strangers_model_is_not_followed(trained, cohort, tmp_path):
    shutil.copytree(cohort / "model", tmp_path / "model")
    (tmp_path / "secret.csv").write_text("secret")
    (tmp_path / "model" / "more.csv").symlink_to(tmp_path / "secret.csv")
    slides = [NormalSlide(p, p.stem) for p in sorted((cohort / "slides").glob("*.tif"))]
    recalibrate(tmp_path / "model", slides, tmp_path / "other")
    assert not (tmp_path / "other" / "more.csv").exists()


def test_the_range_of_sharpness_comes_from_all_over_a_slide(tmp_path, monkeypatch):
    """Once it came from the first tiles: a slide's own model called it less sharp than itself."""
    import tifffile

    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 2, (160, 40)), np.ones((8, 8)))
    fine = np.kron(rng.integers(0, 2, (640, 160)), np.ones((2, 2)))
    texture = np.concatenate([coarse[:384], fine[:896]], 0)[..., None]
    image = (np.array([200, 120, 180]) - texture * (60, 60, 50)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb",
        resolution=(1e4, 1e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    config = TileConfig(magnifications=(10,), stain="none", min_tissue=0.0)
    store = TileStore.open(tile_slide(tmp_path / "s.tif", tmp_path / "tiles", config).path)
    tiles = TileSet([store], 10)
    monkeypatch.setattr("wsi_anomaly.training.inputs._SHARPNESS_TILES", 20)
    low, high = domain_of(tiles)["detail_range"]
    values = sharpness(tiles.all(), 1.0)
    assert low == high
    assert low == pytest.approx(np.median(values), rel=0.2)
    assert np.median(values[:20]) < low / 2


def test_a_normal_slide_is_scored_whole(trained, cohort):
    path = cohort / "slides" / "normal3.tif"
    mark, scores = score_normal_slide(NormalSlide(path, "x"), trained)
    assert mark == fingerprint(path)
    with open_slide(path) as slide:
        fields = plan_fields(slide, find_tissue(slide), field_um=64, min_tissue=0.1, max_tiles=None)
    assert len(scores["dpa"].score) <= len(fields)
    assert len(scores["dpa"].score) > 0.8 * len(fields)


# -- bad input -----------------------------------------------------------------------------------


def test_no_tiles(config, tmp_path):
    with pytest.raises(UsageError, match="make tiles"):
        train(tmp_path / "nothing", tmp_path / "model", config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="No tile file"):
        train(tmp_path / "empty", tmp_path / "model", config)


def test_tiles_of_another_magnification_size_or_stain(cohort, config, tmp_path):
    with pytest.raises(TileStoreError, match="40x"):
        train(cohort / "tiles", tmp_path / "model", replace(config, magnification=40))
    larger = replace(config, field_um=128)
    with pytest.raises(TileStoreError, match="128 px"):
        train(cohort / "tiles", tmp_path / "model", larger)
    slide = cohort / "slides" / "normal0.tif"
    tile_slide(slide, tmp_path / "plain", TileConfig(magnifications=(10,), stain="none"))
    with pytest.raises(TileStoreError, match="stain options"):
        train([cohort / "tiles", tmp_path / "plain"], tmp_path / "model", config)


def test_a_slide_without_the_magnification_is_left_out_and_named(cohort, config, tmp_path):
    shutil.copytree(cohort / "tiles", tmp_path / "tiles")
    slide = cohort / "slides" / "normal0.tif"
    tile_slide(Job(slide, "only20x"), tmp_path / "tiles", TileConfig(magnifications=(20,)))
    notes: list[str] = []
    train(tmp_path / "tiles", tmp_path / "model", config, watch=Watch(note=notes.append))
    assert any("only20x" in note for note in notes)


def test_tiles_cut_inside_annotations_are_not_taken_for_normal(cohort, config, tmp_path):
    from shapely.geometry import box

    from wsi_anomaly.annotations import Outline, write_geojson

    shutil.copytree(cohort / "tiles", tmp_path / "tiles")
    slide = cohort / "slides" / "normal0.tif"
    outlines = tmp_path / "normal0.geojson"
    write_geojson(outlines, [Outline("Tumour", box(150, 150, 650, 650))], "normal0")
    known = Job(slide, "known", annotations=outlines)
    tile_slide(known, tmp_path / "tiles", TileConfig(magnifications=(10,)))
    notes: list[str] = []
    model = train(tmp_path / "tiles", tmp_path / "model", config, watch=Watch(note=notes.append))
    assert any("known.h5 was cut inside annotations (Tumour)" in note for note in notes)
    assert model.provenance["training_cases"] == 4


def test_a_damaged_tile_file_is_named(cohort, config, tmp_path):
    shutil.copytree(cohort / "tiles", tmp_path / "tiles")
    path = tmp_path / "tiles" / "normal1.h5"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TileStoreError, match=r"normal1\.h5 is damaged"):
        train(tmp_path / "tiles", tmp_path / "model", config)


def test_the_command_line(cohort, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cohort / "tiles", "tiles")
    assert main(["train", "--config", str(cohort / "tiny.toml"), "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "At most 1 false region on a normal slide" in said
    assert "next: wsi-anomaly score" in said
    assert Model.load("model").calibration
    assert main(["train", "nothing/"]) == 2
    assert main(["train", "--features", "magic"]) == 2
    assert main(["train", "--device", "magic"]) == 2
    normals = sorted((cohort / "slides").glob("*.tif"))
    assert main(["calibrate", *map(str, normals), "-o", "calibrated"]) == 1
    printed = capsys.readouterr().err
    assert "4 of 9 slides used" in printed
    assert Model.load("calibrated").calibration
    (tmp_path / "sizes.csv").write_text("slide,mpp\n" + "".join(f"{p.stem},9.5\n" for p in normals))
    told = ["-o", "coarse", "--mpp-csv", "sizes.csv"]
    assert main(["calibrate", *map(str, normals), *told]) == 1
    assert "has 9.5 um per pixel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deep-svdd", "pretrain_steps = 4\nsteps = 4\nwidth = 4\nbatch_size = 8"),
        ("deep-if", "trees = 20"),
        ("dsebm", "steps = 4\nwidth = 4\nbatch_size = 8"),
        ("piad", "steps = 4\nwidth = 8\nlatent = 4\nbatch_size = 4\nresolution = 32"),
    ],
)
def test_a_compared_system_goes_the_whole_way(cohort, tmp_path, capsys, name, options):
    from wsi_anomaly.scoring import score_slide

    config, folder = tmp_path / "mine.toml", tmp_path / "model"
    config.write_text(f"{(cohort / 'tiny.toml').read_text()}\n[options.{name}]\n{options}\n")
    tiles = [str(cohort / "tiles" / f"normal{i}.h5") for i in range(5)]
    arguments = ["train", *tiles, "-o", str(folder), "--config", str(config), "--detector", name]
    assert main([*arguments, "--device", "cpu"]) == 0
    model = Model.load(folder)
    assert model.methods == (name,)
    assert model.calibration[name].n_slides >= 1
    assert (folder / "training.csv").exists() == (name != "deep-if")
    found = score_slide(cohort / "slides" / "normal8.tif", model)
    assert np.isfinite(found.scores[name][found.assessed]).all()
    capsys.readouterr()
    assert main(["info", str(folder)]) == 0
    assert name in capsys.readouterr().out

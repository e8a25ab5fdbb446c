"""From embeddings that a laboratory has to a calibrated worklist, with and without the slides."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from embedding_files import SIDE, STEP, cohort, fields_of, lazyslide, trident

import wsi_anomaly
from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import EmbeddingsError, ModelError, UsageError
from wsi_anomaly.detectors import Model
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.viewer.folder import NotHereError, Results

NORMALS = 12


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of twelve embedded normal slides, and a new slide with a lesion."""
    folder = tmp_path_factory.mktemp("embedded")
    cohort(folder / "normal", "trident", NORMALS)
    trident(folder / "new", "sick", *fields_of(50, lesion=True))
    trident(folder / "new", "well", *fields_of(51))
    wsi_anomaly.train(output=folder / "model", embeddings=folder / "normal")
    return folder


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


def test_a_lesion_is_flagged_without_its_slide(here: Path, tmp_path: Path) -> None:
    wsi_anomaly.score(
        [], here / "model", tmp_path / "results", embeddings=here / "new", heatmap=True
    )
    sick, well = (summary(tmp_path / "results" / name) for name in ("sick", "well"))
    assert sick["verdict"] == "flagged"
    assert well["verdict"] == "nothing flagged"
    [region] = sick["regions"]
    assert 25 * 0.128**2 <= region["area_mm2"] <= 49 * 0.128**2  # with what is smoothed with it
    stored = StoredScores.read(tmp_path / "results" / "sick")
    inside = stored.flagged[(abs(stored.fields.row - 8) <= 1) & (abs(stored.fields.col - 8) <= 1)]
    assert inside.all()
    assert stored.fields.coords.min() == STEP
    assert any("slide was not at hand" in warning for warning in sick["warnings"])
    report = (tmp_path / "results" / "sick" / "report.html").read_text()
    assert "slide was not at hand" in report
    assert "The slide itself" not in report
    with open(tmp_path / "results" / "slides.csv", newline="") as file:
        assert [row["slide"] for row in csv.DictReader(file)] == ["sick", "well"]
    assert set(sick["files"]) >= {"report", "overlay", "scores", "heatmap", "thumbnail"}


def test_cases_are_kept_apart_and_slides_known_again(here: Path, tmp_path: Path) -> None:
    model = Model.load(here / "model")
    reference = model.calibration["density"]
    assert reference.n_cases == 4
    assert (model.fields_um, model.name) == ((128,), "density-uni_v1-128um")
    wsi_anomaly.score([], here / "model", tmp_path / "results", embeddings=here / "normal")
    parts = [summary(tmp_path / "results" / f"n{k:02}")["seen_in"] for k in range(NORMALS)]
    assert parts.count("calibration") == 4
    assert None not in parts


def test_slides_of_one_case_are_in_one_part(here: Path, tmp_path: Path) -> None:
    cases = {f"n{k:02}": f"case {k // 2}" for k in range(NORMALS)}
    model = wsi_anomaly.train(output=tmp_path / "m", embeddings=here / "normal", cases=cases)
    of_case: dict[str, set[str]] = {}
    for case in model.calibration["density"].slides:
        of_case.setdefault(case.case, set()).add(case.slide)
    assert all(len(slides) == 2 for slides in of_case.values())


def test_the_slide_gives_pictures_and_what_was_not_embedded(here: Path, tmp_path: Path) -> None:
    """A drawn slide, of whose tissue the left half alone was embedded."""
    make_slide(tmp_path / "drawn.tif", seed=3, size_px=(4096, 4096), mpp=0.25)
    y, x = (axis.ravel() for axis in np.mgrid[:8, :4])
    coords = np.stack((x, y), 1).astype(np.int64) * STEP
    features = fields_of(7)[0][: len(coords)]
    size = {"level0_width": 4096, "level0_height": 4096}
    trident(tmp_path / "given", "drawn", features, coords, **size)
    code = main(
        ["score", str(tmp_path / "drawn.tif"), "--embeddings", str(tmp_path / "given"), "--model",
         str(here / "model"), "-o", str(tmp_path / "results")]
    )  # fmt: skip
    assert code == 0
    found = summary(tmp_path / "results" / "drawn")
    assert found["not_assessed_by_reason_mm2"]["sparse"] > 0.1
    assert any("was not embedded" in warning for warning in found["warnings"])
    assert not any("not at hand" in warning for warning in found["warnings"])
    report = (tmp_path / "results" / "drawn" / "report.html").read_text()
    assert "Most anomalous places" in report
    assert found["slide"]["path"].endswith("drawn.tif")


def test_what_is_done_is_kept(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lazyslide(tmp_path / "given", "s1", *fields_of(51), encoder="uni_v1")
    words = ("score", "--embeddings", tmp_path / "given", "--model", here / "model", "-o",
             tmp_path / "results")  # fmt: skip
    assert main([str(word) for word in words]) == 0
    written = (tmp_path / "results/s1/summary.json").stat().st_mtime_ns
    code, _ = said(capsys, *words)
    assert code == 0
    assert (tmp_path / "results/s1/summary.json").stat().st_mtime_ns == written


def test_one_bad_file_keeps_no_other_from_being_scored(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = tmp_path / "given"
    shutil.copytree(here / "new", given)
    features, coords = fields_of(60)
    features[3] = np.nan
    trident(given, "nan", features, coords)
    trident(given, "narrow", fields_of(61)[0][:, :9], coords)
    trident(given, "other", fields_of(62)[0], coords, encoder="conch_v15")
    trident(given, "large", fields_of(63)[0], coords, patch_size=512, patch_size_level0=1024)
    trident(given / "again", "twice", *fields_of(64))
    trident(given, "twice", *fields_of(64))
    code, text = said(capsys, "score", "--embeddings", given, "--model", here / "model", "-o",
                      tmp_path / "results")  # fmt: skip
    assert code == 1
    assert "2 of 7 slides done" in text
    for sentence in (
        "not finite, first in field 3",
        "holds embeddings of 9 numbers, and the model density-uni_v1-128um has learned from those",
        "holds embeddings of conch_v15, and the model",
        "holds fields of 256 um, and the model",
        "Two files hold embeddings of twice",
    ):
        assert sentence in text
    assert "Traceback" not in text
    assert (tmp_path / "results/sick/report.html").exists()


def test_a_slide_and_its_embeddings_must_belong_together(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    make_slide(slides / "sick.tif", seed=3, size_px=(1024, 1024), mpp=0.25)
    make_slide(slides / "lonely.tif", seed=4, size_px=(1024, 1024), mpp=0.25)
    make_slide(slides / "coarse.tif", seed=5, size_px=((SIDE + 2) * STEP // 8,) * 2, mpp=2.0)
    coords = fields_of(1)[1] // 8
    size = {"level0_width": (SIDE + 2) * STEP // 8, "level0_height": (SIDE + 2) * STEP // 8}
    trident(tmp_path / "given", "coarse", fields_of(1)[0], coords, patch_size_level0=64,
            **size)  # fmt: skip
    shutil.copytree(here / "new", tmp_path / "given", dirs_exist_ok=True)
    code, text = said(capsys, "score", slides, "--embeddings", tmp_path / "given", "--model",
                      here / "model", "-o", tmp_path / "results", "--mpp", "2")  # fmt: skip
    assert code == 1
    assert "is of a slide of 9216 x 9216 px, and" in text
    assert "There are no embeddings called lonely for" in text
    assert "1 of the embeddings have no slide in the folders that were given" in text  # well
    assert "2 of 4 slides done" in text


def test_kinds_are_not_mixed_in_training(here: Path, tmp_path: Path) -> None:
    cohort(tmp_path / "given", "trident", 2)
    trident(tmp_path / "given", "other", *fields_of(5), encoder="conch_v15")
    with pytest.raises(EmbeddingsError, match="a model learns from one kind"):
        wsi_anomaly.train(output=tmp_path / "m", embeddings=tmp_path / "given")
    assert not (tmp_path / "m").exists()


def test_files_that_cannot_be_learned_from_are_left_out(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = tmp_path / "given"
    shutil.copytree(here / "normal", given)
    shutil.copy(given / "n00.h5", given / "copied.h5")
    (given / "n01.h5").write_bytes(b"nothing")
    for name in ("n02", "n03", "n04"):  # of which at least one is learned from, one calibrates
        with h5py.File(given / f"{name}.h5", "a") as file:
            file["features"][:] = np.nan
    code, text = said(capsys, "train", "--embeddings", given, "-o", tmp_path / "m")
    assert code == 0
    assert "is of the same slide as" in text
    assert "n01.h5 cannot be read as embeddings" in text
    assert text.count("not finite") == 3


def test_models_of_pixels_and_of_embeddings_are_told_apart(here: Path, tmp_path: Path) -> None:
    make_slide(tmp_path / "s.tif", seed=3, size_px=(1024, 1024), mpp=0.25)
    with pytest.raises(ModelError, match="sees no pixels; give those"):
        wsi_anomaly.score([tmp_path / "s.tif"], here / "model", tmp_path / "results")
    with pytest.raises(EmbeddingsError, match="does not rank by embeddings"):
        wsi_anomaly.score([], None, tmp_path / "results", embeddings=here / "new")
    with pytest.raises(UsageError, match="leave --stride"):
        wsi_anomaly.score([], here / "model", embeddings=here / "new", stride_um=64)


def test_neighbours_say_what_their_coreset_costs(here: Path, tmp_path: Path) -> None:
    config = tmp_path / "knn.toml"
    config.write_text('density_estimator = "knn"\n[options.density]\nreferences = 100\n')
    model = wsi_anomaly.train(output=tmp_path / "m", config=str(config), embeddings=here / "normal")
    kept, cost = model.provenance["neighbours"].split(
        " embeddings kept; of normal fields they lie "
    )
    assert kept == "100 of 2048"
    assert float(cost.removesuffix("% farther")) > 5
    sick, _ = wsi_anomaly.score(
        [], tmp_path / "m", tmp_path / "results", embeddings=here / "new"
    )  # fmt: skip
    assert np.isfinite(sick.result.score).all()
    assert sick.result.calibration is not None


def test_the_viewer_says_that_there_is_no_slide(here: Path, tmp_path: Path) -> None:
    wsi_anomaly.score([], here / "model", tmp_path / "results", embeddings=here / "new")
    viewed = Results(tmp_path / "results")
    assert json.loads(viewed.data("sick"))
    with pytest.raises(NotHereError, match="without its slide; score it again"):
        viewed.tile("sick", 0, 0, 0)


def test_a_laboratory_calibrates_for_its_own_scanner(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Embeddings of another scanner lie elsewhere; calibrated on, they are the reference."""
    for number in range(8):
        features, coords = fields_of(100 + number)
        trident(tmp_path / "own", f"o{number}", 1.6 * features + 0.8, coords)
    model = here / "model"
    code, text = said(capsys, "check", "--embeddings", tmp_path / "own", "--model", model)
    assert code == 1
    assert "8 of 8 slides looked at" in text
    assert "Calibrate with at least 8 normal slides" in text
    code, text = said(capsys, "calibrate", "--embeddings", tmp_path / "own", "--model", model, "-o",
                      tmp_path / "m")  # fmt: skip
    assert code == 0
    assert "8 of 8 slides used" in text
    calibrated = Model.load(tmp_path / "m")
    assert calibrated.calibration["density"].n_cases == 8
    assert list(calibrated.seen.values()).count("calibration") == 8
    code, _ = said(capsys, "check", "--embeddings", tmp_path / "own", "--model", tmp_path / "m")
    assert code == 0
    features, coords = fields_of(200)
    trident(tmp_path / "new", "well", 1.6 * features + 0.8, coords)
    before, after = (
        wsi_anomaly.score([], m, tmp_path / name, embeddings=tmp_path / "new")[0].result
        for name, m in (("before", model), ("after", tmp_path / "m"))
    )
    assert before.interpretation.lies_high
    assert not after.interpretation.lies_high
    assert not after.interpretation.flagged.any()


def test_calibration_takes_the_slides_that_are_named(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The others in the folder may be abnormal; and each slide must be that of its embeddings."""
    given, slides = tmp_path / "given", tmp_path / "slides"
    slides.mkdir()
    y, x = (axis.ravel() for axis in np.mgrid[:3, :3])
    coords = np.stack((x, y), 1).astype(np.int64) * STEP
    for name in ("a", "b", "c"):
        make_slide(slides / f"{name}.tif", seed=ord(name), size_px=(1536, 1536), mpp=0.25)
        size = {"level0_width": 1536, "level0_height": 1536}
        size = {} if name == "c" else size
        trident(given, name, fields_of(ord(name))[0][:9], coords, **size)
    make_slide(slides / "lonely.tif", seed=4, size_px=(1536, 1536), mpp=0.25)
    trident(given, "sick", *fields_of(50, lesion=True))
    code, text = said(capsys, "calibrate", slides, "--embeddings", given, "--model",
                      here / "model", "-o", tmp_path / "m")  # fmt: skip
    assert code == 1
    assert "There are no embeddings called lonely for" in text
    assert "is of a slide of 9216 x 9216 px, and" in text
    assert "2 of 4 slides used" in text
    reference = Model.load(tmp_path / "m").calibration["density"]
    assert sorted(slide.slide for slide in reference.slides) == ["a", "b"]


def test_calibration_refuses_what_scoring_refuses(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = tmp_path / "given"
    features, coords = fields_of(60)
    trident(given, "narrow", features[:, :9], coords)
    trident(given, "other", features, coords, encoder="conch_v15")
    trident(given, "apart", features, 2 * coords, patch_size_level0=STEP, overlap=-256,
            level0_width=2 * SIDE * STEP + 4096, level0_height=2 * SIDE * STEP + 4096)  # fmt: skip
    shutil.copy(here / "normal" / "n00.h5", given / "known.h5")
    shutil.copytree(here / "normal", given / "again")
    code, text = said(capsys, "calibrate", "--embeddings", given, "--model", here / "model", "-o",
                      tmp_path / "m")  # fmt: skip
    assert code == 1
    for sentence in (
        "holds embeddings of 9 numbers, and the model",
        "holds embeddings of conch_v15, and the model",
        "the model has learned from",
        "has a field every 256 um, and the model",
    ):
        assert sentence in text
    make_slide(tmp_path / "s.tif", seed=3, size_px=(1024, 1024), mpp=0.25)
    with pytest.raises(ModelError, match="sees no pixels; give those"):
        wsi_anomaly.calibrate([tmp_path / "s.tif"], here / "model", tmp_path / "m2")
    with pytest.raises(EmbeddingsError, match="does not rank by embeddings"):
        wsi_anomaly.calibrate([], None, tmp_path / "m2", embeddings=given)
    with pytest.raises(ModelError, match="sees no pixels; give those"):
        wsi_anomaly.check([tmp_path / "s.tif"], here / "model")

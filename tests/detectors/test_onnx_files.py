"""A model as ONNX files: onnxruntime scores as the model does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.detectors import Density, DensityConfig, Fitting, onnx_files
from wsi_anomaly.detectors.model import Model
from wsi_anomaly.detectors.onnx_files import TOLERANCE, export_onnx
from wsi_anomaly.features import load_features
from wsi_anomaly.features.external import external_network
from wsi_anomaly.features.pooling import pooled_fields
from wsi_anomaly.learning.batches import ArrayTiles

pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

STEP, LAYERS, SIZES = 16, ("c2", "c3"), {32: 32, 48: 48}
PIXELS = np.random.default_rng(1).integers(60, 240, (128, 160, 3), dtype=np.uint8)


def model_of(detector: Density) -> Model:
    return Model(
        name="drawn", magnification=10, tile_size=STEP, preprocessing={"stain": "vahadane"},
        detectors={"density": detector}, primary="density",
    )  # fmt: skip


def session_of(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def of_fields(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that judges fields of two sizes, less what is usual, and its files."""
    torch.manual_seed(0)
    features = load_features("compact")
    width = sum(len(features.statistics(layer)[0]) for layer in LAYERS)
    normal = {um: torch.randn(2400, width) for um in SIZES}
    config = DensityConfig(LAYERS, estimator="by-layer", fields_um=tuple(SIZES))
    detector = Density(features, config).fit_fields(normal, torch.rand(2400))
    assert "usual" in detector.state_
    folder = tmp_path_factory.mktemp("of_fields")
    model_of(detector).save(folder / "model")
    assert main(["export", str(folder / "model"), "--to", "onnx", "-o", str(folder / "out")]) == 0
    return folder / "model", folder / "out"


def test_the_fields_of_an_image_score_as_on_a_slide(of_fields):
    """Its first field lies on the slide at (40, 40): that of the third cell of each axis."""
    model, session = Model.load(of_fields[0]), session_of(of_fields[1] / "density.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    context = json.loads(facts["context_px"])
    maps = model.dense_maps()
    [part] = pooled_fields(
        maps, lambda x, y, w, h: PIXELS[y : y + h, x : x + w], 160, 128,
        background=(0, 0, 0), sizes=(32, 48), step=STEP, strip=128,
    )  # fmt: skip
    corner = 2 * STEP + (STEP - 48) // 2 - context
    assert corner >= 0
    rows, columns = 4, 6
    side = json.loads(facts["image_px"])  # of one field with what its network sees round it
    image = PIXELS[corner:, corner:][: side + (rows - 1) * STEP, : side + (columns - 1) * STEP]
    cells = np.s_[2 : 2 + rows, 2 : 2 + columns]
    embeddings = {um: part.embeddings[um][cells].reshape(rows * columns, -1) for um in SIZES}
    expected = model.score_fields(embeddings, np.ones(rows * columns, np.float32))["density"]
    score, *found = session.run(None, {"image": image[None]})
    assert score.shape == (1, rows, columns)
    assert score.ravel() == pytest.approx(expected, abs=TOLERANCE)
    for um, values in zip(SIZES, found, strict=True):
        assert values.reshape(rows * columns, -1) == pytest.approx(embeddings[um], abs=1e-4)


def test_it_takes_any_number_of_images(of_fields):
    session = session_of(of_fields[1] / "density.onnx")
    side = json.loads(session.get_modelmeta().custom_metadata_map["image_px"])
    images = np.stack([PIXELS[k : k + side, k : k + side] for k in range(3)])
    together = session.run(["score"], {"image": images})[0]
    alone = [session.run(["score"], {"image": images[k : k + 1]})[0] for k in range(3)]
    assert together.shape == (3, 1, 1)
    assert together == pytest.approx(np.concatenate(alone), abs=TOLERANCE)


def test_the_file_says_what_it_was_made_of(of_fields):
    facts = session_of(of_fields[1] / "density.onnx").get_modelmeta().custom_metadata_map
    assert facts["model_hash"] == Model.load(of_fields[0]).hash
    assert facts["estimator"] == "by-layer"
    assert json.loads(facts["layers"]) == list(LAYERS)
    assert json.loads(facts["field_um"]) == list(SIZES)
    assert json.loads(facts["magnification"]) == 10
    for file in of_fields[1].iterdir():  # a model must not tell where it was written
        assert str(Path(onnx_files.__file__).parent).encode() not in file.read_bytes()


def test_tiles_score_as_in_the_model(tmp_path):
    features = load_features("compact")
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (60, STEP, STEP, 3), dtype=np.uint8)
    detector = Density(features, DensityConfig(LAYERS)).fit(
        ArrayTiles(tiles), fitting=Fitting.on("cpu")
    )
    model_of(detector).save(tmp_path / "model")
    made = export_onnx(tmp_path / "model", tmp_path / "out")
    assert made.difference <= TOLERANCE
    score, embedding = session_of(made.files[1]).run(None, {"image": tiles[:5]})
    features.set_precision(torch.float32)  # processors with bfloat16 score in that
    assert score == pytest.approx(detector.score_samples(tiles[:5]), abs=TOLERANCE)
    maps = session_of(made.files[0]).run(list(LAYERS), {"image": tiles[:5]})
    pooled = np.concatenate([values.mean((2, 3)) for values in maps], 1)
    assert pooled == pytest.approx(embedding, abs=1e-4)


def test_files_that_are_there_stay(of_fields, capsys):
    model, out = of_fields
    before = (out / "density.onnx").read_bytes()
    assert main(["export", str(model), "--to", "onnx", "-o", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "density.onnx").read_bytes() == before


def test_a_file_that_scores_otherwise_is_not_written(of_fields, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "_write", lambda path, *_: path.touch())
    monkeypatch.setattr(onnx_files, "_difference", lambda *_: 2 * TOLERANCE)
    with pytest.raises(ModelError, match="not written"):
        export_onnx(of_fields[0], tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_what_does_not_fit_is_said(of_fields, tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "onnx"]) == 2
    assert "holds no model" in capsys.readouterr().err
    assert main(["export", str(of_fields[0])]) == 2
    assert "is a model; give results, or --to onnx" in capsys.readouterr().err

    external = external_network("uni")
    external.set_statistics("embedding", torch.zeros(8), torch.ones(8))
    detector = Density(external, DensityConfig(("embedding",), fields_um=(256,)))
    detector.fit_fields({256: torch.randn(100, 8)})
    model_of(detector).save(tmp_path / "external")
    with pytest.raises(UsageError, match="embeddings of another program"):
        export_onnx(tmp_path / "external", tmp_path / "out")

    odd = replace(Model.load(of_fields[0]), tile_size=20)
    odd.save(tmp_path / "odd")
    with pytest.raises(UsageError, match="grid of 8 px"):
        export_onnx(tmp_path / "odd", tmp_path / "out")


def test_other_methods_are_refused(tmp_path, monkeypatch):
    class Other(Density):
        pass

    features = load_features("compact")
    detector = Density(features, DensityConfig(LAYERS))
    monkeypatch.setattr(onnx_files.Model, "load", lambda _: model_of(detector))
    monkeypatch.setattr(onnx_files, "Density", Other)
    (tmp_path / "model.json").touch()
    with pytest.raises(UsageError, match="ranks by density; only density"):
        export_onnx(tmp_path, tmp_path / "out")

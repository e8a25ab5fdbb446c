"""The model folder: what is written comes back; what is damaged is refused in one sentence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, Stage
from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.core.errors import MemoryShortError, ModelError, UsageError
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.detectors import Density, DensityConfig, Dpa, DpaConfig, Model
from wsi_anomaly.detectors.frozen import changed_since, freeze
from wsi_anomaly.features import load_features
from wsi_anomaly.features.precision import fast_precision
from wsi_anomaly.learning.batches import ArrayTiles
from wsi_anomaly.tiles import Preprocessing

SIZE = 16


def tiles(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 220, (count, SIZE, SIZE, 3)).astype(np.uint8)


def calibration(cases: int = 5) -> Calibration:
    rng = np.random.default_rng(0)
    row, col = np.divmod(np.arange(100), 10)
    return Calibration.fit(
        [CaseScores(f"c{i}", f"s{i}", row, col, rng.normal(1, 0.1, 100)) for i in range(cases)]
    )


@pytest.fixture(scope="module")
def model() -> Model:
    features = load_features("compact", random_seed=0).set_precision(fast_precision("cpu"))
    architecture = Architecture(resolution=SIZE, first_resolution=SIZE, latent_resolution=4)
    config = DpaConfig(
        architecture,
        GrowthConfig(layers={SIZE: {"c2": 1.0}}),
        (Stage(SIZE, transition=False, steps=3),),
        batch_size=8,
    )
    source = ArrayTiles(tiles(60))
    return Model(
        name="a model",
        magnification=10,
        tile_size=SIZE,
        preprocessing=Preprocessing().to_dict(),
        detectors={
            "dpa": Dpa(features, config).fit(source),
            "density": Density(features, DensityConfig(("c2", "c3"))).fit(source),
        },
        primary="dpa",
        calibration={"dpa": calibration()},
        seen={"0123456789abcdef": "train"},
        domain={"mpp_range": [0.25, 0.5]},
        provenance={"trained": "2026-01-01"},
    )


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "model", card="# A model", files={"training.csv": b"step,loss\n"})
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(model, folder):
    loaded = Model.load(folder)
    for name in (
        "name", "magnification", "tile_size", "preprocessing", "primary", "seen", "domain",
        "provenance", "methods", "version",
    ):  # fmt: skip
        assert getattr(loaded, name) == getattr(model, name)
    images = tiles(200, seed=1)
    before, after = model.score_tiles(images), loaded.score_tiles(images)
    for name in ("dpa", "density"):
        assert np.array_equal(after[name], before[name])
    assert loaded.calibration["dpa"].n_cases == 5
    assert (folder / "README.md").read_text() == "# A model"
    assert (folder / "training.csv").exists()


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")],
)
def test_a_full_memory_is_not_called_a_damaged_model(folder, monkeypatch, error):
    def full(*_arguments, **_settings):
        raise error

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(MemoryShortError, match="not enough memory on cpu for the model in"):
        Model.load(folder)


def test_a_model_is_not_loaded_to_a_device_that_is_not_there(folder):
    with pytest.raises(UsageError, match="'meta' is not supported"):
        Model.load(folder, device="meta")


def test_methods_share_one_pass_and_agree_with_the_detector_alone(model):
    images = tiles(30, seed=2)
    together = model.score_tiles(images)
    for name, detector in model.detectors.items():
        assert together[name] == pytest.approx(detector.score_samples(images), rel=1e-4, abs=1e-4)
    calls = []
    original = model.features.activations

    def counted(x, layers):
        calls.append(tuple(layers))
        return original(x, layers)

    model.features.activations = counted
    try:
        model.score_tiles(images)
    finally:
        del model.features.activations
    assert len(calls) == 2  # the tiles once for both methods, the reconstructions once


def test_the_identity_follows_the_content(model, folder, tmp_path):
    first = Model.load(folder).hash
    assert re.fullmatch(r"[0-9a-f]{16}", first)
    shutil.copytree(folder, tmp_path / "copy")
    assert Model.load(tmp_path / "copy").hash == first
    model.with_calibration({"dpa": calibration(6)}, {}).save(tmp_path / "other")
    assert Model.load(tmp_path / "other").hash != first


def test_error_maps_are_those_of_the_first_method_that_has_some(model):
    assert model.pixel_maps(tiles(3)).shape == (3, SIZE, SIZE)


def test_tiles_of_another_size_are_refused(model):
    with pytest.raises(ModelError, match="16 x 16 px"):
        model.score_tiles(np.zeros((2, 32, 32, 3), np.uint8))


def test_nothing_in_the_folder_can_run(folder):
    names = {p.name for p in folder.iterdir()}
    assert names == {"model.json", "model.safetensors", "README.md", "training.csv"}
    assert b"\x80\x04" not in (folder / "model.safetensors").read_bytes()[:16]


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=re.escape(name)):
        Model.load(folder)


def test_no_folder_no_model(tmp_path):
    with pytest.raises(ModelError, match="There is no model"):
        Model.load(tmp_path / "nothing")


def edit(folder, change) -> None:
    path = folder / "model.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_another_version_is_named(folder):
    edit(folder, lambda v: v.update(version=99))
    with pytest.raises(ModelError, match="version 99"):
        Model.load(folder)


def test_numbers_that_belong_to_another_description_are_refused(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"does not belong|damaged"):
        Model.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("detectors"),
        lambda v: v.update(primary="magic"),
        lambda v: v.update(magnification=13),
        lambda v: v.update(tile_size=-1),
        lambda v: v.update(seen=[]),
        lambda v: v["detectors"].update(magic={}),
        lambda v: v["detectors"]["dpa"].update(batch_size="many"),
        lambda v: v["detectors"]["dpa"]["architecture"].update(resolution=60),
        lambda v: v["detectors"]["density"].update(layers=["c9"]),
        lambda v: v["features"].update(network="nonsense"),
        lambda v: v["calibration"]["dpa"].update(version=7),
        lambda v: v["calibration"]["dpa"]["slides"].pop(),
    ],
)
def test_a_description_that_makes_no_sense_is_one_sentence(folder, change):
    edit(folder, change)
    with pytest.raises(ModelError) as error:
        Model.load(folder)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["features"].update(network="nets"), "the network 'nets'.*; install the ver"),
        (lambda v: v["detectors"].update(magic={}), "the detector 'magic'.*; install the version"),
        (
            lambda v: v.update(
                detectors={**v["detectors"], "magic": {}}, packages={"magic": "spells 2.1"}
            ),
            "the detector 'magic', which is not installed here; install the package 'spells 2.1'",
        ),
    ],
)
def test_what_is_not_installed_is_named(folder, change, said):
    edit(folder, change)
    with pytest.raises(ModelError, match=said):
        Model.load(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b"{" * 10_000])
def test_a_description_that_is_no_json_is_one_sentence(folder, content):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json"):
        Model.load(folder)


def test_a_failed_write_leaves_the_former_model(model, folder, monkeypatch):
    before = Model.load(folder).hash

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wsi_anomaly.detectors.model.write_json", fail)
    with pytest.raises(Exception, match="disk is full"):
        model.save(folder)
    assert Model.load(folder).hash == before


def test_scores_hardly_depend_on_the_number_format(model):
    images = tiles(64, seed=5)
    found = {}
    former = model.features.precision
    try:
        for precision in (torch.float32, torch.bfloat16):
            model.features.set_precision(precision)
            found[precision] = model.score_tiles(images)
    finally:
        model.features.set_precision(former)
    for name in model.methods:
        a, b = found[torch.float32][name], found[torch.bfloat16][name]
        assert np.corrcoef(a, b)[0, 1] > 0.98
        assert np.abs(a - b).max() < 0.15 * max(a.std(), 1e-3) + 0.01 * np.abs(a).max()


def test_the_shipped_model_scores_but_flags_nothing_and_its_card_says_so():
    folder = models_folder() / "synthetic-20x"
    shipped = Model.load(folder)
    assert shipped.methods == ("dpa", "density")
    size = shipped.tile_size
    images = np.random.default_rng(0).integers(0, 255, (3, size, size, 3)).astype(np.uint8)
    assert all(np.isfinite(s).all() for s in shipped.score_tiles(images).values())
    point = shipped.calibration[shipped.primary].operating_point()
    assert point.threshold is None
    card = (folder / "README.md").read_text()
    assert "drawn" in card
    assert "not for diagnosis" in card


def test_a_frozen_model_is_not_replaced_by_whoever_writes(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    freeze(tmp_path / "model")
    with pytest.raises(UsageError, match="is frozen and stays as it is"):
        model.save(tmp_path / "model")
    assert changed_since(tmp_path / "model")[1] == []

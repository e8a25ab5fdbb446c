"""Statistics of filters: of one named set of images, which holds nothing that is judged on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.detectors.base import fit_missing_statistics
from wsi_anomaly.features import broad, load_features
from wsi_anomaly.features.lite0 import published
from wsi_anomaly.features.weights import digest_of, read_weights
from wsi_anomaly.learning.batches import ArrayTiles, to_images


def test_the_shipped_statistics_are_those_of_the_named_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, about = load_tensors(models_folder() / "lite0-statistics.safetensors")
    weights = digest_of(read_weights(published()))
    assert about == {"network": "lite0", "images": broad.NAME, "weights": weights}
    network = load_features("lite0")
    for layer in network.layers:
        mean, std = network.statistics(layer)
        assert torch.equal(mean, tensors[f"{layer}.filter_mean"])
        assert torch.equal(std, tensors[f"{layer}.filter_std"])
    # Two images are enough to see that the command measures what it says.
    few = {name: broad.IMAGES[name] for name in list(broad.IMAGES)[:2]}
    monkeypatch.setattr(broad, "IMAGES", few)
    assert broad.main(["lite0", "-o", str(tmp_path / "few.safetensors")]) == 0
    found, _ = load_tensors(tmp_path / "few.safetensors")
    tiles = torch.cat(list(broad.broad_tiles()))
    assert tiles.shape[1:] == (3, 224, 224)
    assert tiles.min() >= -1
    assert tiles.max() <= 1
    raw = network.activations(tiles, ["b2"])["b2"]
    torch.testing.assert_close(found["b2.filter_mean"], raw.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    assert found.keys() == tensors.keys()


@pytest.mark.parametrize(
    ("name", "file", "deepest"),
    [
        ("squeezenet", "squeezenet_v1.0.npz", "fire9"),
        ("vgg16", "vgg16_imagenet_to_conv4_3_fp16.safetensors", "r43"),
    ],
)
def test_the_published_weights_at_hand_have_shipped_statistics(
    real_data: Path, name: str, file: str, deepest: str
) -> None:
    tensors, about = load_tensors(models_folder() / f"{name}-statistics.safetensors")
    assert about["images"] == broad.NAME
    network = load_features(name, weights=real_data / "weights" / file)
    assert network.layers[-1] == deepest
    for layer in network.layers:
        assert torch.equal(network.statistics(layer)[0], tensors[f"{layer}.filter_mean"])


def test_weights_without_statistics_are_measured_on_the_named_images_not_on_the_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = {name: broad.IMAGES[name] for name in list(broad.IMAGES)[:2]}
    monkeypatch.setattr(broad, "IMAGES", few)
    tiles = ArrayTiles(np.zeros((4, 64, 64, 3), np.uint8))
    network = load_features("compact", random_seed=0)
    fit_missing_statistics(network, tiles, ["c2"])
    raw = network.activations(torch.cat(list(broad.broad_tiles())), ["c2"])["c2"]
    mean, _ = network.statistics("c2")
    torch.testing.assert_close(mean, raw.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    # An encoder of tissue is measured on the tiles.
    network = load_features("compact", random_seed=0)
    network.of_tissue = True
    fit_missing_statistics(network, tiles, ["c2"])
    black = network.activations(to_images(tiles.images), ["c2"])["c2"]
    mean, _ = network.statistics("c2")
    torch.testing.assert_close(mean, black.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)


def test_no_image_of_a_judged_set_is_among_them(real_data: Path) -> None:
    """They are files of two installed packages; no file of the data folder is one of them."""
    ours = set(broad.IMAGES.values())
    assert {name.partition("/")[0] for name in broad.IMAGES} == {
        "skimage.data", "sklearn.datasets.images",
    }  # fmt: skip
    assert len(broad.broad_files()) == len(ours) == 22
    for path in real_data.rglob("*"):
        if path.suffix in {".png", ".jpg", ".jpeg", ".bmp", ".tif"} and path.stat().st_size < 2e6:
            assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] not in ours, path


def test_another_release_of_an_image_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(broad, "IMAGES", {"skimage.data/moon.png": "0" * 16})
    with pytest.raises(ModelError, match=r"moon.png is not the image.*requirements.lock"):
        broad.broad_files()
    assert broad.main(["lite0", "-o", str(tmp_path / "x.safetensors")]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
    assert not (tmp_path / "x.safetensors").exists()

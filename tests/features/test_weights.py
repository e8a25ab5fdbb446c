"""Published weights: read safely, put in the right place, refused when another network's."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.features import FEATURES, load_features
from wsi_anomaly.features.weights import read_weights


def pictures(count: int = 2) -> Tensor:
    """RGB in [0, 1]."""
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def vgg19() -> nn.Sequential:
    """torchvision's convolutions, without the large classifier."""
    torch.manual_seed(0)
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])
    return layers.eval()


def imagenet(images: Tensor) -> Tensor:
    return torchvision.transforms.functional.normalize(
        images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = {f"features.{key}": value for key, value in vgg19().state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


@torch.no_grad()
def test_vgg19_layers_are_the_papers(vgg_file: Path) -> None:
    network = load_features("vgg19", weights=vgg_file)
    found = network.activations(2 * pictures() - 1, ["r12", "r32", "r42", "r54"])
    theirs = vgg19()
    for layer, end in {"r12": 4, "r32": 14, "r42": 23, "r54": 36}.items():
        expected = theirs[:end](imagenet(pictures()))
        torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-5)
    assert found["r42"].shape == (2, 512, 8, 8)
    assert network.default_layer == "r42"


@torch.no_grad()
def test_vgg16_takes_torchvisions_weights_and_oxfords(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"]).eval()
    ends = {"r12": 4, "r22": 9, "r33": 16, "r43": 23}
    state = theirs.state_dict()
    torch.save({f"features.{key}": value for key, value in state.items()}, tmp_path / "vgg16.pth")
    network = load_features("vgg16", weights=tmp_path / "vgg16.pth")
    found = network.activations(2 * pictures() - 1, list(ends))
    for layer, end in ends.items():
        expected = theirs[:end](imagenet(pictures()))
        torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-5)
    assert network.layers[-1] == "r53"

    # Oxford's names and input (BGR in 0..255 minus the mean colour), up to conv4_3, float16.
    names = [f"conv{b}_{c}" for b, count in enumerate((2, 2, 3, 3), 1) for c in range(1, count + 1)]
    positions = [i for i, module in enumerate(theirs) if isinstance(module, nn.Conv2d)]
    oxford = {
        f"{name}.{kind}": state[f"{position}.{kind}"].half()
        for name, position in zip(names, positions, strict=False)
        for kind in ("weight", "bias")
    }
    save_file(oxford, tmp_path / "oxford.safetensors")
    network = load_features("vgg16", weights=tmp_path / "oxford.safetensors")
    assert network.layers[-1] == "r43"
    assert network.default_layer == "r42"
    found = network.activations(2 * pictures() - 1, list(ends))
    theirs.half().float()
    bgr = 255 * pictures().flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    for layer, end in ends.items():
        torch.testing.assert_close(found[layer], theirs[:end](bgr), rtol=1e-3, atol=1e-3)
    del oxford["conv2_1.bias"]
    save_file(oxford, tmp_path / "half.safetensors")
    with pytest.raises(ModelError, match="does not fit the network vgg16"):
        load_features("vgg16", weights=tmp_path / "half.safetensors")


def test_oxfords_vgg16_on_real_weights(real_data: Path) -> None:
    path = real_data / "weights" / "vgg16_imagenet_to_conv4_3_fp16.safetensors"
    found = load_features("vgg16", weights=path).activations(2 * pictures() - 1, ["r43"])["r43"]
    assert found.dtype == torch.float32
    assert 0.01 < float((found > 0).float().mean()) < 0.9


@torch.no_grad()
def test_resnet_is_torchvisions_with_its_normalisation_folded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
    save_file(theirs.state_dict(), tmp_path / "resnet18.safetensors")
    network = load_features("resnet", weights=tmp_path / "resnet18.safetensors")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    found = network.activations(2 * pictures() - 1, network.layers)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(imagenet(pictures())))))
    for layer in network.layers:
        x = getattr(theirs, layer)(x)
        torch.testing.assert_close(found[layer], x, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_squeezenet_takes_torchvisions_weights_and_the_original_ones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_0().eval()
    torch.save(theirs.state_dict(), tmp_path / "squeezenet.pth")
    network = load_features("squeezenet", weights=tmp_path / "squeezenet.pth")
    ends = {"fire2": 4, "fire4": 6, "fire5": 8, "fire8": 11, "fire9": 13}
    found = network.activations(2 * pictures() - 1, list(ends))
    for layer, end in ends.items():
        torch.testing.assert_close(found[layer], theirs.features[:end](imagenet(pictures())))

    position = {"3": 2, "4": 3, "5": 4, "7": 5, "8": 6, "9": 7, "10": 8, "12": 9}
    original = {}
    for key, value in theirs.features.state_dict().items():
        number, _, rest = key.partition(".")
        name = f"fire{position[number]}/{rest}" if number in position else f"conv1.{rest}"
        original[name.replace("squeeze.", "squeeze1x1.")] = value.numpy()
    np.savez(tmp_path / "original.npz", **original)
    network = load_features("squeezenet", weights=tmp_path / "original.npz")
    found = network.activations(2 * pictures() - 1, list(ends))
    bgr = 255 * pictures().flip(1) - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    for layer, end in ends.items():
        expected = theirs.features[:end](bgr)
        torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-3)


def test_the_original_squeezenet_on_real_weights(real_data: Path) -> None:
    network = load_features("squeezenet", weights=real_data / "weights" / "squeezenet_v1.0.npz")
    assert network.scaling.bgr
    found = network.activations(2 * pictures() - 1, ["fire9"])["fire9"]
    assert 0.01 < float((found > 0).float().mean()) < 0.9


def test_timm_takes_a_models_own_weights_and_no_others(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra")
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18").eval()
    save_file(theirs.state_dict(), tmp_path / "resnet18.safetensors")
    network = load_features("timm:resnet18", weights=tmp_path / "resnet18.safetensors")
    with torch.no_grad():
        found = network.activations(2 * pictures() - 1, ["layer3"])["layer3"]
        expected = theirs.forward_intermediates(
            imagenet(pictures()), indices=[3], intermediates_only=True
        )[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match="do not fit the network timm:resnet18"):
        load_features("timm:resnet18", weights=tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match="timm knows no model 'nothing'"):
        load_features("timm:nothing", random_seed=0)


def test_channels_last_transformers_give_channels_first_maps() -> None:
    pytest.importorskip("timm", reason="timm is an extra")
    network = load_features("timm:swin_tiny_patch4_window7_224", random_seed=0)
    found = network.activations(2 * pictures(1) - 1, network.layers[:2])
    assert [tuple(f.shape) for f in found.values()] == [(1, 96, 16, 16), (1, 192, 8, 8)]


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    torch.save({"features.0.weight": _Runs(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="holds more than tensors"):
        load_features("vgg19", weights=tmp_path / "evil.pth")
    np.savez(tmp_path / "evil.npz", a=np.array([_Runs(tmp_path / "ran")], dtype=object))
    with pytest.raises(ModelError):
        load_features("squeezenet", weights=tmp_path / "evil.npz")
    assert not (tmp_path / "ran").exists()


def _truncated(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("missing.pth", None, "no weights in"),
        ("missing.safetensors", None, "no weights in"),
        ("short.pth", _truncated, "damaged"),
        ("empty.pth", lambda path: path.write_bytes(b""), "damaged"),
        ("text.safetensors", lambda path: path.write_text("hello"), "damaged"),
        ("text.npz", lambda path: path.write_text("hello"), "damaged"),
        ("list.pth", lambda path: torch.save([torch.zeros(1)], path), "state_dict"),
        ("nested.pth", lambda path: torch.save({"state": {}}, path), "state_dict"),
        ("other.pth", lambda path: torch.save({"a": torch.zeros(1)}, path), "does not fit"),
        ("folder.pth", lambda path: path.mkdir(), "no weights in"),
    ],
)
@pytest.mark.parametrize("network", ["lite0", "vgg19", "vgg16", "squeezenet", "resnet"])
def test_bad_files_are_refused_in_one_sentence(
    tmp_path: Path, network: str, name: str, write: Callable[[Path], object] | None, says: str
) -> None:
    if write:
        write(tmp_path / name)
    with pytest.raises(ModelError, match=says) as caught:
        load_features(network, weights=tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_and_another_vgg_are_refused(vgg_file: Path, tmp_path: Path) -> None:
    state = read_weights(vgg_file)
    broken = state | {"features.5.weight": state["features.5.weight"] * torch.nan}
    torch.save(broken, tmp_path / "nan.pth")
    with pytest.raises(ModelError, match="NaN"):
        load_features("vgg19", weights=tmp_path / "nan.pth")
    smaller = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    named = {f"features.{key}": value for key, value in smaller.state_dict().items()}
    torch.save(named, tmp_path / "vgg16.pth")
    with pytest.raises(ModelError, match="does not fit the network vgg19"):
        load_features("vgg19", weights=tmp_path / "vgg16.pth")
    with pytest.raises(ModelError, match="does not fit the network vgg16"):
        load_features("vgg16", weights=vgg_file)


@pytest.mark.parametrize("network", ["vgg19", "vgg16", "squeezenet", "resnet"])
def test_offline_the_message_names_both_ways_out(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def offline(url: str, **options: Any) -> None:
        asked.update(options)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ModelError, match=r"internet.*--feature-weights FILE"):
        load_features(network)
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True


def test_unknown_names_and_contradictions_are_wrong_usage(tmp_path: Path) -> None:
    known = "compact, lite0, vgg19, vgg16, squeezenet, resnet, uni, .*, conch, timm:<model>"
    with pytest.raises(UsageError, match=known):
        load_features("vgg")
    with pytest.raises(UsageError, match="exclude each other"):
        load_features("vgg19", weights=tmp_path / "x.pth", random_seed=0)
    assert "compact" in FEATURES


def test_timm_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModelError, match=r'pip install "wsi-anomaly\[timm\]"'):
        load_features("timm:resnet18")

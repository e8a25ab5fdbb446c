"""What every perceptual network must do, whatever its architecture."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.tensors import save_tensors
from wsi_anomaly.features import PerceptualNetwork, features_from_state, load_features

NAMES = (
    "compact", "lite0", "vgg19", "vgg16", "squeezenet", "resnet", "timm:resnet18",
    "timm:vit_tiny_patch16_224",
)  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> PerceptualNetwork:
    if request.param.startswith("timm:") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is an extra")
    network = load_features(request.param, random_seed=3)
    network.fit_statistics([images(8, seed=1)], network.layers)
    return network


def images(count: int, *, seed: int = 0) -> Tensor:
    """Smooth colour patterns with noise, RGB in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
    noise = 0.1 * torch.randn(count, 3, 64, 64, generator=generator)
    return (2 * smooth - 1 + noise).clamp(-1, 1)


def test_layers_are_named_and_run_from_shallow_to_deep(network: PerceptualNetwork) -> None:
    assert len(set(network.layers)) == len(network.layers)
    assert network.default_layer in network.layers
    found = network.activations(images(1), network.layers)
    assert tuple(found) == network.layers
    sides = [f.shape[-1] for f in found.values()]
    assert sides == sorted(sides, reverse=True)
    assert all(f.ndim == 4 and f.shape[-1] == f.shape[-2] for f in found.values())


def test_only_the_layers_asked_for_come_back(network: PerceptualNetwork) -> None:
    everything = network.activations(images(2), network.layers)
    for layer in (network.layers[0], network.layers[-1]):
        alone = network.activations(images(2), [layer])
        assert list(alone) == [layer]
        assert torch.equal(alone[layer], everything[layer])


def test_the_network_is_frozen(network: PerceptualNetwork) -> None:
    parent = nn.ModuleList([network]).train()
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in parent.parameters())


def test_gradients_flow_to_the_image(network: PerceptualNetwork) -> None:
    x = images(2).requires_grad_()
    network(x, [network.default_layer])[network.default_layer].square().mean().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert (x.grad.flatten(1).norm(dim=1) > 0).all()


def test_a_tile_does_not_depend_on_its_batch(network: PerceptualNetwork) -> None:
    x = images(5)
    together = network(x, network.layers)
    for layer, alone in network(x[3:4], network.layers).items():
        torch.testing.assert_close(alone, together[layer][3:4], rtol=1e-3, atol=1e-3)


def test_statistics_normalise_every_live_filter(network: PerceptualNetwork) -> None:
    x = images(8, seed=1)
    raw = network.activations(x, network.layers)
    for layer, f in network(x, network.layers).items():
        _, std = network.statistics(layer)
        own = raw[layer].double().std((0, 2, 3), correction=0)
        live = own > 1.001 * float(std.min())
        assert live.any()
        torch.testing.assert_close(f.mean((0, 2, 3)), torch.zeros(f.shape[1]), rtol=0, atol=1e-3)
        torch.testing.assert_close(
            f.std((0, 2, 3), correction=0)[live], torch.ones(int(live.sum())), rtol=1e-3, atol=1e-3
        )
        assert (f.std((0, 2, 3), correction=0) < 1.001).all()


def test_statistics_do_not_depend_on_how_tiles_come(network: PerceptualNetwork) -> None:
    layer = network.layers[0]
    before = [t.clone() for t in network.statistics(layer)]
    network.fit_statistics(images(8, seed=1).split(3), [layer])
    for ours, theirs in zip(network.statistics(layer), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    network.set_statistics(layer, *before)


def test_a_layer_without_statistics_is_refused(network: PerceptualNetwork) -> None:
    bare = features_from_state(*_bare_state(network), "state")
    with pytest.raises(ModelError, match="no per-filter statistics"):
        bare(images(1), [bare.layers[0]])


def test_an_unknown_layer_is_named_with_those_there_are(network: PerceptualNetwork) -> None:
    with pytest.raises(ModelError, match=f"no layer 'deep'.*{network.layers[0]}"):
        network.activations(images(1), ["deep"])


@pytest.mark.parametrize("stored", ["first", "all"])
def test_the_state_gives_back_the_same_network(network: PerceptualNetwork, stored: str) -> None:
    layers = network.layers[:1] if stored == "first" else network.layers
    copy = features_from_state(*network.to_state(layers), "state")
    assert copy.layers == layers
    assert copy.scaling == network.scaling
    assert copy.default_layer in layers
    for layer, f in copy(images(2), layers).items():
        assert torch.equal(f, network(images(2), layers)[layer])
    again, config = copy.to_state(layers)
    tensors, ours = network.to_state(layers)
    assert config == ours
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)


def test_a_file_of_ours_serves_as_weights(network: PerceptualNetwork, tmp_path: Path) -> None:
    save_tensors(tmp_path / "network.safetensors", *network.to_state())
    copy = load_features(network.name, weights=tmp_path / "network.safetensors")
    ours, theirs = network.to_state()[0], copy.to_state()[0]
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    other = "compact" if network.name != "compact" else "vgg19"
    with pytest.raises(ModelError, match=f"does not hold the network {other}"):
        load_features(other, weights=tmp_path / "network.safetensors")


def test_damaged_states_are_refused(network: PerceptualNetwork) -> None:
    tensors, config = network.to_state(network.layers[:1])
    key = next(k for k in tensors if k.endswith("weight"))
    for wrong in (
        {k: v for k, v in tensors.items() if k != key},
        tensors | {key: tensors[key][:1]},
        tensors | {key: torch.full_like(tensors[key], torch.nan)},
        tensors | {"surplus": torch.zeros(1)},
        tensors | {f"{network.layers[0]}.filter_std": torch.ones(3, 3)},
        tensors | {f"{network.layers[0]}.filter_std": torch.ones(1)},
    ):
        with pytest.raises(ModelError):
            features_from_state(wrong, config, "state")
    for changed in (
        {"layers": ["elsewhere"], "default_layer": "elsewhere"},
        {"layers": []},
        {"layers": None},
        {"default_layer": "elsewhere"},
        {"scaling": {"mean": [0, 0], "std": [1, 1], "bgr": False}},
        {"scaling": {"mean": [0, 0, 0], "std": [1, 0, 1], "bgr": False}},
        {"scaling": None},
        {"network": "unheard-of"},
    ):
        with pytest.raises(ModelError):
            features_from_state(tensors, config | changed, "state")


def test_the_cost_is_reported(network: PerceptualNetwork) -> None:
    costs = [network.flops(64, [layer]) for layer in network.layers]
    assert costs == sorted(costs)
    assert 0 < costs[0] <= network.flops(64) == costs[-1]
    assert network.flops(128) > 3 * network.flops(64)
    assert network.parameter_count() == sum(p.numel() for p in network.parameters()) > 1000


def test_half_precision_says_nearly_the_same(network: PerceptualNetwork) -> None:
    layer = network.default_layer
    exact = network(images(2), [layer])[layer]
    half = features_from_state(*network.to_state(), "state").set_precision(torch.bfloat16)
    rough = half(images(2), [layer])[layer]
    assert rough.dtype == torch.float32
    assert float((rough - exact).abs().mean() / exact.abs().mean()) < 0.1


def test_random_weights_depend_on_the_seed_alone(network: PerceptualNetwork) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (load_features(network.name, random_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected), "the caller's random numbers were used"
    layer = one.default_layer
    a, b, c = (n.activations(images(1), [layer])[layer] for n in (one, two, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not one.has_statistics(layer)


def _bare_state(network: PerceptualNetwork) -> tuple[dict[str, Tensor], dict[str, object]]:
    tensors, config = network.to_state()
    return {k: v for k, v in tensors.items() if ".filter_" not in k}, config

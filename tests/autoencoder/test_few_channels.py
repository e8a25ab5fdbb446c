"""Narrow blocks run in one pass on a CPU must be what PyTorch's modules are, up to rounding."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_network, textured_tiles
from torch import nn

from wsi_anomaly.autoencoder import (
    Architecture,
    GrowthConfig,
    GrowthTrainer,
    ProgressiveAutoencoder,
    Stage,
)
from wsi_anomaly.autoencoder.blocks import Block, Conv3, Down, Residual, Up, fuse
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream, to_images


def plain(module: nn.Module) -> nn.Module:
    """A copy that computes with PyTorch's own operations."""
    copy = deepcopy(module)
    for child in copy.modules():
        if isinstance(child, Conv3 | Residual):
            child.fused = False
    return copy


def gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = module(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((y * weights).sum(), [x, *module.parameters()])
    return [y.detach(), *found]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()) + 1e-6)


@given(
    kind=st.sampled_from([Block, Down, Up, Conv3]),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    count=st.integers(1, 6),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_values_and_gradients_are_those_of_the_plain_modules(
    kind, inputs, outputs, count, height, width, seed
):
    torch.manual_seed(seed)
    module = kind(inputs, outputs)
    fuse(module)
    size = (2 * height, 2 * width) if kind is Down else (height, width)
    x = torch.randn(count, inputs, *size)
    assert_same(gradients(module, x), gradients(plain(module), x))


def test_a_block_is_really_run_in_one_pass():
    module = Block(4, 4)
    fuse(module)
    kind = type(module(torch.randn(1, 4, 8, 8)).grad_fn).__name__
    assert kind == "_BlockBackward"


def test_odd_sides_are_halved_as_pytorch_does():
    module = Down(4, 4)
    fuse(module)
    x = torch.randn(2, 4, 9, 7)
    assert_same(gradients(module, x), gradients(plain(module), x))


@pytest.mark.parametrize("latent", [1, 8])
@pytest.mark.parametrize(("resolution", "alpha"), [(16, 1.0), (32, 0.3), (32, 1.0)])
def test_the_whole_autoencoder_is_the_same_function(latent, resolution, alpha):
    torch.manual_seed(0)
    network = ProgressiveAutoencoder(
        Architecture(resolution=32, latent_resolution=latent, latent_channels=4)
    )
    other = plain(network)
    assert list(network.state_dict()) == list(other.state_dict())
    x = torch.rand(3, 3, resolution, resolution) * 2 - 1
    found, expected = network(x, resolution, alpha), other(x, resolution, alpha)
    assert torch.allclose(found, expected, atol=1e-4)


def test_layout_and_format_of_the_images_do_not_matter():
    torch.manual_seed(0)
    network = ProgressiveAutoencoder(Architecture(latent_resolution=1, latent_channels=9))
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    expected = network(x)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(network(last), expected)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(last).detach()
    # Only the latent is made in bfloat16 here.
    assert torch.allclose(rough.float(), expected, atol=0.05 * float(expected.detach().abs().max()))


def train(*, fused: bool) -> list[float]:
    torch.manual_seed(0)
    autoencoder = ProgressiveAutoencoder(
        Architecture(resolution=16, first_resolution=16, latent_resolution=4)
    )
    trainer = GrowthTrainer(
        autoencoder if fused else plain(autoencoder),
        random_network(),
        (Stage(16, transition=False, steps=6),),
        GrowthConfig(layers={16: {"b": 1.0}}),
    )
    stream = BatchStream(ArrayTiles(textured_tiles(24)), 12, 0)
    return [float(trainer.step((stream.batch(k),), k).loss) for k in range(6)]


def test_a_training_does_not_depend_on_the_number_of_threads():
    torch.manual_seed(0)
    module = Block(4, 4)
    fuse(module)
    x = torch.randn(13, 4, 16, 16)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradients(module, x)
        torch.set_num_threads(3)
        three = gradients(module, x)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_training_follows_the_plain_modules():
    found, expected = train(fused=True), train(fused=False)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[-1] < found[0]


def test_what_is_no_number_stays_visible():
    module = Block(4, 4)
    fuse(module)
    x = torch.zeros(1, 4, 8, 8)
    x[0, 1, 3, 3] = torch.nan
    assert module(x)[0, 1, 3, 3].isnan()
    assert not module(x)[0, 1, 7, 7].isnan()


def test_a_larger_tile_is_rebuilt_whole():
    torch.manual_seed(0)
    network = ProgressiveAutoencoder(Architecture()).eval()
    images = to_images(textured_tiles(2, 96))
    with torch.inference_mode():
        assert torch.allclose(network(images, 64), plain(network)(images, 64), atol=1e-4)


def test_a_wide_network_is_left_to_pytorch():
    module = Block(5, 5)
    fuse(module)
    assert type(module(torch.randn(1, 5, 8, 8)).grad_fn).__name__ == "AddBackward0"

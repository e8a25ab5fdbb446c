"""The autoencoder against the published figures and against cases worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from wsi_anomaly.autoencoder import Architecture, ProgressiveAutoencoder
from wsi_anomaly.autoencoder.blocks import Block, Down, Up, double, halve, initialise
from wsi_anomaly.core.errors import UsageError


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_published_camelyon16_network_has_the_published_size():
    network = ProgressiveAutoencoder(Architecture(first_resolution=64))
    assert (count(network.encoder), count(network.decoder)) == (2776, 2183)
    assert network.encoder(torch.zeros(2, 3, 64, 64), 64).shape == (2, 4, 8, 8)


def test_there_is_no_normalisation_layer_and_no_way_around_the_latent():
    network = ProgressiveAutoencoder(Architecture())
    assert not [m for m in network.modules() if "Norm" in type(m).__name__]
    # All that the decoder sees is the latent map.
    latent = network.encoder(torch.rand(1, 3, 64, 64), 64)
    image = network.decoder(latent, 64)
    assert torch.equal(network.decoder(latent.clone(), 64), image)


@pytest.mark.parametrize("resolution", [16, 32, 64])
@pytest.mark.parametrize("latent", [1, 4, 8])
def test_every_stage_gives_an_image_of_its_size(resolution, latent):
    network = ProgressiveAutoencoder(
        Architecture(latent_resolution=latent, latent_channels=7, widths=(5,))
    )
    images = torch.rand(2, 3, resolution, resolution)
    for alpha in (1.0, 0.3) if resolution > 16 else (1.0,):
        assert network(images, resolution, alpha).shape == images.shape
    assert network.encoder(images, resolution).shape == (2, 7, latent, latent)


def test_widths_go_from_the_image_down_to_the_latent():
    architecture = Architecture(
        resolution=32, first_resolution=32, latent_resolution=8, widths=(4, 6, 9)
    )
    assert [architecture.width(r) for r in (32, 16, 8)] == [4, 6, 9]
    network = ProgressiveAutoencoder(architecture)
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 60},
        {"latent_resolution": 32, "first_resolution": 16},
        {"widths": (4, 4)},
        {"latent_channels": 0},
    ],
)
def test_a_size_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        Architecture(**wrong)


def test_alpha_zero_is_the_old_network_and_alpha_one_the_new():
    torch.manual_seed(0)
    network = ProgressiveAutoencoder(Architecture())
    images = torch.rand(2, 3, 32, 32)
    old = double(network(halve(images), 16))
    # At alpha 0 both halves of the network take the old path: halved images in, doubled out.
    assert torch.allclose(network(images, 32, 0.0), old, atol=1e-6)
    assert torch.equal(network(images, 32, 1.0), network(images, 32))


def test_in_transition_encoder_and_decoder_are_blended_with_the_same_alpha():
    torch.manual_seed(1)
    network = ProgressiveAutoencoder(Architecture())
    encoder, decoder = network.encoder, network.decoder
    images, alpha = torch.rand(2, 3, 32, 32), 0.25
    inside = (1 - alpha) * encoder.from_image["16"](halve(images)) + alpha * encoder.down["32"](
        encoder.from_image["32"](images)
    )
    latent = encoder.last(encoder.down["16"](inside))
    x = decoder.up["16"](decoder.first(latent))
    by_hand = (1 - alpha) * double(decoder.to_image["16"](x)) + alpha * decoder.to_image["32"](
        decoder.up["32"](x)
    )
    assert torch.allclose(network(images, 32, alpha), by_hand, atol=1e-6)


def test_blocks_by_hand():
    block = Block(2, 2)
    for p in block.branch.parameters():
        nn.init.zeros_(p)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(block(x), x)  # the identity is left
    down, up = Down(2, 2), Up(2, 2)
    for p in [*down.branch.parameters(), *up.branch.parameters()]:
        nn.init.zeros_(p)
    assert torch.allclose(down(x), halve(x))
    assert torch.equal(up(x), double(x))
    assert isinstance(Block(2, 3).skip, nn.Conv2d)
    assert Block(2, 3).skip.kernel_size == (1, 1)


def test_upsampling_before_or_after_the_1x1_convolution_is_the_same():
    up = Up(2, 3)
    x = torch.randn(1, 2, 4, 4)
    convolution = up.skip[0]
    assert torch.allclose(up.skip(x), convolution(double(x)), atol=1e-6)


def test_weights_start_with_the_published_spread():
    torch.manual_seed(0)
    convolution = nn.Conv2d(64, 64, 3)
    initialise(convolution)
    expected = math.sqrt(2 / (1 + 0.2**2)) / math.sqrt(64 * 9)
    assert float(convolution.weight.detach().std()) == pytest.approx(expected, rel=0.02)


def test_the_grown_network_is_the_final_resolution_of_the_growing_one():
    torch.manual_seed(0)
    network = ProgressiveAutoencoder(Architecture())
    grown = network.grown()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(grown(images), network(images, 64))
    assert count(grown) == 4959 < count(network)

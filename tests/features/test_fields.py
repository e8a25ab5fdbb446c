"""What a network says that it sees is what it sees."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.fields import Field, stated_fields
from wsi_anomaly.features.network import Stage

SIZES = {"b4": (147, 16), "b5": (339, 16), "b6": (787, 32), "b7": (851, 32)}


@pytest.mark.parametrize("layer", SIZES)
def test_lite0_sees_as_much_as_its_documents_say(layer: str) -> None:
    fields = load_features("lite0").fields
    assert fields is not None
    assert (fields[layer].size, fields[layer].stride) == SIZES[layer]


def positive(network: PerceptualNetwork) -> PerceptualNetwork:
    """The same network with equal positive weights: no effect of a pixel cancels another's."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.double()


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        *(("lite0", layer) for layer in ("b1", "b2", "b3", "b4", "b5", "b6", "b7")),
        ("compact", "c4"),
        ("vgg16", "r43"),
        ("vgg19", "r42"),
    ],
)
@torch.no_grad()
def test_one_pixel_changes_the_positions_that_see_it_and_no_others(name: str, layer: str) -> None:
    network = positive(load_features(name, random_seed=0))
    assert network.fields is not None
    field = network.fields[layer]
    length, height = 64 * 40, 32
    stages = list(network.stages.values())[: network.layers.index(layer) + 1]
    for pixel in (1024, 1024 + field.stride // 2 + 1, 1024 + field.stride - 1):
        x = torch.zeros(1, 3, height, length, dtype=torch.double)
        x[0, :, :, pixel] = 1
        for stage in stages:
            x = stage(x)
        changed = x[0].abs().sum((0, 1)).nonzero().flatten().tolist()
        sees = [
            i
            for i in range(x.shape[-1])
            if field.input_of(i, i + 1)[0] <= pixel < field.input_of(i, i + 1)[1]
        ]
        assert changed == sees


@pytest.mark.parametrize("name", ["squeezenet", "resnet", "timm:vit_tiny_patch16_224"])
def test_networks_without_a_stated_field_say_so(name: str) -> None:
    if name.startswith("timm:") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is an extra")
    assert load_features(name, random_seed=0).fields is None


def test_what_looks_at_the_whole_image_has_no_field() -> None:
    parts: list[nn.Module] = [
        nn.AdaptiveAvgPool2d(1), nn.GroupNorm(1, 3), nn.Conv2d(3, 3, 3, dilation=2), nn.Flatten(),
    ]  # fmt: skip
    for part in parts:
        chain = nn.Sequential(nn.Conv2d(3, 3, 3), part)
        assert stated_fields([Stage("layer", chain)]) is None


def test_a_field_in_positions_of_an_earlier_layer() -> None:
    early = Field().after(3, 2, 0).after(3, 1, 1)
    late = early.after(5, 2, 1).after(3, 1, 1)
    assert late.seen_from(early) == Field(9, 2, -3)
    begin, end = late.seen_from(early).input_of(10, 12)
    assert early.input_of(begin, end) == late.input_of(10, 12)

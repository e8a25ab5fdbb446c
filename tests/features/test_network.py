"""Input scaling and per-filter statistics, on networks small enough to work out by hand."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.network import PerceptualNetwork, Stage
from wsi_anomaly.features.scaling import IMAGENET, SYMMETRIC, InputScaling


def identity(scaling: InputScaling = SYMMETRIC) -> PerceptualNetwork:
    """A network whose only layer is its own input."""
    return PerceptualNetwork("identity", [Stage("input", nn.Identity())], scaling, "input")


def one_colour(*rgb: float) -> torch.Tensor:
    return torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (SYMMETRIC, (-1.0, 0.0, 1.0)),
        (IMAGENET, (-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225)),
        (InputScaling((0, 0, 0), (1 / 255, 1, 1), bgr=True), (255.0, 0.5, 0.0)),
    ],
)
def test_images_are_scaled_as_the_weights_expect(
    scaling: InputScaling, expected: tuple[float, float, float]
) -> None:
    found = identity(scaling).activations(one_colour(-1, 0, 1), ["input"])["input"]
    torch.testing.assert_close(found, one_colour(*expected))


def test_statistics_are_over_images_and_positions() -> None:
    network = identity()
    # Red: -1 and 1 in equal parts. Green: 0, 0, 0, 1 over two images of two pixels each.
    first = torch.tensor([[-1.0, 1.0], [0.0, 0.0], [0.0, 0.5]]).view(1, 3, 1, 2)
    second = torch.tensor([[-1.0, 1.0], [0.0, 1.0], [0.0, 0.5]]).view(1, 3, 1, 2)
    network.fit_statistics([first, second], ["input"])
    mean, std = network.statistics("input")
    torch.testing.assert_close(mean, torch.tensor([0.0, 0.25, 0.25]))
    torch.testing.assert_close(std, torch.tensor([1.0, 0.1875**0.5, 0.25]))


@given(st.lists(st.floats(0, 1e4), min_size=3, max_size=3))
def test_the_floor_bounds_every_filter_and_is_stable(stds: list[float]) -> None:
    network = identity()
    network.set_statistics("input", torch.zeros(3), torch.tensor(stds))
    _, floored = network.statistics("input")
    assert (floored > 0).all()
    assert (floored >= torch.tensor(stds)).all()
    assert float(floored.max() / floored.min()) <= 100.001
    network.set_statistics("input", torch.zeros(3), floored)
    assert torch.equal(network.statistics("input")[1], floored)


@pytest.mark.parametrize("dead", [1, 2])
def test_near_dead_filters_stay_quiet(dead: int) -> None:
    """One grey level of difference in a filter that never answers must not drown the others."""
    network = identity()
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x[:, :dead] *= 1e-4
    network.fit_statistics([x], ["input"])
    changed = x.clone()
    changed[:, :dead] += 1e-2
    difference = (network(changed, ["input"])["input"] - network(x, ["input"])["input"]).abs()
    assert float(difference.max()) < 5
    assert network(x, ["input"])["input"][:, dead:].std() == pytest.approx(1, abs=0.05)


def test_a_constant_layer_stays_finite() -> None:
    network = identity()
    network.fit_statistics([one_colour(0.25, 0.25, 0.25)], ["input"])
    assert torch.isfinite(network(one_colour(1, 1, 1), ["input"])["input"]).all()


def test_statistics_need_images_and_numbers() -> None:
    network = identity()
    with pytest.raises(ModelError, match="at least one image"):
        network.fit_statistics([], ["input"])
    with pytest.raises(ModelError, match="damaged"):
        network.set_statistics("input", torch.zeros(3), torch.tensor([1.0, torch.nan, 1.0]))
    with pytest.raises(ModelError, match="no layer"):
        network.set_statistics("output", torch.zeros(3), torch.ones(3))


def test_flops_are_two_for_a_multiplication_and_an_addition() -> None:
    stage = Stage("conv", nn.Conv2d(3, 5, 3, padding=1))
    network = PerceptualNetwork("one", [stage], SYMMETRIC, "conv")
    assert network.flops(8) == 2 * 8 * 8 * 5 * 3 * 3 * 3
    assert network.parameter_count() == 5 * 3 * 9 + 5

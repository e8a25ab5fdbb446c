"""The relative perceptual L1 by hand, its map, and the input of a transition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.autoencoder import mix_resolutions, pixel_map, relative_l1
from wsi_anomaly.autoencoder.loss import weighted_l1


def test_by_hand():
    truth = torch.tensor([1.0, -1.0, 2.0, 0.0]).view(1, 1, 2, 2)
    found = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    # mean |difference| = (0 + 2 + 1 + 0) / 4; mean |truth| = (1 + 1 + 2 + 0) / 4
    assert relative_l1(truth, found).tolist() == [0.75]


@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_properties(seed, factor):
    g = torch.Generator().manual_seed(seed)
    truth, found = (torch.randn(3, 4, 5, 5, generator=g) for _ in range(2))
    loss = relative_l1(truth, found)
    assert loss.shape == (3,)
    assert (loss > 0).all()
    assert torch.equal(relative_l1(truth, truth), torch.zeros(3))
    assert torch.allclose(relative_l1(factor * truth, factor * found), loss, rtol=1e-4)
    # Zero everywhere is worth exactly 1, whatever the image.
    assert torch.allclose(relative_l1(truth, torch.zeros_like(truth)), torch.ones(3))


def test_the_denominator_does_not_learn():
    truth = torch.ones(1, 1, 2, 2, requires_grad=True)
    relative_l1(truth, torch.zeros(1, 1, 2, 2)).sum().backward()
    # d/dtruth of mean|truth - 0| / const = 1/4 each; with the quotient rule it would be 0.
    assert truth.grad.flatten().tolist() == [0.25] * 4


def test_several_layers_are_a_weighted_mean():
    truth = {"a": torch.ones(1, 1, 1, 1), "b": torch.ones(1, 1, 1, 1)}
    found = {"a": torch.zeros(1, 1, 1, 1), "b": torch.full((1, 1, 1, 1), 0.5)}
    assert weighted_l1(truth, found, {"a": 3.0, "b": 1.0}).item() == pytest.approx(0.875)


def test_the_map_averages_to_the_score_and_lies_where_the_error_is():
    truth = torch.ones(1, 2, 8, 8)
    found = truth.clone()
    found[:, :, :, 4:] = 0
    error = pixel_map(truth, found, 8)
    assert error.shape == (1, 8, 8)
    assert error.mean().item() == pytest.approx(relative_l1(truth, found).item())
    assert error[0, :, :4].max() == 0
    assert error[0, :, 4:].min() == 1
    assert pixel_map(truth, found, 32).shape == (1, 32, 32)


def test_the_input_of_a_transition_by_hand():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    low = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    low = low.repeat_interleave(2, 0).repeat_interleave(2, 1).view(1, 1, 4, 4)
    mixed = mix_resolutions(images, 4, 0.25)
    assert torch.allclose(mixed, 0.75 * low + 0.25 * images)
    assert torch.equal(mix_resolutions(images, 4, 1.0), images)
    assert mix_resolutions(images, 2, 1.0).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]

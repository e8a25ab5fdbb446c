"""The shipped ``compact``: small, cheap, complete, and what its description says."""

from __future__ import annotations

import json

import pytest
import torch

from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.compact import STRIDES, WIDTHS


@pytest.fixture(scope="module")
def compact() -> PerceptualNetwork:
    return load_features("compact")


def test_it_keeps_to_its_budget(compact: PerceptualNetwork) -> None:
    assert (models_folder() / "compact.safetensors").stat().st_size <= 4_000_000
    assert compact.parameter_count() <= 1_000_000
    assert compact.flops(64) <= 60_000_000


def test_every_layer_has_its_statistics_and_its_grid(compact: PerceptualNetwork) -> None:
    assert compact.layers == ("c2", "c3", "c4")
    x = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for layer, f in compact(x, compact.layers).items():
        assert f.shape == (2, WIDTHS[layer], 128 // STRIDES[layer], 128 // STRIDES[layer])
        assert torch.isfinite(f).all()


def test_its_description_tells_the_truth(compact: PerceptualNetwork) -> None:
    description = json.loads((models_folder() / "compact.json").read_text(encoding="utf-8"))
    assert description["parameters"] == compact.parameter_count()
    assert description["layers"] == list(compact.layers)
    for layer in compact.layers:
        assert description["flops_64px"][layer] == compact.flops(64, [layer])
    card = (models_folder() / "compact.md").read_text(encoding="utf-8")
    assert f"{description['steps']:,} steps" in card
    for source in description["sources"]:
        assert source in card
    assert "not for diagnosis" in card.lower()


def test_trained_filters_differ_from_random_ones(compact: PerceptualNetwork) -> None:
    """No filter of the shipped network is dead over simple colour patterns."""
    coarse = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    for layer, f in compact.activations(x, compact.layers).items():
        alive = float(((f.amax((0, 2, 3)) - f.amin((0, 2, 3))) > 1e-4).float().mean())
        assert alive > 0.8, layer

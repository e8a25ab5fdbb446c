"""Tensors on the disk: whole, exact, harmless."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.tensors import load_optimizer, load_tensors, optimizer_tensors, save_tensors


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"step": 3, "log": [1.5, None]})
    found, metadata = load_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(found[n], t) for n, t in tensors.items())
    assert metadata == {"step": 3, "log": [1.5, None]}


@pytest.mark.parametrize("cut", [0, 4, 50, -1])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.randn(30)}, {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="missing or damaged"):
        load_tensors(path)


def test_an_optimiser_goes_on_where_it_was() -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 1)
        return layer, torch.optim.Adam(layer.parameters(), lr=0.1)

    def step(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()

    straight, optimizer = make()
    for _ in range(4):
        step(straight, optimizer)
    first, optimizer = make()
    for _ in range(2):
        step(first, optimizer)
    second, fresh = make()
    second.load_state_dict(first.state_dict())
    load_optimizer(fresh, optimizer_tensors(optimizer))
    for _ in range(2):
        step(second, fresh)
    assert torch.equal(second.weight, straight.weight)

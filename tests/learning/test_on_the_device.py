"""Tiles that lie on a GPU: cut and flipped there, the same as those made beforehand.

Without a card its tensors are fake ones, which know shapes and devices and compute nothing.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from wsi_anomaly.learning.batches import ArrayTiles, BatchStream, Crops

SIZE, STORED = 8, 13


def noise(count: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, STORED, STORED, 3), np.uint8)


def device() -> str:
    return "cuda:0" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize(
    "source",
    [
        ArrayTiles(noise()[:, :SIZE, :SIZE]),
        ArrayTiles(noise(), SIZE),
        Crops(ArrayTiles(noise(), 11), SIZE),
    ],
    ids=["whole", "with room", "crops"],
)
def test_what_is_cut_there_is_what_would_have_been_sent(
    source: ArrayTiles | Crops, flips: bool
) -> None:
    for rank in (0, 1):
        sent = BatchStream(source, 6, seed=3, rank=rank, world=2, flips=flips)
        there = BatchStream(source, 6, seed=3, device=device(), rank=rank, world=2, flips=flips)
        there._resident = there._stored()
        for k in (0, 1, 70, 2):  # back again, too, as after a resume
            assert torch.equal(there.batch(k).cpu(), sent.batch(k))


class _Copies(TorchDispatchMode):
    """Counts operations that compute, and copies from the processor's memory to the card's."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.all += func.namespace == "aten" and not func.is_view
        found = func(*args, **(kwargs or {}))
        source = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if source is not None and isinstance(found, torch.Tensor):
            self.copies += source.device != found.device
        return found


def test_a_batch_on_a_card_takes_few_operations_and_its_draws_come_for_many_steps_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (2**30, 2**31))
    with FakeTensorMode(allow_non_fake_inputs=True):
        stream = BatchStream(ArrayTiles(noise(), SIZE), 6, seed=3, device="cuda:0")
        assert stream._resident is not None
        assert stream._resident.device == torch.device("cuda:0")
        stream.batch(0)
        with _Copies() as seen:
            batch = stream.batch(1)
    assert batch.device == torch.device("cuda:0")
    assert batch.shape == (6, 3, SIZE, SIZE)
    assert seen.copies == 0
    assert seen.all < 15


def test_what_does_not_fit_beside_the_training_stays_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (10_000, 2**31))
    assert BatchStream(ArrayTiles(noise(), SIZE), 6, seed=3, device="cuda:0")._resident is None

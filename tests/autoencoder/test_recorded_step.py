"""The step that a GPU records as a graph: tried on the processor, with a graph that is made up.

Alpha is a tensor in it, its inputs stay where they are, and nothing in it waits for the device.
Where there is a card the same is tried on it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from networks import random_network, textured_tiles
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, GrowthTrainer, Stage, growth
from wsi_anomaly.autoencoder.blocks import Conv3, Residual
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.learning import recorded
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream, to_images
from wsi_anomaly.learning.loop import LoopConfig, TrainingLoop

CARD = torch.device("cuda:1")
DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
ARCHITECTURE = Architecture(resolution=32, first_resolution=8, latent_resolution=4)
STAGES = (
    Stage(8, transition=False, steps=5),
    Stage(16, transition=True, steps=6),
    Stage(16, transition=False, steps=5),
    Stage(32, transition=True, steps=6),
    Stage(32, transition=False, steps=5),
)
LAYERS = {8: {"a": 1.0}, 16: {"b": 1.0}, 32: {"b": 1.0}}


def trainer(monkeypatch: pytest.MonkeyPatch, *, recording: bool, **config: float) -> GrowthTrainer:
    monkeypatch.setattr(growth, "can_record", lambda _device: recording)
    torch.manual_seed(0)
    return GrowthTrainer(
        ProgressiveAutoencoder(ARCHITECTURE).to(DEVICE), random_network().to(DEVICE), STAGES,
        GrowthConfig(layers=LAYERS, **config),
    )  # fmt: skip


def images(count: int = 8) -> torch.Tensor:
    return to_images(textured_tiles(count, size=32), DEVICE)


def losses(learner: GrowthTrainer, stage: int) -> list[float]:
    learner.start_stage(stage)
    return [float(learner.step((images(),), k).loss) for k in range(STAGES[stage].steps)]


@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_every_stage_and_both_transitions_have_the_losses_of_the_plain_step(
    monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    plain = losses(trainer(monkeypatch, recording=False), stage)
    played = losses(trainer(monkeypatch, recording=True), stage)
    assert played == pytest.approx(plain, rel=1e-4)


def test_the_plain_step_is_taken_where_nothing_can_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not recorded.can_record(torch.device("cpu"))
    assert recorded.can_record(torch.device("cuda:0"))
    monkeypatch.setattr(recorded, "rank_and_world", lambda: (0, 2))  # gradients are averaged
    assert not recorded.can_record(torch.device("cuda:0"))
    critic = trainer(monkeypatch, recording=True, adversarial_weight=0.1)
    assert critic._recorded is None  # it draws random numbers


def stopped_after(
    steps: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch, *, recording: bool = True
) -> dict[str, torch.Tensor]:
    learner = trainer(monkeypatch, recording=recording)
    stream = BatchStream(ArrayTiles(textured_tiles(40, size=32)), 8, 3, DEVICE)

    def stop(report: object) -> None:
        if report.step == steps:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    loop = TrainingLoop(
        learner, stream, [stage.steps for stage in STAGES], LoopConfig(report_every=1),
        checkpoint=folder / "dpa.safetensors", identity={}, progress=stop,
    )  # fmt: skip
    if steps is None:
        loop.run()
    else:
        with pytest.raises(KeyboardInterrupt):
            loop.run()
    return {name: tensor.cpu().clone() for name, tensor in learner.autoencoder.state_dict().items()}


def test_a_recorded_training_goes_on_from_its_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = stopped_after(None, tmp_path / "whole", monkeypatch)
    stopped_after(8, tmp_path / "cut", monkeypatch)  # in the first transition
    resumed = stopped_after(None, tmp_path / "cut", monkeypatch)
    exact = DEVICE == "cpu"
    for name, tensor in whole.items():
        assert torch.allclose(tensor, resumed[name], rtol=0 if exact else 1e-3, atol=0), name


def test_a_checkpoint_of_a_plain_training_serves_a_recorded_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole = stopped_after(None, tmp_path / "whole", monkeypatch, recording=False)
    stopped_after(8, tmp_path, monkeypatch, recording=False)
    resumed = stopped_after(None, tmp_path, monkeypatch)
    for name, tensor in whole.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-3), name


class _Operations(TorchDispatchMode):
    """Counts what would be launched, and what would wait: values asked for, and other devices."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.all += func.namespace == "aten" and not func.is_view
        self.moved += "device" in (kwargs or {}) and func._opname == "_to_copy"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("stage", "most"), [(0, 150), (1, 300), (2, 210), (3, 360), (4, 260)])
def test_a_step_asks_for_no_value_and_takes_few_operations(
    monkeypatch: pytest.MonkeyPatch, stage: int, most: int
) -> None:
    monkeypatch.setattr(growth, "can_record", lambda _device: True)
    network = random_network()
    # Fake tensors have no values: asking for one (.item(), bool(), .tolist()) fails.
    with FakeTensorMode(allow_non_fake_inputs=True):
        autoencoder = ProgressiveAutoencoder(ARCHITECTURE)
        for module in autoencoder.modules():
            if isinstance(module, Conv3 | Residual):
                module.fused = False  # what narrow blocks are on a processor alone
        learner = GrowthTrainer(autoencoder, network, STAGES, GrowthConfig(layers=LAYERS))
        learner.start_stage(stage)
        batch = torch.empty(8, 3, 32, 32)
        learner.step((batch,), 0)
        with _Operations() as seen:
            learner.step((batch,), 1)
    assert seen.moved == 0
    assert seen.all <= most


class _Graph:
    """Stands for a CUDA graph: plays back what was called while it recorded."""

    def __init__(self) -> None:
        self.played = 0

    def replay(self) -> None:
        self.played += 1


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[_Graph]:
    """The second of two cards that are not there; gives the graphs that were recorded."""
    graphs: list[_Graph] = []
    current: list[torch.device] = [torch.device("cuda:0")]

    def graph(recording: _Graph, **_: object) -> nullcontext[None]:
        assert current[-1] == CARD  # or nothing of what is launched there would be recorded
        graphs.append(recording)
        return nullcontext()

    @contextmanager
    def device(chosen: torch.device) -> Iterator[None]:
        current.append(chosen)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)

    stream = type("Stream", (), {"wait_stream": lambda _self, _other: None})
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    return graphs


def called_on_a_card(work, times: int) -> list[torch.Tensor]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = recorded.Recorded(work)
        return [step(torch.empty(2, device=CARD)) for _ in range(times)]


def test_what_was_called_three_times_is_recorded_once_and_played_back(
    made_up: list[_Graph],
) -> None:
    inputs: list[int] = []

    def work(x: torch.Tensor) -> torch.Tensor:
        inputs.append(id(x))
        return x.sum()

    found = called_on_a_card(work, 10)
    assert len(inputs) == 3 + 1  # as they are, and once to record
    assert len(set(inputs)) == 1  # its place in memory stays
    assert [graph.played for graph in made_up] == [10 - 3]
    assert len({id(loss) for loss in found}) == 10  # none is written over by the next step


def test_where_recording_fails_training_goes_on_and_says_so_once(
    made_up: list[_Graph], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[bool] = []

    def work(x: torch.Tensor) -> torch.Tensor:
        calls.append(True)
        if len(calls) == 4:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return x.sum()

    with caplog.at_level(logging.WARNING):
        found = called_on_a_card(work, 6)
    assert len(found) == 6
    assert len(calls) == 6 + 1
    assert [graph.played for graph in made_up] == [0]
    [line] = caplog.messages
    assert line.endswith("slower for it: operation not permitted when stream is capturing")

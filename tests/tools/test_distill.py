"""Training ``compact``: aligned with its teacher, resumable, the normalisation folded exactly."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from corpus_folder import make_corpus_folder
from torch import Tensor, nn

import distill
from distill import TARGETS, Distillation, build_student, learning_rate
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.tensors import load_tensors, save_tensors
from wsi_anomaly.features import load_features
from wsi_anomaly.features.compact import STRIDES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_corpus_folder(tmp_path_factory.mktemp("data"))
    save_tensors(
        folder / "teacher.safetensors", *load_features("squeezenet", random_seed=0).to_state()
    )
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few small steps, a checkpoint after every other one."""
    for name, value in {"BATCH": 4, "SAVE_EVERY": 2, "STATISTICS_BATCHES": 2, "WARM_UP": 2}.items():
        monkeypatch.setattr(distill, name, value)


def options(folder: Path, output: Path, **others: Any) -> argparse.Namespace:
    values = {
        "data": folder,
        "teacher": folder / "teacher.safetensors",
        "output": output,
        "steps": 6,
        "learning_rate": 3e-3,
        "leave_out": [],
        "seed": 0,
    }
    return argparse.Namespace(**values | others)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupt the training when it asks for the batch of `step`."""
    batch = distill._batch

    def interrupted(corpus: Any, seed: int, number: int) -> Tensor:
        if number == step:
            raise KeyboardInterrupt
        return batch(corpus, seed, number)

    monkeypatch.setattr(distill, "_batch", interrupted)


def patterns(count: int) -> Tensor:
    """Smooth colour patterns, RGB in 0..255."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return 255 * nn.functional.interpolate(coarse, size=64, mode="bilinear")


@pytest.mark.parametrize("layer", ["c2", "c3"])
def test_the_teachers_grid_lies_on_the_students(layer: str) -> None:
    """A spot in the middle of a cell changes the teacher's activation most in that cell."""
    model = Distillation(load_features("squeezenet", random_seed=0))
    stride = STRIDES[layer]
    name = TARGETS[layer][0]
    cells = 64 // stride
    for row, column in ((cells // 2, cells // 2), (2, cells - 3)):
        image = torch.full((1, 3, 64, 64), 128.0)
        spot = image.clone()
        size = stride // 4
        y, x = (stride * i + stride // 2 for i in (row, column))
        spot[..., y - size : y + size, x - size : x + size] = 255
        change = (model.teach(spot)[name] - model.teach(image)[name]).abs().sum(1)[0]
        assert divmod(int(change.argmax()), cells) == (row, column)


def test_folding_the_normalisation_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Distillation(load_features("squeezenet", random_seed=0))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    student = build_student(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in student.modules())
    x = torch.rand(3, 3, 64, 64) * 2 - 1
    found = student.activations(x, student.layers)
    model.eval()
    with torch.no_grad():
        for layer, stage in model.stages.items():
            x = stage(x)
            torch.testing.assert_close(found[layer], x, rtol=1e-4, atol=1e-4)
    assert model.stages["c2"][0][1].weight is not None, "the model itself stays as it was"


@torch.no_grad()
def test_predicting_the_average_costs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors are in units of the teacher's own spread."""
    monkeypatch.setattr(distill, "CLIP", float("inf"))
    torch.manual_seed(0)
    model = Distillation(load_features("squeezenet", random_seed=0)).eval()
    images = patterns(64)
    model.fit_targets([images])
    for head in model.heads.values():
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    losses = model.losses(images)
    for name, found in model.teach(images).items():
        target = model.targets[name]
        # 1 for each filter, less for those that are nearly dead: their std is floored.
        spread = found.var((0, 2, 3), correction=0) / target.std.flatten() ** 2
        pooled = found.mean((2, 3)).var(0, correction=0) / target.pooled_std**2
        assert float(losses[name]) == pytest.approx(float(spread.mean()), rel=0.01)
        assert float(losses[f"{name} mean"]) == pytest.approx(float(pooled.mean()), rel=0.01)
        assert 0.5 < float(spread.mean()) < 1.001
        assert float(spread.median()) == pytest.approx(1, abs=0.01)


def test_the_student_learns_to_predict_the_teacher() -> None:
    torch.manual_seed(0)
    teacher = load_features("squeezenet", random_seed=0)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    model = Distillation(teacher)
    images = patterns(16)
    model.fit_targets([images])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    curve = []
    for _ in range(25):
        losses = model.losses(images)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        curve.append({name: loss.item() for name, loss in losses.items()})
    for name, last in curve[-1].items():
        assert last < 0.8 * curve[0][name], name
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


@pytest.mark.usefixtures("short")
def test_an_interrupted_run_resumes_on_the_same_curve(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill.run(options(folder, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            distill.run(options(folder, tmp_path / "parts"))
    assert load_tensors(tmp_path / "parts" / distill.CHECKPOINT)[1]["step"] == 2
    distill.run(options(folder, tmp_path / "parts"))
    names = ("whole", "parts")
    whole, parts = (load_tensors(tmp_path / name / "compact.safetensors") for name in names)
    assert whole[1] == parts[1]
    assert whole[0].keys() == parts[0].keys()
    assert all(torch.equal(value, parts[0][key]) for key, value in whole[0].items())
    descriptions = [json.loads((tmp_path / n / "compact.json").read_text()) for n in names]
    assert descriptions[0] == descriptions[1]
    assert descriptions[0]["steps"] == descriptions[0]["held_out_error"]["step"] == 6
    assert not (tmp_path / "parts" / distill.CHECKPOINT).exists()
    network = load_features("compact", weights=tmp_path / "parts" / "compact.safetensors")
    assert all(network.has_statistics(layer) for layer in network.layers)


@pytest.mark.usefixtures("short")
def test_the_length_may_change_before_the_rate_falls_and_nothing_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            distill.run(options(folder, tmp_path / "run", steps=8))
    for other in ({"seed": 1}, {"learning_rate": 1e-3}, {"leave_out": ["oral"]}, {"steps": 2}):
        with pytest.raises(UsageError, match="other options"):
            distill.run(options(folder, tmp_path / "run", **other))
    distill.run(options(folder, tmp_path / "run"))
    distill.run(options(folder, tmp_path / "straight"))
    one, two = (load_tensors(tmp_path / n / "compact.safetensors")[0] for n in ("run", "straight"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / distill.WARM_UP)
    assert rates[distill.WARM_UP : 700] == [1.0] * (700 - distill.WARM_UP)
    assert rates[850] == pytest.approx(0.5)
    assert rates[999] == pytest.approx(1 / 300)


def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["distill", str(tmp_path / "no"), "--teacher", "t.npz", "-o", str(tmp_path / "o")]
    monkeypatch.setattr("sys.argv", arguments)
    assert distill.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()

"""Adapting ``lite0`` to tissue: resumable, blind to stain, its result is a network of ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import adapt
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.tensors import load_tensors
from wsi_anomaly.features import load_features


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps, a checkpoint after every one."""
    sizes = {"SLIDES": 2, "PLACES": 3, "WAITING": 6, "SIDE": 32, "SOURCE": 72, "SAVE_EVERY": 1}
    for name, value in sizes.items():
        monkeypatch.setattr(adapt, name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of three slides and their windows as they are kept."""
    (tmp_path / "windows").mkdir()
    lines = ["case,half,mpp"]
    for number, (case, half) in enumerate({"a": "choose", "b": "choose", "c": "untouched"}.items()):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (4, 64, 64, 3), np.uint8)
        np.save(tmp_path / "windows" / f"{case}.npy", coarse.repeat(8, 1).repeat(8, 2))
        lines.append(f"{case},{half},0.5")
    (tmp_path / "cases.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def options(folder: Path, output: str, **others: Any) -> argparse.Namespace:
    (folder / output).mkdir(exist_ok=True)
    values = {
        "clones": folder, "slides": [folder / "cases.csv"], "leave_out": [], "start": None,
        "windows": folder / "windows", "output": folder / output, "steps": 3, "rate": 1e-3,
        "seed": 0,
    }  # fmt: skip
    return argparse.Namespace(**values | others)


@pytest.mark.usefixtures("short")
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapt.run(options(folder, "whole"))
    views = adapt.views

    def interrupted(slides: Any, rng: np.random.Generator) -> adapt.Views:
        if (folder / "parts" / adapt.CHECKPOINT).exists():
            raise KeyboardInterrupt
        return views(slides, rng)

    monkeypatch.setattr(adapt, "views", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adapt.run(options(folder, "parts"))
    monkeypatch.setattr(adapt, "views", views)
    adapt.run(options(folder, "parts"))
    whole, parts = (
        load_tensors(folder / name / "adapted.safetensors")[0] for name in ("whole", "parts")
    )
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


@pytest.mark.usefixtures("short")
def test_the_result_is_lite0_up_to_b6_with_its_first_stages_as_they_were(folder: Path) -> None:
    adapt.run(options(folder, "out"))
    made = folder / "out" / "adapted.safetensors"
    adapted, plain = load_features("lite0", weights=made), load_features("lite0")
    assert adapted.layers == plain.layers[:6]
    assert load_tensors(made)[1]["made"]["slides"] == ["a", "b"]  # the untouched half is none
    for layer in adapted.layers:
        pairs = zip(
            adapted.stages[layer].parameters(), plain.stages[layer].parameters(), strict=True
        )
        same = all(torch.equal(ours, theirs) for ours, theirs in pairs)
        assert same == (layer in adapt.FROZEN)


@pytest.mark.usefixtures("short")
def test_another_run_is_no_continuation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "export", interrupt)
    with pytest.raises(KeyboardInterrupt):
        adapt.run(options(folder, "out"))
    with pytest.raises(UsageError, match="belongs to another training"):
        adapt.run(options(folder, "out", steps=4))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("short")
def test_the_right_place_among_those_of_its_slide_costs_least() -> None:
    keys = torch.nn.functional.normalize(torch.randn(6, adapt.WIDTH), dim=1)
    windows = torch.tensor([0, 1, 2, 0, 1, 2])
    seen = adapt.Views(np.array([0, 1]), windows, Tensor(), Tensor())
    right = adapt.contrast_loss(keys, keys, seen, adapt.Waiting(2))
    wrong = adapt.contrast_loss(keys.roll(1, 0), keys, seen, adapt.Waiting(2))
    assert right < 0.1 < wrong


@pytest.mark.usefixtures("short")
def test_places_of_one_window_are_no_wrong_answers_for_each_other() -> None:
    keys = torch.ones(6, adapt.WIDTH) / adapt.WIDTH**0.5
    seen = adapt.Views(np.array([0, 1]), torch.zeros(6, dtype=torch.int64), Tensor(), Tensor())
    assert float(adapt.contrast_loss(keys, keys, seen, adapt.Waiting(2))) == pytest.approx(0)


def test_views_of_a_place_differ_and_depend_on_the_draw_alone() -> None:
    slides = [
        np.random.default_rng(n).integers(0, 256, (3, 512, 512, 3), np.uint8) for n in range(4)
    ]
    one, again = (adapt.views(slides, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one.first, again.first)
    assert not torch.equal(one.first, one.second)
    assert one.first.shape == (adapt.SLIDES * adapt.PLACES, 3, adapt.SIDE, adapt.SIDE)
    assert 0 <= float(one.first.min()) <= float(one.first.max()) <= 255

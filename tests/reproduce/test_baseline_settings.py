"""The baselines, held against facts written down by us.

``baseline_settings.csv`` holds one line for each system and problem: what the configurations of the
authors' repository (ninatu/anomaly_detection, the folders ``reproduce``) and its program make of
them. ``size`` is the network: for piad the widths of encoder / image critic / latent; ``steps`` of
deep-geo are three rounds over 72 transforms of every training image, each round with a last,
smaller batch.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_anomaly.baselines import DeepGeo, DeepIf, Piad
from wsi_anomaly.features import load_features
from wsi_anomaly.reproduce.experiment import Bench
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.problems import Problem
from wsi_anomaly.reproduce.rows import make_detector, settings_of

FACTS = Path(__file__).with_name("baseline_settings.csv")
PLAN = Plan()  # vgg19, full length


def facts() -> list[dict[str, str]]:
    with FACTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def network():
    return load_features("vgg19", random_seed=0)


@pytest.mark.parametrize("line", facts(), ids=lambda line: "-".join(list(line.values())[:3]))
def test_every_system_is_configured_as_published(line, network) -> None:
    settings = settings_of(line["system"], line["set"], line["problem"], PLAN)
    config = make_detector(settings, network, 0).config.to_dict()
    assert settings["equalise"] == bool(int(line["equalise"]))
    assert "grey" not in settings  # digits have their colours
    if line["system"] == "deep-if":
        # The network is another (docs/method.md), the forest is the same.
        assert f"{config['trees']} trees of {config['samples']}" == line["size"]
        assert config["layers"]
        assert config["most_tiles"] >= 34_497  # every training image of any problem
        return
    found = {
        "resolution": config["resolution"],
        "image_channels": config["image_channels"],
        "steps": config["steps"],
        "batch_size": config["batch_size"],
    }
    assert {name: str(value) for name, value in found.items()} == {n: line[n] for n in found}
    assert settings["published"] == [int(line["steps"]), int(line["batch_size"])]
    if line["system"] == "deep-geo":
        assert f"WRN-{config['depth']}-{config['width']}" == line["size"]
        assert (config["learning_rate"], config["weight_decay"]) == (1e-3, 2.5e-4)
        assert 3 * -(-72 * config["dirichlet_tiles"] // 128) == config["steps"]
    else:
        detector = make_detector(settings, network, 0)
        sizes = (detector.config.architecture().widths, detector.config.critic().widths)
        text = "/".join("-".join(map(str, widths)) for widths in sizes)
        assert f"{text}/{config['latent']}" == line["size"]
        assert config["layer"] == line["layers"]
        rates = (config["learning_rate"], config["critic_learning_rate"])
        assert (*rates, config["critic_steps"], config["weigh_every"]) == (2e-4, 5e-4, 2, 100)


def test_every_problem_of_the_paper_is_there() -> None:
    lines = facts()
    assert len(lines) == 3 * (10 + 10 + 3 + 1)
    assert len({(line["system"], line["set"], line["problem"]) for line in lines}) == len(lines)


def test_another_set_has_the_sizes_of_the_chest_subset_in_colour(network) -> None:
    for row in ("deep-geo", "piad"):
        own = settings_of(row, "folder", "normal", PLAN)
        subset = settings_of(row, "nih", "subset", PLAN)
        assert own == subset | {"image_channels": 3}


class _Colours:
    """Digits of one colour each; tiles larger than what is judged."""

    key, title, classes, errors, notes = "svhn", "SVHN", ("3",), (), ()
    divided_by_seed = False

    def problem(self, name, *, size, equalise, seed):
        rng = np.random.default_rng(0)
        learn, judge, known = (
            rng.integers(0, 255, (n, side, side, 3), dtype=np.uint8)
            for n, side in ((12, size + 32), (4, size), (2, size))
        )
        return Problem(
            name, learn, np.arange(12), judge, np.arange(4) > 1, 20 + np.arange(4),
            np.array(["3", "3", "4", "4"]), known, "4",
        )  # fmt: skip


def test_the_baselines_see_the_middle_in_colour_the_autoencoder_any_part(
    tmp_path, monkeypatch
) -> None:
    seen = {}

    def note(detector, tiles, validation=None, fitting=None):
        seen[detector.name] = tiles
        detector.networks_ = torch.nn.ModuleDict()
        return detector

    from wsi_anomaly.detectors import Dpa

    for kind in (Dpa, DeepGeo, Piad, DeepIf):
        monkeypatch.setattr(kind, "fit", note)
        monkeypatch.setattr(kind, "score_samples", lambda _, tiles: tiles.mean((1, 2, 3)))
    bench = Bench(_Colours(), Plan(features="compact", aside=0), tmp_path)
    for row in ("dpa", "deep-geo", "piad", "deep-if"):
        bench.run(bench.place(row, "3", 0))
    pixels = {name: tiles.images for name, tiles in seen.items()}
    assert pixels["dpa"].shape[1] == 64
    assert (pixels["dpa"][..., 0] == pixels["dpa"][..., 2]).all()
    for name in ("deep-geo", "piad"):
        assert pixels[name].shape[1] == 32
        assert (pixels[name][..., 0] != pixels[name][..., 2]).any()
    assert pixels["deep-if"].shape[1] == 64

"""Presets are what they claim; files are checked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wsi_anomaly.baselines import BASELINES
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.training.config import PRESETS, TrainConfig, load_config


def test_paper_is_the_published_schedule():
    dpa = PRESETS["paper"].dpa("r42")
    assert [(s.resolution, s.transition, s.steps) for s in dpa.stages] == [
        (16, False, 20_000), (32, True, 20_000), (32, False, 20_000),
        (64, True, 20_000), (64, False, 8_666),
    ]  # fmt: skip
    assert sum(s.steps for s in dpa.stages) == 88_666
    assert (dpa.batch_size, dpa.growth.learning_rate) == (128, 1e-3)
    assert dpa.growth.layers == {16: {"r32": 1.0}, 32: {"r32": 1.0}, 64: {"r42": 1.0}}
    architecture = dpa.architecture
    assert (architecture.widths, architecture.latent_channels, architecture.latent_resolution) == (
        (4,), 4, 8,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_configuration_survives_the_model_folder(name):
    config = PRESETS[name]
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())), "here")
    assert again == config


def test_a_file_changes_what_it_names(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'batch_size = 64\nwidths = [4, 8, 8, 16]\n[layers]\n64 = {c2 = 1, c3 = 2}\n32 = "c2"\n'
        "[steps]\n16 = [0, 10]\n32 = [5, 10]\n64 = [5, 20]\n"
    )
    config = load_config(str(path))
    assert config.batch_size == 64
    assert config.dpa("c3").growth.layers[64] == {"c2": 1.0, "c3": 2.0}
    assert config.learning_rate == PRESETS["fast"].learning_rate


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bach_size = 64", "unknown entry 'bach_size'"),
        ("batch_size = [", "cannot be read"),
        ("batch_size = 0", "positive"),
        ("detector = 'magic'", "no detector 'magic'"),
        ("magnification = 7", "10, 20 or 40"),
        ("resolution = 60", "do not suit"),
        ("tile_size = 60", "unknown entry"),
        ("first_resolution = 8", "no steps for 8 px"),
        ("[steps]\n16 = 3", "makes no sense"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_config(str(path))


def test_neither_preset_nor_file():
    with pytest.raises(UsageError, match="fast or paper"):
        load_config("slow")


@pytest.mark.parametrize("name", list(BASELINES))
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_compared_system_can_be_chosen(preset, name):
    config = replace(PRESETS[preset].ranked_by(name), seed=7)
    assert config.methods == (name,)
    own = config.settings(name, "c3")
    assert own.seed == 7
    # Tissue has no upside; but what learns to see flips must not be shown any.
    assert getattr(own, "flips", False) == (name not in ("deep-if", "deep-geo"))
    assert type(own).from_dict(json.loads(json.dumps(own.to_dict()))) == own


def test_options_of_a_compared_system_go_over_those_of_the_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'features = "compact"\ndetector = "deep-if"\nseed = 3\n[options.deep-if]\ntrees = 20\n'
    )
    own = load_config(str(path)).settings("deep-if", "c3")
    assert (own.trees, own.samples, own.seed, own.layers) == (20, 256, 3, ("c2", "c3"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[options.magic]\ntrees = 3", "not 'magic'"),
        ("[options.deep-if]\ntree = 3", "unknown entry 'tree'"),
        ("[options.deep-if]\ntrees = 3.5", "no whole number"),
        ("[options.deep-if]\ntrees = 0", "positive"),
        ("[options.deep-if]\nlayers = []", "at least one layer"),
        ("options = 3", "makes no sense"),
        ("[options]\ndeep-if = 3", "makes no sense"),
    ],
)
def test_options_that_make_no_sense_are_said(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_config(str(path))

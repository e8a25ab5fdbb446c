"""Every choice of the space can be trained; what the search begins with is one of them."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_cases import COMPACT, compact

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.features import load_features
from wsi_anomaly.options.train import SEARCHED
from wsi_anomaly.training.config import PRESETS, TrainConfig, load_config
from wsi_anomaly.tuning.files import config_toml
from wsi_anomaly.tuning.space import Space

VIEWS = {"10x": (10, 64), "20x": (20, 64)}
STRAIGHT = replace(COMPACT, first_resolution=64, steps={64: (0, 900)}, widths=(16, 16, 32, 32))
LAYERED = replace(
    COMPACT, layers={64: {"c2": 1.0, "c3": 2.0}}, density_layers=("c4",),
    density_estimator="knn",
)  # fmt: skip
BASES = {"fast": COMPACT, "no growing, wide": STRAIGHT, "layers of its own": LAYERED}


def sampled(space: Space, base: TrainConfig, seed: int) -> tuple[TrainConfig, str]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    return space.suggest(study.ask(), base)


@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
@pytest.mark.parametrize("detector", SEARCHED)
def test_the_search_begins_with_the_configuration_that_was_given(base, detector):
    space = Space.around(base, VIEWS, {"compact": compact()})
    trial = optuna.trial.FixedTrial(space.start(base, detector))
    config, view = space.suggest(trial, base)
    assert view == "10x"
    if detector == "density":
        assert config.density("c3") == base.density("c3")
    else:
        assert config.dpa("c3") == base.dpa("c3")
    assert config.detector == detector


@pytest.mark.parametrize("fields_um", [{"lite0": (256,)}, {}], ids=["fields", "tiles"])
def test_the_preset_is_judged_in_its_fields_or_in_tiles_where_they_cannot_be_had(fields_um):
    base, network = PRESETS["fast"], load_features("lite0")
    space = Space.around(base, VIEWS, {"lite0": network}, fields_um=fields_um)
    trial = optuna.trial.FixedTrial(space.start(base, "density"))
    config, _ = space.suggest(trial, base)
    judged = base if fields_um else replace(base, density_fields_um=())
    assert config.density(network.default_layer) == judged.density(network.default_layer)
    config, _ = space.suggest(optuna.trial.FixedTrial(space.start(base, "dpa")), base)
    assert config.dpa(network.default_layer) == base.dpa(network.default_layer)


@pytest.mark.parametrize("estimator", ["contrast", "contrast+directional"])
def test_an_estimator_of_the_usual_fields_is_chosen_for_these_alone(estimator):
    base, network = replace(PRESETS["fast"], density_estimator=estimator), load_features("lite0")
    space = Space.around(base, VIEWS, {"lite0": network}, fields_um={"lite0": (256,)})
    for seed in range(40):
        config, _ = sampled(space, base.ranked_by("density"), seed)
        if config.detector == "density":
            config.density(network.default_layer)  # raises if it does not suit the fields
    start = space.start(base, "density")
    assert space.suggest(optuna.trial.FixedTrial(start), base)[0].density_estimator == estimator


def test_the_published_configuration_is_in_its_space():
    base, network = PRESETS["paper"], load_features("vgg19", random_seed=0)
    space = Space.around(base, {"10x": (10, 64)}, {"vgg19": network, "compact": compact()})
    config, _ = space.suggest(optuna.trial.FixedTrial(space.start(base, "dpa")), base)
    assert config.dpa("r42") == base.dpa("r42")
    assert "r52" in space.layers["vgg19"]
    assert space.layers["compact"] == ("c3", "c2", "c4")


@given(st.integers(0, 10**6), st.sampled_from(list(BASES)))
def test_every_choice_is_a_configuration_that_train_reads(seed, name):
    base = BASES[name]
    space = Space.around(base, VIEWS, {"compact": compact(), "squeezenet": compact()})
    config, view = sampled(space, base, seed)
    assert VIEWS[view] == (config.magnification, config.field_um)
    architecture = config.architecture()  # raises if the parts do not fit
    dpa = config.dpa("c3")
    assert dpa.stages[-1].resolution == architecture.resolution
    assert set(dpa.growth.layers) == set(architecture.growth())


@pytest.mark.parametrize("fields_um", [None, (), (128, 256)])
def test_fields_are_written_as_they_were(tmp_path, fields_um):
    """TOML has no null: the network's usual fields are those that no entry names."""
    config = replace(PRESETS["fast"], density_fields_um=fields_um)
    (tmp_path / "config.toml").write_text(config_toml(config, []), encoding="utf-8")
    assert load_config(str(tmp_path / "config.toml")) == config


@given(st.integers(0, 10**6))
def test_a_written_configuration_is_read_as_it_was(tmp_path, seed):
    base = COMPACT
    space = Space.around(base, VIEWS, {"compact": compact()})
    config = replace(sampled(space, base, seed)[0], tuned_on=("a\\b", 'quoted "c"', "mäuse 7"))
    path = tmp_path / "config.toml"
    path.write_text(config_toml(config, ["a remark\nof two lines " * 9]), encoding="utf-8")
    assert load_config(str(path)) == config


def test_a_vector_as_bottleneck_needs_tiles_as_large_as_the_images():
    base = COMPACT
    networks = {"compact": compact()}
    assert 1 in Space.around(base, {"10x": (10, 64)}, networks).latent_resolutions
    assert 1 not in Space.around(base, VIEWS, networks).latent_resolutions


def test_reconstruction_compares_what_has_one_unit():
    base = COMPACT
    space = Space.around(base, VIEWS, {"compact": compact()}).for_reconstruction(base)
    assert space.detectors == ("dpa",)
    assert list(space.views) == ["10x"]
    assert space.layers == {"compact": ("c3",)}
    assert len(space.widths) > 1
    with pytest.raises(UsageError, match="keeps 40x"):
        Space.around(base, VIEWS, {"compact": compact()}).for_reconstruction(
            replace(base, magnification=40)
        )


def test_what_has_nothing_to_choose_is_said():
    with pytest.raises(UsageError, match="dpa and density, not for 'fusion'"):
        Space.around(COMPACT, VIEWS, {"compact": compact()}, ["fusion"])

"""One place for each option: flags of a command and keywords of a verb are fields of one object."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields
from typing import get_type_hints

import click
import pytest

import wsi_anomaly
from wsi_anomaly import options
from wsi_anomaly.cli.main import cli
from wsi_anomaly.core.errors import UsageError

VERBS = ("tile", "train", "tune", "calibrate", "check", "score", "learn", "evaluate")
# Of the command alone: what it shows, waiting for slides, and a study.
OWN = {"quiet", "verbose", "debug", "help", "watch", "settle"}
STUDY = {"table", "control", "blinded"}


def options_of(verb: str) -> type:
    return getattr(options, f"{verb.capitalize()}Options")


def command_of(verb: str) -> click.Command:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    return command


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_a_field_or_a_parameter_of_the_verb_with_the_same_default(verb: str) -> None:
    known = {field.name: field.default for field in fields(options_of(verb))}
    signature = inspect.signature(getattr(wsi_anomaly, verb)).parameters.values()
    known |= {p.name: p.default for p in signature if p.name not in ("options", "watch")}
    command = command_of(verb)
    named = {parameter.name for parameter in command.params}
    needed = [parameter for parameter in command.params if parameter.required]
    given = [word for p in needed for word in (*[o for o in p.opts if o[0] == "-"][:1], "given")]
    unsaid = command.make_context(verb, given).params
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.name in OWN | STUDY:
            continue
        if parameter.required:  # as the verb's keyword is
            assert known[parameter.name] is inspect.Parameter.empty
            continue
        assert parameter.name in known, f"{verb} {parameter.opts[0]}"
        found, default = unsaid[parameter.name], known[parameter.name]
        same = found == default or str(found) == default or (found == () and default is None)
        assert same, f"{verb} {parameter.opts[0]}"
    assert {field.name for field in fields(options_of(verb))} <= named


@pytest.mark.parametrize("verb", VERBS)
def test_the_keywords_of_a_verb_are_the_fields_with_their_types(verb: str) -> None:
    keywords = get_type_hints(getattr(options, f"{verb.capitalize()}Keywords"))
    hints = get_type_hints(options_of(verb))
    assert keywords == {field.name: hints[field.name] for field in fields(options_of(verb))}
    catching_all = inspect.signature(getattr(wsi_anomaly, verb)).parameters["changes"]
    assert catching_all.annotation == f"Unpack[{verb.capitalize()}Keywords]"


@pytest.mark.parametrize("verb", VERBS)
def test_options_do_not_change(verb: str) -> None:
    chosen = options_of(verb)()
    with pytest.raises(FrozenInstanceError):
        setattr(chosen, fields(chosen)[0].name, None)


@pytest.mark.parametrize(
    ("verb", "wrong", "said"),
    [
        ("tile", {"tile_size": 4}, "between 8 and 1024"),
        ("tile", {"labels": ["Tumour"]}, "--annotations"),
        ("tile", {"stain": "none", "per_tile": True}, "leaves colours alone"),
        ("tile", {"stain": "pink"}, "Stain methods are"),
        ("tile", {"mpp": 250}, "not plausible"),
        ("tile", {"workers": 0}, "at least 1 worker"),
        ("tile", {"backend": "magic"}, "Readers of slides are"),
        ("score", {"stride_um": 0.5}, "at least one micrometre"),
        ("score", {"false_regions": 0}, "more than 0"),
        ("score", {"fdr": 1.0}, "between 0 and 1"),
        ("score", {"min_tissue": 1.1}, "between 0 and 1"),
        ("score", {"origin": "middle"}, "bounds or level0"),
        ("score", {"mpp": 0}, "not plausible"),
        ("tune", {"trials": 0}, "at least 1 trial"),
        ("tune", {"folds": 1}, "at least 2 folds"),
        ("tune", {"criterion": "luck"}, "The criteria are"),
        ("tune", {"magnifications": [30]}, "10, 20 and 40"),
        ("calibrate", {"mpp": 250}, "not plausible"),
        ("evaluate", {"scores": "s.csv", "method": "dpa"}, "brings its own labels"),
        ("evaluate", {"specificities": [2]}, "between 0 and 1"),
    ],
)
def test_wrong_options_are_refused_when_they_are_made(
    verb: str, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        options_of(verb)(**wrong)


def test_a_preset_gives_way_to_what_is_said_beside_it() -> None:
    chosen = options.TileOptions.of("camelyon16", min_tissue=0.9)
    assert (chosen.tile_size, chosen.max_tiles, chosen.min_tissue) == (192, 50, 0.9)
    # Even to a value that is the default otherwise.
    assert options.TileOptions.of("camelyon16", max_tiles=2000).max_tiles == 2000
    with pytest.raises(UsageError, match="camelyon16"):
        options.TileOptions.of("camelyon17")


def test_stain_methods_are_those_that_can_be_fitted() -> None:
    from wsi_anomaly.options.tile import STAINS
    from wsi_anomaly.stain import METHODS

    assert (*METHODS, "none") == STAINS


def test_whole_numbers_and_floats_are_one_setting() -> None:
    assert repr(options.ScoreOptions(stride_um=48, mpp=1)) == repr(
        options.ScoreOptions(stride_um=48.0, mpp=1.0)
    )
    assert repr(options.TileOptions(min_tissue=1)) == repr(options.TileOptions(min_tissue=1.0))

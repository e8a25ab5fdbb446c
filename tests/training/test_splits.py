"""Cases are parted, never split; what is not possible is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.calibration import MIN_CASES
from wsi_anomaly.training.splits import split_cases


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 5000), min_size=1))
def test_every_case_is_in_exactly_one_part_and_some_train(tiles):
    split = split_cases(tiles)
    parts = [*split.train, *split.validation, *split.calibration]
    assert sorted(parts) == sorted(tiles)
    assert split.train
    assert all(case in getattr(split, split.part(case)) for case in tiles)


@given(st.integers(8, 200))
def test_from_eight_cases_on_there_are_enough_for_flags(count):
    split = split_cases({f"case{i}": 100 for i in range(count)})
    assert len(split.calibration) >= MIN_CASES
    assert len(split.validation) >= 1
    assert len(split.train) >= len(split.validation)
    assert split.note == ""


def test_the_choice_depends_on_names_and_seed_alone():
    tiles = {f"case{i}": i + 1 for i in range(20)}
    shuffled = dict(reversed(tiles.items()))
    assert split_cases(tiles) == split_cases(shuffled)
    assert split_cases(tiles) == split_cases(dict.fromkeys(tiles, 7))
    assert split_cases(tiles, seed=1) != split_cases(tiles)


def test_with_two_or_three_cases_all_of_them_teach_and_the_user_is_told():
    for count, words in ((1, "only one case"), (2, "only 2 cases"), (3, "only 3 cases")):
        split = split_cases({f"case{i}": 10 for i in range(count)})
        assert len(split.train) == count
        assert split.calibration == split.validation == ()
        assert words in split.note
        assert "nothing is flagged" in split.note
    assert "too few" in split_cases({f"case{i}": 10 for i in range(4)}).note


@given(st.integers(3, 40), st.integers(0, 5), st.integers(0, 5), st.integers(0, 10))
def test_cases_that_chose_the_configuration_never_calibrate(count, seed, later, new):
    """Whatever seed the later training has, and whatever cases have come since."""
    tiles = {f"case{i}": 10 + i for i in range(count)}
    tuned = split_cases(tiles, seed=seed)
    chose = {*tuned.train, *tuned.validation}
    same = split_cases(tiles, seed=seed, chose=chose)
    assert same.calibration == tuned.calibration
    more = tiles | {f"new{i}": 5 + i for i in range(new)}
    assert not chose & set(split_cases(more, seed=later, chose=chose).calibration)


def test_without_an_untouched_case_there_is_no_calibration_and_the_user_is_told():
    tiles = {f"case{i}": 10 for i in range(9)}
    split = split_cases(tiles, chose=tiles)
    assert split.calibration == ()
    assert "took part in tune" in split.note

"""Counts and names read as a person would say them."""

from wsi_anomaly.core.wording import counted, some


def test_a_count_agrees_with_its_noun():
    assert counted(0, "slide") == "0 slides"
    assert counted(1, "slide") == "1 slide"
    assert counted(1_200, "flagged region") == "1,200 flagged regions"


def test_of_many_names_the_first_are_said():
    assert some(["a", "b"], 3) == "a, b"
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"

"""Which output is whose: no slide takes another's, and one that has changed keeps its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsi_anomaly.core.output_names import MadeOf, name_outputs

MARK_A, MARK_B, MARK_C = "a" * 16, "b" * 16, "c" * 16


class Outputs:
    """A folder of outputs, and slides whose content is a letter."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.content = folder, dict[str, MadeOf](), dict[Path, str]()

    def slide(self, place: str, content: str) -> Path:
        self.content[self.folder / place] = content
        return self.folder / place

    def names(self, *slides: Path) -> list[str]:
        """Name the outputs of a run, and make them."""
        given = name_outputs(
            slides,
            self.made,
            self.made.get,
            self.content.__getitem__,
            digits=16,
            reserved=("kept",),
        )
        self.made |= {given[one]: MadeOf(self.content[one], str(one)) for one in slides}
        return [given[one] for one in slides]


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path)


def test_an_output_bears_the_name_of_its_slide(outputs: Outputs) -> None:
    assert outputs.names(outputs.slide("s.tif", MARK_A), outputs.slide("t.tif", MARK_B)) == [
        "s",
        "t",
    ]
    assert outputs.names(outputs.slide("kept.tif", MARK_A)) == [f"kept-{MARK_A}"]


def test_slides_of_one_name_keep_what_is_theirs_alone_and_together(outputs: Outputs) -> None:
    a, b = outputs.slide("a/s.tif", MARK_A), outputs.slide("b/s.tif", MARK_B)
    assert outputs.names(a, b) == [f"s-{MARK_A}", f"s-{MARK_B}"]
    for run in ((a, b), (b, a), (a,), (b,)):
        assert outputs.names(*run) == [f"s-{outputs.content[one]}" for one in run]


def test_a_slide_that_was_alone_keeps_its_name_when_another_of_that_name_comes(
    outputs: Outputs,
) -> None:
    a, b = outputs.slide("a/s.tif", MARK_A), outputs.slide("b/s.tif", MARK_B)
    assert outputs.names(a) == ["s"]
    assert outputs.names(a, b) == ["s", f"s-{MARK_B}"]


def test_one_of_two_slides_of_one_name_that_changes_keeps_its_output(outputs: Outputs) -> None:
    a, b = outputs.slide("a/s.tif", MARK_A), outputs.slide("b/s.tif", MARK_B)
    before = outputs.names(a, b)
    outputs.slide("a/s.tif", MARK_C)
    assert outputs.names(a, b) == before
    assert set(outputs.made) == set(before)  # none is left behind
    # A slide that is now what the other was then has an output of its own.
    assert outputs.names(outputs.slide("c/s.tif", MARK_A)) == [f"s-{MARK_A}-2"]
    assert outputs.names(a, b, outputs.folder / "c/s.tif") == [*before, f"s-{MARK_A}-2"]


def test_a_slide_that_was_moved_is_known_by_its_content(outputs: Outputs) -> None:
    outputs.names(outputs.slide("a/s.tif", MARK_A), outputs.slide("b/s.tif", MARK_B))
    assert outputs.names(outputs.slide("elsewhere/s.tif", MARK_A)) == [f"s-{MARK_A}"]


def test_copies_of_one_name_share_an_output_until_one_changes(outputs: Outputs) -> None:
    a, b = outputs.slide("a/s.tif", MARK_A), outputs.slide("b/s.tif", MARK_A)
    assert outputs.names(a, b) == [f"s-{MARK_A}"] * 2
    assert outputs.names(a, b) == [f"s-{MARK_A}"] * 2
    outputs.slide("b/s.tif", MARK_B)  # the last of the two is whose it was
    assert outputs.names(a, b) == [f"s-{MARK_A}-2", f"s-{MARK_A}"]


def test_what_some_disks_take_for_one_name_gets_two_outputs(outputs: Outputs) -> None:
    a, b = outputs.slide("a/S.tif", MARK_A), outputs.slide("b/s.tif", MARK_B)
    assert outputs.names(a) == ["S"]
    assert outputs.names(b) == [f"s-{MARK_B}"]


def test_a_changed_slides_output_is_no_other_slides_whose_name_some_disks_take_for_its(
    outputs: Outputs,
) -> None:
    a, b = outputs.slide("a/S.tif", MARK_A), outputs.slide("b/S.tif", MARK_B)
    assert outputs.names(a, b) == [f"S-{MARK_A}", f"S-{MARK_B}"]
    outputs.slide("a/S.tif", MARK_C)
    outputs.names(a)
    assert outputs.names(outputs.slide("c/s.tif", MARK_A)) == [f"s-{MARK_A}-2"]


def test_a_date_in_a_name_is_no_mark_of_another_slide(outputs: Outputs) -> None:
    dated, plain = outputs.slide("s-20240131.tif", MARK_A), outputs.slide("s.tif", MARK_B)
    assert outputs.names(dated) == ["s-20240131"]
    assert outputs.names(dated, plain) == ["s-20240131", "s"]


def test_the_disk_is_asked_once_for_each_slide_and_output(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the slides of a hundred cases have one name: ``case 7/HE.tif``."""
    slides = [outputs.slide(f"case {i}/HE.tif", f"{i:016x}") for i in range(100)]
    before = outputs.names(*slides)
    asked, real = [], os.lstat
    monkeypatch.setattr(os, "lstat", lambda *given, **more: asked.append(1) or real(*given, **more))
    assert outputs.names(*slides) == before
    assert len(asked) <= 2 * 100 * len(outputs.folder.joinpath("case 7/HE.tif").parts)

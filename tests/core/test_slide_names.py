"""Which slide a name in a table means."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.slide_names import Entry, match, read_cases, read_pixel_sizes

A, B = Path("study/a/s1.tif"), Path("study/b/s1.tif")


def meant(name: str, *slides: Path, aliases: tuple[str, ...] = ()) -> Path | None:
    values = match("t.csv", [Entry(name, "x", 1)], slides, aliases).by(slides)
    return next(iter(values), None)


@pytest.mark.parametrize(
    "name",
    [
        "a/s1.tif", "a/s1", "study/a/s1.tif", "./study/a/s1", "../a/s1.tif", "study\\a\\s1.tif",
        "a//s1.tif", str(A.absolute()), str(A.absolute().with_suffix("")),
    ],
)  # fmt: skip
def test_the_end_of_a_path_with_or_without_suffix_means_its_slide(name: str) -> None:
    assert meant(name, A, B) == A


def test_a_file_name_alone_means_a_slide_as_long_as_it_is_the_only_one() -> None:
    assert meant("s1", A) == meant("s1.tif", A) == A
    assert meant("1.tif", A) is None  # the end of a name is no name
    assert meant("S1.tif", A) is None
    assert meant("s1.svs", A) is None
    for name in ("s1", "s1.tif"):
        with pytest.raises(UsageError) as raised:
            meant(name, A, B)
        assert str(raised.value) == (
            f"t.csv, line 1, names the slide {name}, which could be {A} or {B}; write its folder "
            "too."
        )


def test_the_very_path_or_file_name_of_a_slide_comes_first() -> None:
    here, below = Path("s1.tif"), Path("a/s1.tif")
    assert meant("s1.tif", here, below) == here  # as it was given
    assert meant("a/s1.tif", here, below) == below
    folder, file = Path("a/s1"), Path("b/s1.tif")  # a DICOM slide is a folder
    assert meant("s1", folder, file) == folder
    assert meant("s1.tif", folder, file) == file
    with pytest.raises(UsageError, match=r"could be a/x\.svs or b/x\.tif"):
        meant("x", Path("a/x.svs"), Path("b/x.tif"))


def test_addresses_and_names_from_other_systems() -> None:
    remote = Path("s3://bucket/a/s1.svs")
    for name in ("s3://bucket/a/s1.svs", "bucket/a/s1", "s1.svs"):
        assert meant(name, remote, B) == remote
    composed, decomposed = "M\u00fcller.svs", "Mu\u0308ller.svs"
    assert meant(composed, Path(decomposed)) == Path(decomposed)


def test_another_name_of_a_slide_counts_as_its_name_without_suffix() -> None:
    assert meant("s1-0badcafe", A, B, aliases=("s1", "s1-0badcafe")) == B
    with pytest.raises(UsageError, match="write its folder too"):
        meant("s1", A, B, aliases=("s1", "s1-0badcafe"))


def test_two_lines_of_one_slide_may_say_the_same_only(tmp_path: Path) -> None:
    table = tmp_path / "sizes.csv"
    table.write_text("slide,mpp\ns1,0.5\na/s1.tif,0.50\n")
    assert read_pixel_sizes(table, [A]).by([A]) == {A: 0.5}
    table.write_text("slide,mpp\ns1.tif,0.5\n\ns1.tif,0.25\n")
    with pytest.raises(UsageError) as raised:
        read_pixel_sizes(table, [A])
    assert str(raised.value) == (
        f"{table}, lines 2 and 4, give {A} two values, as s1.tif and as s1.tif; keep one of them."
    )


def test_what_does_not_match_is_said(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("a/s1,7\nc/s1,8\nc/s2,9\n")
    cases = read_cases(table, [A, B])
    assert cases.values == ("7", None)
    assert cases.mismatches("--cases", ["a", "b"], "it stands alone") == [
        "--cases names what is not among the slides: c/s1, c/s2.",
        "--cases does not name 1 of 2 slides (b); it stands alone.",
    ]
    assert read_cases(table, [B]).mismatches("--cases", ["b"])[1:] == [
        "--cases names none of the slides, so it has no effect."
    ]


@pytest.mark.parametrize("text", ["a,250\n", "a,0\n", "slide,mpp\na,nan\n"])
def test_a_pixel_size_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sizes.csv").write_text(text)
    with pytest.raises(UsageError, match=r"line \d, gives a '.*' um per pixel, which is not plaus"):
        read_pixel_sizes(tmp_path / "sizes.csv", [A])


part = st.text("ab.", min_size=1, max_size=3).filter(lambda text: text.strip("."))
paths = st.lists(
    st.lists(part, min_size=1, max_size=4).map(lambda parts: Path(*parts)),
    min_size=1, max_size=6, unique=True,
)  # fmt: skip


@given(paths, st.data())
def test_a_name_means_a_slide_that_it_ends_or_is_refused(slides: list[Path], data) -> None:
    slide = data.draw(st.sampled_from(slides))
    end = data.draw(st.integers(1, len(slide.parts)))
    name = "/".join(slide.parts[-end:])
    if data.draw(st.booleans()):
        name = str(PurePosixPath(name).with_suffix(""))
    with contextlib.suppress(UsageError):  # which says what else it could be
        found = meant(name, *slides)
        assert found is not None
        whole = found.absolute()
        assert any(f"/{path}".endswith(f"/{name}") for path in (whole, whole.with_suffix("")))


@given(paths)
def test_the_path_that_was_given_always_means_its_slide(slides: list[Path]) -> None:
    entries = [Entry(str(slide), k, k + 1) for k, slide in enumerate(slides)]
    matched = match("t.csv", entries, slides)
    assert matched.values == tuple(range(len(slides)))
    assert matched.unknown == ()

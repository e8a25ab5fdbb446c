"""Tables as people, spreadsheets and other programs save them, and as they get ours back."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_anomaly.core import tables
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.tables import own_rows, read_table, table_text

COLUMNS = ("slide", "mpp")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORD = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="'\ufeff"), min_size=1
).map(lambda text: text.strip() or "x")


def written(folder: Path, data: bytes | str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def pairs(path: Path) -> list[tuple[str, float]]:
    rows = read_table(path, COLUMNS, is_data=lambda first: len(first) == 2)
    return [(row["slide"], row.number("mpp")) for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "slide,mpp\na.svs,0.25\nb c.svs,1\n",
        "slide;mpp\na.svs;0,25\nb c.svs;1\n",
        "slide\tmpp\na.svs\t0,25\nb c.svs\t1\n",
        'slide,mpp\na.svs,"0,25"\n"b c.svs",1\n',
        'slide , mpp\n\n a.svs , "0,25"\n \nb c.svs,1.0',
        "MPP,Comment,Slide\r\n0.25,,a.svs\r\n1e0,an old scan,b c.svs\r\n",
        "slide;mpp;;\ra.svs;.25;;\rb c.svs;1,0;;\r",
        "a.svs,0.25\nb c.svs,1\n",
        "a.svs;0,25\nb c.svs;1\n",
        "a.svs\t0,25\nb c.svs\t1\n",
    ],
)
def test_delimiters_decimal_commas_quotes_and_headers_say_the_same(
    tmp_path: Path, text: str
) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        path = written(tmp_path, text.encode(encoding))
        assert pairs(path) == [("a.svs", 0.25), ("b c.svs", 1.0)]


def test_names_from_an_older_spreadsheet_keep_their_letters(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"):
        path = written(tmp_path, "slide;mpp\nLeber-Ü 5µm.svs;0,5\n".encode(encoding))
        assert pairs(path) == [("Leber-Ü 5µm.svs", 0.5)]


def test_another_delimiter_in_a_name_does_not_part_it(tmp_path: Path) -> None:
    assert pairs(written(tmp_path, "a;b.svs,0.25\nc.svs,0.5\n")) == [
        ("a;b.svs", 0.25),
        ("c.svs", 0.5),
    ]
    assert pairs(written(tmp_path, "slide;mpp\na,b.svs;0,25\n")) == [("a,b.svs", 0.25)]
    assert pairs(written(tmp_path, 'slide,mpp\n"a, ""b"".svs",0.25\n')) == [('a, "b".svs', 0.25)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no lines of slide,mpp; add them."),
        ("slide,mpp\n\n , \n", "holds no lines of slide,mpp; add them."),
        ("slide\na\n", "should begin with the line slide,mpp, not 'slide'; add or rename columns."),
        ("slide,mpp,mpp\na,1,2\n", "has two columns mpp; keep one of them."),
        ("slide,mpp\na,0.25\n\nb\n", ", line 4, should give slide,mpp, not 'b'; mend or quote"),
        ("slide,mpp\na,0,25\n", ", line 2, should give slide,mpp, not 'a,0,25'; mend or quote"),
        ("slide,mpp\na,\n", ", line 2, gives no mpp; fill it in."),
        ("slide,group,mpp\n,,\n,x,\n", ", line 3, gives no slide and no mpp; fill it in."),
        ("slide,mpp\na,fine\n", ", line 2, gives the mpp as 'fine', which is no number; mend it."),
        ("slide,mpp\na,1_0\n", ", line 2, gives the mpp as '1_0', which is no number; mend it."),
        ("slide,mpp\na,1e999\n", ", line 2, gives the mpp as '1e999', which is no number"),
        ('slide,mpp\na,"1,000"\n', ", line 2, gives the mpp as '1,000', whose comma may part tho"),
        ('slide,mpp\n"a\nb",1\nc,\n', ", line 4, gives no mpp; fill it in."),
        ('slide,mpp\na,1\n"b"c,2\n', "(',' expected after '\"' in line 3); mend the quotes there."),
        ('slide,mpp\na,1\n"b,2\nc,3\n', "as a table (unexpected end of data in line 3)"),
    ],
)
def test_a_fault_is_one_sentence_with_file_line_and_remedy(
    tmp_path: Path, text: str, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        pairs(path)
    assert str(raised.value).startswith(f"{path}")
    assert said in str(raised.value)
    assert raised.value.exit_code == 2


def test_between_semicolons_a_comma_is_a_decimal_one(tmp_path: Path) -> None:
    assert pairs(written(tmp_path, "slide;mpp\na;1,000\nb;nan\n"))[0] == ("a", 1.0)
    assert math.isnan(pairs(written(tmp_path, "slide,mpp\na,NaN\n"))[0][1])


def test_what_is_no_table_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"none\.csv cannot be read \(No such file or directory\)"):
        pairs(tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        pairs(tmp_path)
    for data in (b"PK\x03\x04\x00\x00sheet", b"\xff\xfea", b"a\0b,1"):
        with pytest.raises(UsageError, match=r"is no text.*save the table as CSV"):
            pairs(written(tmp_path, data))
    monkeypatch.setattr(tables, "MOST_BYTES", 2_000_000)
    with pytest.raises(UsageError, match="larger than 2 MB, too large for a table of slide,mpp"):
        pairs(written(tmp_path, "a,1\n" * 500_001))


def test_columns_that_a_table_may_have_are_filled_in_too(tmp_path: Path) -> None:
    rows = read_table(written(tmp_path, "slide,x,mpp\na,3,1\n"), COLUMNS, ("x", "y"))
    assert rows[0].number("x") == 3
    assert "y" not in rows[0].layout.columns
    with pytest.raises(UsageError, match="line 2, gives no x; fill it in"):
        read_table(written(tmp_path, "slide,x,mpp\na,,1\n"), COLUMNS, ("x", "y"))


@given(
    rows=st.lists(st.tuples(WORD, st.floats(0.01, 20)), min_size=1, max_size=5),
    delimiter=st.sampled_from([",", ";", "\t"]),
    comma=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_names_and_numbers_are_read_as_they_are_meant(
    tmp_path: Path,
    rows: list[tuple[str, float]],
    delimiter: str,
    comma: bool,
    encoding: str,
    end: str,
) -> None:
    lines = [f"slide{delimiter}mpp"]
    for name, value in rows:
        number = f"{value:.4f}".replace(".", "," if comma else ".")
        quoted = name.replace('"', '""')
        lines.append(f'"{quoted}"{delimiter}"{number}"')
    path = written(tmp_path, end.join(lines).encode(encoding))
    found = pairs(path)
    assert [name for name, _ in found] == [name for name, _ in rows]
    assert [v for _, v in found] == [pytest.approx(value, abs=1e-4) for _, value in rows]


@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_a_sentence(tmp_path: Path, data: bytes) -> None:
    for start in (b"", b"slide,mpp\n", b"slide;mpp\n"):
        with contextlib.suppress(UsageError):
            assert pairs(written(tmp_path, start + data))


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=5))
def test_what_is_written_comes_back_whatever_it_is(
    tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    path = written(tmp_path, table_text(("a", "b", "c"), rows))
    assert [tuple(row.values()) for row in own_rows(path, ("a", "b", "c"))] == rows
    assert own_rows(path, ("a", "b")) == []


@given(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=5))
def test_what_is_written_can_be_given_as_a_table(
    tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    path = written(tmp_path, table_text(("slide", "case"), rows))
    found = read_table(path, ("slide", "case"))
    assert [(row["slide"], row["case"]) for row in found] == rows


def test_cells_that_are_empty_and_numbers_are_written_plainly(tmp_path: Path) -> None:
    text = table_text(("a", "b"), [(None, -1.5), ("=1+1", True), ("'=x", "'x")])
    assert text == "a,b\n,-1.5\n'=1+1,True\n''=x,'x\n"
    assert own_rows(tmp_path / "none.csv", ("a", "b")) == []
    assert own_rows(written(tmp_path, b"a,b\n\xff,1\n"), ("a", "b")) == []
    assert own_rows(written(tmp_path, "a,b\n1\n"), ("a", "b")) == []

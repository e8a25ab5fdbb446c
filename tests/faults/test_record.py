"""The tables say what the records say, and the records say that nothing was lost."""

from __future__ import annotations

import pytest
from recording import Tally
from table import (
    END,
    FUZZ_END,
    FUZZ_PAGE,
    FUZZ_START,
    PAGE,
    RECORDS,
    START,
    between,
    fuzz_table,
    read_records,
    table,
)


def test_the_page_shows_the_records_and_nothing_was_lost() -> None:
    records = read_records()
    assert records
    page = PAGE.read_text()
    assert between(page, START, END, table(records)) == page
    assert [record["lost"] for record in records] == [[]] * len(records)
    killed = [r for r in records if "at a random moment" in r["fault"]]
    assert len(killed) == 3
    assert all(record["tried"] >= 20 for record in killed)


def test_the_fuzzing_is_that_of_the_record() -> None:
    import json

    page = FUZZ_PAGE.read_text()
    records = json.loads((RECORDS.parent / "fuzz.json").read_text())
    assert between(page, FUZZ_START, FUZZ_END, fuzz_table(records)) == page


def test_what_does_not_hold_is_counted_and_fails(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FAULTS_RECORD", str(tmp_path))
    tally = Tally("x", "a fault", "a promise")
    for number in range(3):
        with tally.attempt(f"try {number}"):
            assert number != 1, "it broke"
    with pytest.raises(AssertionError, match=r"1 of 3 lost\ntry 1: it broke"):
        tally.finish()
    assert '"survived": 2' in (tmp_path / "x.json").read_text()

"""Write the tables of ``docs/reliability.md`` and ``SECURITY.md`` from what was recorded.

``make faults`` and ``make fuzz`` leave the records in ``docs/results``.

Run ``python tests/faults/table.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = REPOSITORY / "docs" / "results" / "faults"
PAGE = REPOSITORY / "docs" / "reliability.md"
START = "<!-- faults: written by python tests/faults/table.py -->"
END = "<!-- end of the faults -->"
FUZZ_RECORD = REPOSITORY / "docs" / "results" / "fuzz.json"
FUZZ_PAGE = REPOSITORY / "SECURITY.md"
FUZZ_START = "<!-- fuzz: written by python tests/faults/table.py -->"
FUZZ_END = "<!-- end of the fuzzing -->"


def table(records: list[dict[str, Any]]) -> str:
    """One row a fault, Markdown; what they ran on below."""
    lines = [
        "| what was done | what had to hold | tried | survived | lost | how it went |",
        "|---|---|---:|---:|---:|---|",
    ]
    for r in records:
        went = "; ".join(f"{text}: {number}" for text, number in r["outcomes"].items())
        lines.append(
            f"| {r['fault']} | {r['promise']} | {r['tried']} | {r['survived']} | {len(r['lost'])} "
            f"| {went} |"
        )
    tried, survived, lost = totals(records)
    lines.append(f"| **all** | | **{tried}** | **{survived}** | **{lost}** | |")
    for text in sorted({_where(r) for r in records}):
        lines += ["", text]
    return "\n".join(lines)


def totals(records: list[dict[str, Any]]) -> tuple[int, int, int]:
    """How often something was tried, survived and lost, in all."""
    tried, survived = (sum(r[k] for r in records) for k in ("tried", "survived"))
    return tried, survived, sum(len(r["lost"]) for r in records)


def _where(r: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in r["libraries"].items())
    return f"{r['date']}, {r['program']}, Python {r['python']}, {r['system']}; {libraries}."


def fuzz_table(records: list[dict[str, Any]]) -> str:
    """One row a parser, Markdown."""
    lines = ["| parser | executions | seconds | findings |", "|---|---:|---:|---|"]
    lines += [
        f"| `{r['parser']}` | {r['executions']:,} | {r['seconds']} | {r['found'] or 'none'} |"
        for r in records
    ]
    total = sum(r["executions"] for r in records), sum(r["seconds"] for r in records)
    lines.append(f"| **all** | **{total[0]:,}** | **{total[1]}** | |")
    dates = ", ".join(sorted({r["date"] for r in records}))
    return "\n".join(
        [
            *lines,
            "",
            f"{dates}, one core; each run after what it had found before was mended.",
        ]
    )


def between(page: str, start: str, end: str, text: str) -> str:
    """Put a text between two marks of a page."""
    before, rest = page.split(start)
    return f"{before}{start}\n\n{text}\n\n{end}{rest.split(end)[1]}"


def read_records() -> list[dict[str, Any]]:
    """All records, by name."""
    return [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]


if __name__ == "__main__":
    records = read_records()
    PAGE.write_text(between(PAGE.read_text(), START, END, table(records)))
    print("{} tried, {} survived, {} lost".format(*totals(records)))
    if FUZZ_RECORD.exists():
        found = fuzz_table(json.loads(FUZZ_RECORD.read_text()))
        FUZZ_PAGE.write_text(between(FUZZ_PAGE.read_text(), FUZZ_START, FUZZ_END, found))
